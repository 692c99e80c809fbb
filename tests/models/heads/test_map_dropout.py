"""The fast Dropout on a map: its distribution, its dependence on torch's generator, and its pooling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.heads import map_dropout as dropout
from models.heads.map_dropout import draw_mask, masked_pool

MAP = torch.empty(64, 1280, 7, 7)


@pytest.mark.parametrize("rate", [0.4, 0.5, 0.25, 0.1])
def test_elements_are_kept_with_the_right_probability(rate: float) -> None:
    torch.manual_seed(0)
    mask = draw_mask(MAP, rate)
    assert mask.shape == MAP.shape
    assert mask.dtype == torch.bool
    five_sigma = 5 * (rate * (1 - rate) / mask.numel()) ** 0.5
    assert mask.double().mean().item() == pytest.approx(1 - rate, abs=five_sigma)


def test_every_byte_of_a_random_word_is_as_good_as_the_others() -> None:
    torch.manual_seed(1)
    lanes = draw_mask(MAP, 0.4).flatten().view(-1, 8).double().mean(0)
    assert torch.allclose(lanes, torch.full((8,), 0.6, dtype=torch.float64), atol=5 * (0.24 / (MAP.numel() / 8)) ** 0.5)


@pytest.mark.parametrize("shift", [1, 2, 7, 8, 49])
def test_neighbouring_elements_are_independent(shift: int) -> None:
    torch.manual_seed(2)
    kept = draw_mask(MAP, 0.4).flatten().double() - 0.6
    covariance = (kept[shift:] * kept[:-shift]).mean().item()
    assert covariance == pytest.approx(0.0, abs=5 * 0.24 / MAP.numel() ** 0.5)


def test_the_edge_byte_makes_up_for_what_256_values_cannot_say(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    values = np.arange(256, dtype=np.uint8)
    monkeypatch.setattr(dropout, "_random_bytes", lambda count: np.tile(values, count // 256))
    kept = draw_mask(torch.empty(4000, 256, 1, 1), 0.4).view(4000, 256).double().mean(0)
    assert kept[:153].eq(1).all()
    assert kept[154:].eq(0).all()
    assert kept[153].item() == pytest.approx(0.6, abs=5 * (0.24 / 4000) ** 0.5)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_pooled_noise_has_the_analytic_mean_and_variance(pooling: str) -> None:
    torch.manual_seed(4)
    ones = torch.ones(256, 1280, 3, 3, dtype=torch.float16)
    pooled = masked_pool(ones, draw_mask(ones, 0.4), pooling).double()  # type: ignore[arg-type]
    if pooling == "max":  # zero only when all nine are dropped
        mean, variance = 1 - 0.4**9, (1 - 0.4**9) * 0.4**9
    else:
        mean, variance = 0.6, 0.24 / 9
    assert pooled.mean().item() == pytest.approx(mean, abs=5 * (variance / pooled.numel()) ** 0.5)
    assert pooled.var().item() == pytest.approx(variance, rel=0.2 if pooling == "max" else 0.02)


def test_a_seed_gives_one_mask_and_each_draw_moves_on() -> None:
    torch.manual_seed(5)
    first, second = draw_mask(MAP[:2], 0.4), draw_mask(MAP[:2], 0.4)
    np.random.seed(99)  # numpy's own state must not matter
    torch.manual_seed(5)
    assert torch.equal(draw_mask(MAP[:2], 0.4), first)
    assert not torch.equal(first, second)


def test_the_mask_lies_in_memory_as_the_map_does() -> None:
    feature_map = torch.empty(4, 6, 5, 3).to(memory_format=torch.channels_last)
    assert draw_mask(feature_map, 0.4).stride() == feature_map.stride()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("images", [1, 7])
def test_masked_pooling_equals_a_float64_reference(
    dtype: torch.dtype, layout: torch.memory_format, images: int
) -> None:
    torch.manual_seed(6)
    feature_map = torch.randn(images, 1280, 7, 7).to(dtype).contiguous(memory_format=layout)
    mask = draw_mask(feature_map, 0.4)
    values = feature_map.double().numpy() * mask.numpy()
    average, maximum = masked_pool(feature_map, mask, "avg"), masked_pool(feature_map, mask, "max")
    assert average.dtype == maximum.dtype == torch.promote_types(dtype, torch.float32)
    np.testing.assert_allclose(average.numpy(), values.mean((2, 3)), atol=1e-6)
    np.testing.assert_array_equal(maximum.double().numpy(), values.max((2, 3)))


def test_a_dropped_infinity_is_gone() -> None:
    feature_map = torch.full((1, 1, 1, 2), torch.inf, dtype=torch.float16)
    feature_map[..., 1] = 3.0
    mask = torch.tensor([[[[False, True]]]])
    assert masked_pool(feature_map, mask, "avg").item() == 1.5
