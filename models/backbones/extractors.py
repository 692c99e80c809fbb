"""Feature extractors: torchvision's and timm's classifiers without the classifier, image -> map [N, C, h, w].

Parameters keep the names that they have in the library's own model, so that its weight files load.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from models.baselines import CLASSIFIER_PARTS


def torchvision_model(name: str, **options: Any) -> nn.Module:
    """A classification model of torchvision with random weights, without auxiliary classifiers."""
    # These two would warn about their slow initialization.
    quiet = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, **quiet, **options)
    return model


class ConvolutionalExtractor(nn.Module):
    """The children of a torchvision model, run one after another up to the classifier.

    What stands behind the map is `models.heads.published.PublishedHead`.

    Args:
        model: a torchvision classification model other than a vision transformer.
        final_relu: DenseNet applies a ReLU in `forward` that is none of its children.
    """

    def __init__(self, model: nn.Module, final_relu: bool = False) -> None:
        super().__init__()
        self.final_relu = final_relu
        for name, part in model.named_children():
            if name not in CLASSIFIER_PARTS:
                self.add_module(name, part)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to features [N, C, h, w]."""
        for part in self.children():
            for step in part if isinstance(part, nn.ModuleList) else (part,):
                images = step(images)
        return F.relu(images) if self.final_relu else images

    def use_final_layer(self, activation: nn.Module) -> None:
        """Let a layer, run as the last child, take the place of DenseNet's ReLU."""
        self.final_relu = False
        self.add_module("final_activation", activation)


class TransformerExtractor(nn.Module):
    """A vision transformer whose class token is the map: [N, C, 1, 1].

    The class token is what torchvision's own classifier reads, so that with the plain linear head the baseline is the
    published model exactly, and it is what the pretrained weights were trained to fill; the last layer's patch tokens
    never entered their loss. The price: on a map of one position average and maximum pooling are the same.

    Any image whose sides are multiples of the patch is accepted: position embeddings are resampled bicubically, the way
    of torchvision's `interpolate_embeddings`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.class_token = model.class_token
        self.conv_proj = model.conv_proj
        self.encoder = model.encoder
        self.channels: int = model.hidden_dim
        self.patch_size: int = model.patch_size
        self._grid_side: int = model.image_size // model.patch_size

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to class tokens [N, C, 1, 1]."""
        patches = self.conv_proj(images)
        height, width = patches.shape[2:]
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens + self._positions(height, width)
        tokens = self.encoder.ln(self.encoder.layers(self.encoder.dropout(tokens)))
        class_tokens: Tensor = tokens[:, 0, :, None, None]
        return class_tokens

    def _positions(self, height: int, width: int) -> Tensor:
        positions: Tensor = self.encoder.pos_embedding
        side = self._grid_side
        if height == width == side:
            return positions
        grid = positions[:, 1:].transpose(1, 2).reshape(1, self.channels, side, side)
        grid = F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=True)
        return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


class TimmExtractor(nn.Module):
    """A timm model's `forward_features`, brought to [N, C, h, w].

    Maps with channels last are permuted; token sequences are pooled the way the model itself does it, to [N, C, 1, 1].
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to features [N, C, h, w]."""
        features: Tensor = self.model.forward_features(images)
        if features.ndim == 4 and features.shape[1] == self.model.num_features:
            return features
        if features.ndim == 4:
            return features.permute(0, 3, 1, 2)
        pooled: Tensor = self.model.forward_head(features, pre_logits=True)
        return pooled[:, :, None, None]
