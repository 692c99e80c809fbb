"""The heads: sizes of the paper's ablation, numerics against a plain implementation, maps of any kind."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.deepmedix import VARIANTS
from models.heads.config import HeadConfig, LinearHeadConfig
from models.heads.dense import DeepMediXHead

ROW_6 = {
    "DeepMediX": 2_329_236,
    "Model-1": 2_329_236,
    "Model-2": 2_308_756,
    "Model-3": 2_329_012,
    "Model-4": 2_308_532,
    "Model-5": 3_013_636,
    "Model-6": 2_685_956,
    "Model-7": 3_012_100,
    "Model-8": 2_684_420,
}
BACKBONE_PARAMETERS = 2_223_872


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_parameters_of_the_ablation_are_the_papers(variant: object) -> None:
    head = variant.head.build(1280, 4)  # type: ignore[attr-defined]
    assert count(head) + BACKBONE_PARAMETERS == ROW_6[variant.paper_name]  # type: ignore[attr-defined]


def test_three_classes_make_the_published_size() -> None:
    assert count(HeadConfig().build(1280, 3)) + BACKBONE_PARAMETERS == 2_329_219


@pytest.mark.parametrize(("modules", "dropouts", "norms"), [(True, 5, 3), (False, 0, 0)])
def test_dropout_modules_go_together(modules: bool, dropouts: int, norms: int) -> None:
    head = HeadConfig(dropout_modules=modules).build(1280, 4)
    on_vectors = sum(isinstance(part, nn.Dropout) for part in head.modules())
    head.train()
    assert on_vectors + head.drops_map == dropouts
    assert sum(isinstance(part, nn.BatchNorm1d) for part in head.modules()) == norms


def reference(head: DeepMediXHead, feature_map: Tensor, mask: Tensor) -> NDArray[np.float64]:
    """Row 5 in float64 numpy, with batch statistics and no Dropout behind the map."""
    state = {name: tensor.double().numpy() for name, tensor in head.state_dict().items()}
    dropped = (
        feature_map.double().numpy() * mask.numpy() / 0.6
        if head.config.dropout_modules
        else feature_map.double().numpy()
    )
    pooled = dropped.mean((2, 3)) if head.config.pooling == "avg" else dropped.max((2, 3))

    def dense(name: str, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        hidden = np.maximum(inputs @ state[f"{name}.linear.weight"].T + state[f"{name}.linear.bias"], 0)
        if not head.config.dropout_modules:
            return hidden
        hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
        return hidden * state[f"{name}.norm.weight"] + state[f"{name}.norm.bias"]

    hidden = dense("second", dense("first", pooled))
    hidden = dense("third", np.concatenate([hidden, pooled], axis=1) if head.config.skip else hidden)
    result: NDArray[np.float64] = hidden @ state["output.weight"].T + state["output.bias"]
    return result


def without_vector_dropouts(head: DeepMediXHead) -> DeepMediXHead:
    for part in head.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return head.train()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("needs_gradient", [False, True])
def test_logits_equal_a_plain_implementation_with_the_same_mask(variant: object, needs_gradient: bool) -> None:
    torch.manual_seed(0)
    head = without_vector_dropouts(variant.head.build(40, 3))  # type: ignore[attr-defined]
    feature_map = torch.rand(16, 40, 5, 5).requires_grad_(needs_gradient)
    mask = head.draw_mask(feature_map)
    logits = head(feature_map, mask)
    np.testing.assert_allclose(logits.detach().numpy(), reference(head, feature_map.detach(), mask), atol=2e-5)


def test_gradients_do_not_depend_on_the_path_that_the_map_takes() -> None:
    torch.manual_seed(1)
    head = without_vector_dropouts(HeadConfig().build(40, 3))
    twin = copy.deepcopy(head)
    feature_map = torch.rand(16, 40, 5, 5)
    mask = head.draw_mask(feature_map)
    head(feature_map, mask).square().sum().backward()
    twin(feature_map.clone().requires_grad_(), mask).square().sum().backward()
    for ours, theirs in zip(head.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_the_gradient_into_the_map_is_that_of_the_kept_elements() -> None:
    torch.manual_seed(2)
    head = HeadConfig().build(8, 3).train()
    feature_map = torch.rand(4, 8, 3, 3, requires_grad=True)
    mask = head.draw_mask(feature_map)
    head.pool(feature_map, mask).sum().backward()
    assert feature_map.grad is not None
    torch.testing.assert_close(feature_map.grad, mask / (9 * 0.6))


def test_the_two_ways_of_dropping_are_the_same_noise() -> None:
    """Relative standard deviation of the pooled features: sqrt(0.4/0.6 * sum x^2) / sum x."""
    torch.manual_seed(3)
    head = HeadConfig().build(1280, 4).train()
    one = torch.rand(1, 1280, 7, 7)
    many = one.expand(200, -1, -1, -1)
    expected = ((0.4 / 0.6) * one.square().sum((2, 3))).sqrt() / one.sum((2, 3))
    for feature_map in (many.half(), many.clone().requires_grad_()):
        pooled = head.pool(feature_map).detach()
        torch.testing.assert_close(pooled.mean(0), one.mean((2, 3))[0], rtol=0.1, atol=0)
        assert (pooled.std(0) / pooled.mean(0)).mean().item() == pytest.approx(expected.mean().item(), rel=0.01)


def test_evaluation_draws_nothing() -> None:
    head = HeadConfig().build(8, 3).eval()
    feature_map = torch.rand(4, 8, 3, 3)
    state = torch.get_rng_state()
    logits = head(feature_map)
    assert torch.equal(head(feature_map), logits)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(head.pool(feature_map), feature_map.mean((2, 3)))


@pytest.mark.parametrize("build", [HeadConfig().build, HeadConfig(pooling="max").build, LinearHeadConfig().build])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_stored_maps_of_any_type_are_taken(
    build: Callable[[int, int], nn.Module], training: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(4)
    head = build(8, 3).train(training)
    logits = head(torch.rand(4, 8, 3, 3).to(dtype))
    assert logits.shape == (4, 3)
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_several_heads_can_share_one_mask() -> None:
    torch.manual_seed(5)
    average, maximum = HeadConfig().build(8, 3).train(), HeadConfig(pooling="max").build(8, 3).train()
    feature_map = torch.rand(4, 8, 3, 3)
    mask = average.draw_mask(feature_map)
    kept = feature_map * mask / 0.6
    torch.testing.assert_close(average.pool(feature_map, mask), kept.mean((2, 3)))
    torch.testing.assert_close(maximum.pool(feature_map, mask), kept.amax((2, 3)))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_head_that_averages_first_gives_the_same_on_the_averages(variant: object) -> None:
    torch.manual_seed(6)
    config: HeadConfig = variant.head  # type: ignore[attr-defined]
    head = config.build(8, 3).train()
    feature_map = torch.rand(4, 8, 3, 3)
    same = torch.allclose(head(feature_map), head(feature_map.mean((2, 3), keepdim=True)), atol=1e-5)
    assert same == config.averages_first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": "sum"}, "avg or max"),
        ({"widths": (64, 32)}, "three hidden layers"),
        ({"widths": (64, 0, 16)}, "three hidden layers"),
        ({"dropout_rate": 1.0}, "dropout rate"),
    ],
)
def test_impossible_heads_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HeadConfig(**change)  # type: ignore[arg-type]
