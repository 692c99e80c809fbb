"""BatchNorm turned into GroupNorm, which keeps no statistics."""

from __future__ import annotations

from collections.abc import Container

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

LARGEST = 8


def to_group_norm(module: nn.Module, only: Container[str] | None = None, name: str = "") -> nn.Module:
    """Replace each BatchNorm by a GroupNorm of at most `LARGEST` groups that starts from its weight and bias.

    Args:
        only: the names of the layers that are replaced, as `named_modules` has them; None for all.
        name: the module's own name in what the names are relative to.
    """
    if isinstance(module, _BatchNorm):
        return _group_norm(module) if only is None or name in only else module
    for child_name, child in module.named_children():
        setattr(module, child_name, to_group_norm(child, only, f"{name}.{child_name}" if name else child_name))
    return module


def group_norm_names(module: nn.Module) -> list[str]:
    """The names of the module's GroupNorms."""
    return [name for name, layer in module.named_modules() if isinstance(layer, nn.GroupNorm)]


def _group_norm(layer: _BatchNorm) -> nn.GroupNorm:
    channels = layer.num_features
    groups = max(g for g in range(1, LARGEST + 1) if g == 1 or (channels % g == 0 and channels // g > 1))
    replacement = nn.GroupNorm(groups, channels, eps=layer.eps, affine=layer.affine)
    if layer.affine:
        replacement.load_state_dict({"weight": layer.weight, "bias": layer.bias})
        replacement.weight.requires_grad_(layer.weight.requires_grad)
        replacement.bias.requires_grad_(layer.bias.requires_grad)
    return replacement.to(layer.weight.device) if layer.affine else replacement
