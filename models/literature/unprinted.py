"""Systems that the paper cites but gives no row: Alshayeji et al. [37] and Emam et al. [39]."""

from __future__ import annotations

from typing import Any

from models.literature.system import Figure, Own, Publication, System


def two_paths() -> Any:
    """Two convolutional paths side by side, kernels 3 and 5: [N, 3, H, W] -> [N, 256, H/16, W/16]."""
    from models.backbones.parallel import TwoPaths

    return TwoPaths()


_ALSHAYEJI = Publication(
    reference="[37]",
    citation="M. Alshayeji, J. Al-Buloushi, A. Ashkanani, S. Abed: Enhanced brain tumor classification using an "
    "optimized multi-layered convolutional neural network architecture. Multimedia Tools and Applications 80, "
    "28897-28917, 2021",
    figures=(Figure("figshare", 97.37, "from memory, unverified; the protocol is not known here"),),
    known="two parallel convolutional paths, concatenated; hyper-parameters by Bayesian optimization",
    chosen="the layers and all hyper-parameters: four blocks a path, kernels of 3 and of 5, 16 to 128 channels. "
    "`bench sweep alshayeji-cnn` is a Bayesian optimization (TPE) of its training",
    sureness="largely chosen here",
    foot=2,
    doubts=(
        "[37] has no row of its own: its number stands behind [38]'s. Its 97.37 is from memory and was not checked "
        "against the publication.",
    ),
)
_EMAM = Publication(
    reference="[39]",
    citation="M. M. Emam, N. A. Samee, M. M. Jamjoom, E. H. Houssein: Optimized deep learning architecture for brain "
    "tumor classification using improved Hunger Games Search Algorithm. Computers in Biology and Medicine 160, 106966, "
    "2023",
    figures=(),
    known="ResNet50, hyper-parameters by an improved Hunger Games search",
    chosen="the hyper-parameters: what the search found is not known here, so they are the protocol's; `bench sweep "
    "emam-resnet50` searches them, by another algorithm",
    sureness="by its description",
    foot=3,
    doubts=("[39], a ResNet50 and no DenseNet121, stands in table 3's caption alone, where [40] is meant.",),
)

SYSTEMS = (
    System("alshayeji-cnn", "two parallel convolutional paths", _ALSHAYEJI, Own(256, two_paths, 32)),
    System("emam-resnet50", "ResNet-50, the search's result unknown", _EMAM, "resnet50"),
)
