"""What one image costs a network: parameters, multiply-accumulates, operations, activations, counted by fvcore."""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

# fvcore counts one for a multiply-accumulate here ...
MULTIPLY_ACCUMULATE = frozenset({"conv", "linear", "addmm", "matmul", "mm", "bmm", "baddbmm", "einsum", "attention"})
# ... and single operations here, so the two may not be added up as they are.
NORMALIZATION = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm"})
_ATTENTION = "aten::scaled_dot_product_attention"


@dataclass(frozen=True)
class Cost:
    """The cost of one image, in millions; `by_operator` and `uncounted` are plain counts.

    macs_m counts convolutions, linear layers and matrix products. flops_m is 2 x macs_m + normalizations: the unit of
    the 0.613 G that the paper prints. `uncounted` names the operators that nobody counted, with how often they ran.
    """

    params_m: float
    macs_m: float
    flops_m: float
    activations_m: float
    uncounted: dict[str, int] = field(default_factory=dict)
    by_operator: dict[str, float] = field(default_factory=dict)


def cost(network: nn.Module, image_size: int) -> Cost:
    """Count one forward pass of one [1, 3, image_size, image_size] image in eval mode.

    Weights, buffers, the random state and each module's training flag are as before.
    """
    with warnings.catch_warnings():
        # fvcore compiles a loss function that is not used here when it is imported, in a way that torch will drop.
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
        from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis

    first = next(network.parameters())
    image = torch.zeros(1, 3, image_size, image_size, device=first.device, dtype=first.dtype)
    with evaluating(network), _plain_attention(), torch.no_grad():
        flops = _quiet(FlopCountAnalysis(network, image)).set_op_handle(_ATTENTION, _attention)
        by_operator = {str(name): float(count) for name, count in flops.by_operator().items()}
        uncounted = {str(name): int(count) for name, count in flops.unsupported_ops().items()}
        activations = float(_quiet(ActivationCountAnalysis(network, image)).total())
    macs = sum(count for name, count in by_operator.items() if name in MULTIPLY_ACCUMULATE)
    norms = sum(count for name, count in by_operator.items() if name in NORMALIZATION)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(
        params_m=parameters / 1e6,
        macs_m=macs / 1e6,
        flops_m=(2 * macs + norms) / 1e6,
        activations_m=activations / 1e6,
        uncounted=dict(sorted(uncounted.items())),
        by_operator=dict(sorted(by_operator.items())),
    )


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Eval mode inside the block; afterwards every module has its own training flag back."""
    flags = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield network
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Without the fused fast path, whose one opaque operator would hide the attention's products."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _quiet(analysis: Any) -> Any:
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")


def _attention(inputs: list[Any], _outputs: list[Any]) -> Counter[str]:
    """q [..., L, E] @ k^T, then weights [..., L, S] @ v [..., S, V]: L x S x (E + V) products a head."""
    query, key, value = (list(item.type().sizes()) for item in inputs[:3])
    heads = math.prod(query[:-2])
    return Counter({"attention": heads * query[-2] * key[-2] * (query[-1] + value[-1])})
