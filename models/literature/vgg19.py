"""Swati et al. [35] and Sajjad et al. [33]: VGG-19, fine-tuned."""

from __future__ import annotations

from models.literature.system import Figure, Publication, System

_SWATI = Publication(
    reference="[35]",
    citation="Z. N. K. Swati et al.: Brain tumor classification for MR images using transfer learning and fine-tuning. "
    "Computerized Medical Imaging and Graphics 75, 34-46, 2019",
    figures=(Figure("figshare", 94.82, "five folds, one network a fold; by image or by patient is not known here"),),
    known="VGG-19 unaltered, min-max preprocessing, fine-tuned block by block from the last backwards, six blocks",
    chosen="epochs and rates of a block: the protocol's; min-max preprocessing: 0-1 pixels in the weights' scale",
    sureness="the published network",
    table=2,
    row="VGG19 with alterations (block-wise fine-tuning) [35]",
    doubts=("Table 2 says “VGG19 with alterations” of [35]; its architecture is the unaltered VGG-19.",),
)
_SAJJAD = Publication(
    reference="[33]",
    citation="M. Sajjad, S. Khan, K. Muhammad, W. Wu, A. Ullah, S. W. Baik: Multi-grade brain tumor classification "
    "using deep CNN with extensive data augmentation. Journal of Computational Science 30, 174-182, 2019",
    figures=(Figure("figshare", 94.58, "one network, on segmented tumours; the split is not known here"),),
    known="the tumour is segmented first and VGG-19 fine-tuned on the region; each image becomes 30 by rotation, flip, "
    "skew, shear, blur, sharpening, edges and emboss, which raised sensitivity from 84.51 to 88.41 and specificity "
    "from 93.34 to 96.12",
    chosen="on figshare-brain the whole slice is classified; on figshare-brain-regions a square around the data "
    "set's own outline, in place of the segmentation. The augmentation's eight families are the publication's, their "
    "30 parameters' values are not known here and were chosen; each image gets one of the 30 anew in every "
    "epoch, in place of 30 stored copies (`augmentation = auto`)",
    sureness="by its description",
    table=2,
    row="VGG19 with significant data enhancement [33]",
    doubts=(
        "[33] classifies segmented tumours, which the paper does not say; ours sees the whole slice on figshare-brain, "
        "and hand-drawn regions on figshare-brain-regions.",
    ),
)

SYSTEMS = (
    System("sajjad-vgg19", "VGG-19, thirtyfold augmentation", _SAJJAD, "vgg19", "published", augmentation="thirtyfold"),
    System("swati-vgg19", "VGG-19 fine-tuned block by block", _SWATI, "vgg19", "published", recipe="blockwise"),
)
