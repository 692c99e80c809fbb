"""El-Wahab et al. [38]: BTC-fCNN, 13 small layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from models.literature.system import Figure, Own, Publication, System


def backbone() -> Any:
    """Four times convolution 3 x 3, convolution 1 x 1, average over 2 x 2: [N, 3, H, W] -> [N, 128, H/16, W/16]."""
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv2d(outputs, outputs, 1), nn.ReLU()]
        layers.append(nn.AvgPool2d(2))
    return nn.Sequential(*layers)


_PUBLICATION = Publication(
    reference="[38]",
    citation="B. S. A. El-Wahab, M. E. Nasr, S. Khamis, A. S. Ashour: BTC-fCNN: Fast Convolution Neural Network for "
    "Multi-class Brain Tumor Classification. Health Information Science and Systems 11, 3, 2023",
    figures=(Figure("figshare", 98.63, "transfer learning repeated on its own weights; the split is not known here"),),
    known="13 layers: convolutions, 1 x 1 convolutions, average pooling, one dense layer, softmax; few parameters",
    chosen="the layers' sizes: the table of them is not to be had here. Four times (3 x 3, 1 x 1, average over 2 x 2) "
    "of 16 to 128 channels, and the dense layer on a global average, makes 13 without the softmax; one fit",
    sureness="by its description",
    table=2,
    row="BTC-fCNN with re-training [printed as 37; the BTC-fCNN paper is 38]",
    doubts=(
        "Table 2 prints [37] behind BTC-fCNN; the BTC-fCNN paper is [38].",
        "The printed 98.86 of [38] carries weights from fold to fold, so that each fold's test images were trained on; "
        "without that [38] gives 98.63.",
    ),
)
_FOLDED = replace(
    _PUBLICATION,
    figures=(Figure("figshare", 98.86, "five folds, weights carried from fold to fold: test images were trained on"),),
    chosen="the layers' sizes, as of btc-fcnn; the protocol's epochs are shared by the folds; a cell is the last of "
    "five folds, with its own test set, and the four before it are cut from its other images by groups",
)
_OWN = Own(128, backbone, 32)

SYSTEMS = (
    System("btc-fcnn", "13 small layers, one fit", _PUBLICATION, _OWN),
    System(
        "btc-fcnn-folded",
        "the same, weights carried from fold to fold",
        _FOLDED,
        _OWN,
        recipe="folded",
        options={"folds": 5},
        caution="test images were trained on, fold by fold",
    ),
)
