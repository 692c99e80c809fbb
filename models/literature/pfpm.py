"""Mondal and Shrivastava [40]: the activation PFpM in five known networks, and their own BMRI-Net."""

from __future__ import annotations

from typing import Any

from models.literature.system import Figure, Own, Publication, System

_CITATION = (
    "A. Mondal, V. K. Shrivastava: A novel Parametric Flatten-p Mish activation function based deep CNN model for "
    "brain tumor classification. Computers in Biology and Medicine 150, 106183, 2022"
)
_HOLD_OUT = "hold-out by image, one network"
_CHOSEN = (
    "p starts at 0, one for a layer (`+pfpm-one`, `+pfpm-neuron` are the other readings that public copies show); "
    "the training recipe is the protocol's"
)
_PRINTED = "Table 3 cites [39] in its caption; its rows are of [40]."


def _swapped(name: str, backbone: str, head: Any, row: str, accuracy: float, *doubts: str) -> System:
    publication = Publication(
        reference="[40]",
        citation=_CITATION,
        figures=(Figure("Br35H", accuracy, _HOLD_OUT),),
        known="the network, and that PFpM stands in place of its activations",
        chosen=_CHOSEN,
        sureness="the published network",
        table=3,
        row=row,
        doubts=(_PRINTED, *doubts),
    )
    return System(name, f"{backbone} with the activation PFpM", publication, backbone, head, "pfpm")


def bmri_net_backbone() -> Any:
    """Four blocks of convolution, BatchNorm, activation and maximum: [N, 3, H, W] -> [N, 256, H/16, W/16]."""
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 64), (64, 128), (128, 256)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


_BMRI_NET = Publication(
    reference="[40]",
    citation=_CITATION,
    figures=(
        Figure("Br35H", 99.00, _HOLD_OUT),
        Figure("Br35H", 98.33, "five folds by image"),
        Figure("figshare", 99.57, "hold-out by record, one network"),
        Figure("figshare", 98.45, "five folds by record"),
        Figure("figshare", 97.91, "hold-out by subject, one network"),
        Figure("figshare", 97.26, "five folds by subject"),
    ),
    known="a plain CNN with PFpM as its activation",
    chosen="the layers: the table of them is not to be had here. Four blocks of convolution 3 x 3, BatchNorm, PFpM and "
    f"maximum over 2 x 2, of 32 to 256 channels, a global average and one linear layer; {_CHOSEN}",
    sureness="largely chosen here",
    table=3,
    row="BMRI-Net",
    doubts=(
        _PRINTED,
        "On figshare its authors' own figures fall by 1.2 to 1.7 points from a split by record to one by subject.",
    ),
)

SYSTEMS = (
    _swapped(
        "pfpm-mobilenet_v2",
        "mobilenet_v2",
        "published",
        "MobileNetV2 + PFpM (printed as Random)",
        95.44,
        "Table 3 prints “Random” where [40] has MobileNetV2 with PFpM.",
    ),
    _swapped("pfpm-inception_v3", "inception_v3", "published", "Inception-V3 + PFpM", 91.44),
    _swapped("pfpm-densenet201", "densenet201", "linear", "DenseNet201 + PFpM", 92.11),
    System("bmri-net", "a plain CNN with PFpM", _BMRI_NET, Own(256, bmri_net_backbone, 32), activation="pfpm"),
    _swapped("pfpm-resnet50", "resnet50", "linear", "ResNet50 + PFpM", 93.56),
    _swapped("pfpm-vgg19", "vgg19", "published", "VGG19 + PFpM", 92.87),
)
