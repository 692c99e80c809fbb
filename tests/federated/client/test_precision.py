"""A federated fit computes in the protocol's precision; its weights, and what is sent, stay in 32 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.core.cellspec import CellSpec
from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.harness.plan import refuse_unmeant
from federated.simulation import fit as federated
from federated.simulation import local_only
from models.recipes.context import FitContext


def watched(context: FitContext) -> list[torch.dtype]:
    """The type of what the module's linear layers compute from now on."""
    seen: list[torch.dtype] = []
    for layer in context.module.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda layer, given, result: seen.append(result.dtype))
    return seen


@pytest.mark.parametrize("regime", ["fedavg", "fedavg-svrg", "moon", "local-only"])
def test_every_pass_of_a_bf16_cell_is_in_16_bits(make_context: Callable[..., FitContext], regime: str) -> None:
    fit: Any = local_only.fit if regime == "local-only" else federated.fit
    kinds, weights = {}, {}
    for precision in ("32", "bf16"):
        context = make_context(regime, clients=2, rounds=2, protocol={"precision": precision})
        seen = watched(context)
        fit(context)
        kinds[precision] = set(seen)
        weights[precision] = torch.cat([p.detach().flatten() for p in context.module.parameters()]).numpy()
        assert weights[precision].dtype == np.float32
        seen.clear()
        context.module(torch.zeros(2, *context.data.train.inputs.shape[1:]))
        assert set(seen) == {torch.float32}  # nothing of it is left on the network
    assert kinds == {"32": {torch.float32}, "bf16": {torch.bfloat16}}
    difference = np.abs(weights["32"] - weights["bf16"]).max()
    assert 0 < difference < 0.05


def test_fp16_is_refused_where_nothing_scales_the_losses() -> None:
    spec = CellSpec("deepmedix", "phantom-brain", "grouped", "fedavg", Protocol(precision="fp16"), 0)
    with pytest.raises(
        UserError, match=r"fp16 needs its losses scaled, .* under fedavg do without; use --set precision"
    ):
        refuse_unmeant(spec)
