"""torchvision's own classifiers as heads: what stands behind a network's feature map, with a new last layer.

A baseline is the network as it was published. Where its classifier is more than a global average and one linear layer
(VGG's dense layers, SqueezeNet's convolution, MobileNetV3's hidden layer, a LayerNorm, a Dropout), that classifier is
the head. With pretrained weights it is loaded too, all but the last layer; with `tuning = head` the feature extractor
is frozen and the whole classifier is trained, from those weights.
"""

from __future__ import annotations

import functools
from collections import OrderedDict

from torch import Tensor, nn

from models.activations import PFpM
from models.backbones.extractors import torchvision_model
from models.backbones.probe import build_without_memory
from models.heads.config import HeadSpec, LinearHeadConfig, PublishedHeadConfig

# The parts that torchvision's `forward` runs behind the feature map, in its order; a model has some of them.
_STEPS = ("dropout", "classifier", "fc", "heads", "head")


class PublishedHead(nn.Sequential):
    """A torchvision model's classifier: map [N, C, h, w], of any floating type, to logits [N, k].

    Parameters have the names that they have in torchvision's model.
    """

    def __init__(self, model: nn.Module) -> None:
        parts = dict(model.named_children())
        steps = {name: parts[name] for name in _STEPS if name in parts}
        # These two kinds of layers say that the classifier takes maps and flattens them itself.
        takes_maps = any(
            isinstance(layer, (nn.Conv2d, nn.Flatten)) for step in steps.values() for layer in step.modules()
        )
        pool = parts.get("avgpool", nn.Identity() if takes_maps else nn.AdaptiveAvgPool2d(1))
        flatten = nn.Identity() if takes_maps else nn.Flatten()
        super().__init__(OrderedDict(avgpool=pool, flatten=flatten, **steps))

    def forward(self, feature_map: Tensor) -> Tensor:
        """Map [N, C, h, w] to logits [N, k]."""
        values = feature_map.to(next(self.parameters()).dtype)
        for step in self:
            values = step(values)
        return values.flatten(1)

    @property
    def layers(self) -> dict[str, nn.Module]:
        """The layers that do something, by name, in the order in which they run."""
        leaves = {name: layer for name, layer in self.named_modules() if not any(layer.children())}
        return {name: layer for name, layer in leaves.items() if not isinstance(layer, (nn.Identity, nn.Flatten))}

    @property
    def last_layer(self) -> str:
        """The name of the layer that is new: the last one with weights to learn."""
        return [name for name, layer in self.layers.items() if isinstance(layer, (nn.Linear, nn.Conv2d))][-1]

    @property
    def published(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name of the tensors that are the published ones: all but the last layer's and a swapped PFpM's."""
        own = [self.last_layer, *(name for name, layer in self.named_modules() if isinstance(layer, PFpM))]
        ours = tuple(f"{name}." for name in own)
        return {name: tuple(value.shape) for name, value in self.state_dict().items() if not name.startswith(ours)}

    def load_published(self, tensors: dict[str, Tensor]) -> None:
        """Take the published layers from a state dict of the whole network; the last layer stays as it is."""
        self.load_state_dict({name: tensors[name] for name in self.published}, strict=False)


def published_head(name: str) -> HeadSpec:
    """The head of a torchvision model's baseline: the plain linear one where its classifier is just that."""
    *before, last = without_memory(name).layers.values()
    plain = all(_is_global_average(layer) for layer in before) and isinstance(last, nn.Linear) and last.bias is not None
    return LinearHeadConfig() if plain else PublishedHeadConfig(name)


@functools.cache
def without_memory(name: str) -> PublishedHead:
    """A torchvision model's classifier, without values."""
    head = build_without_memory(lambda: PublishedHead(torchvision_model(name)))
    assert isinstance(head, PublishedHead)
    return head


def layers_in_words(name: str) -> tuple[str, ...]:
    """The layers of a torchvision model's classifier before its last one, a word or three each."""
    head = without_memory(name)
    return tuple(_words(layer) for key, layer in head.layers.items() if key != head.last_layer)


def _is_global_average(layer: nn.Module) -> bool:
    return isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1))


def _words(layer: nn.Module) -> str:
    if isinstance(layer, nn.Linear):
        return f"Linear {layer.in_features}-{layer.out_features}"
    return "avg" if _is_global_average(layer) else type(layer).__name__
