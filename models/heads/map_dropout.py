"""Dropout on a feature map followed by global pooling, fast where no gradient goes into the map.

DeepMediX drops single elements of the map before it pools (reading row 5). On cached features that is nearly the whole
cost of a training step on the CPU, since torch draws a Bernoulli variable an element. Here the mask is cut from random
bytes, and the dropped elements are set to zero on the map's own bits, without converting it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.heads.config import Pooling

_BYTE_VALUES = 256
_SAME_WIDTH = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Masks are drawn and maps are pooled in slices that stay in a core's cache; a whole number of eight-byte words each.
_DRAWN_ELEMENTS = 1 << 20
_POOLED_ELEMENTS = 1 << 17


def draw_mask(feature_map: Tensor, rate: float) -> Tensor:
    """Draw which elements of a map are kept, each with probability 1 - rate, independently.

    The mask depends on the state of torch's default generator of the map's device, and is laid out in memory as the map
    is, so that a channels_last map gets other draws than a contiguous one.

    Args:
        feature_map: [N, C, h, w]; its values are not read.
        rate: the probability of dropping an element, 0 <= rate < 1.

    Returns:
        bool [N, C, h, w], true where the element is kept.
    """
    mask = torch.empty_like(feature_map, dtype=torch.bool, requires_grad=False)
    if mask.device.type == "cpu":
        for part in torch.split(mask.as_strided((mask.numel(),), (1,)), _DRAWN_ELEMENTS):
            _fill_from_bytes(part, 1.0 - rate)
        return mask
    return mask.bernoulli_(1.0 - rate)


def _fill_from_bytes(mask: Tensor, keep: float) -> None:
    """Fill a flat bool mask: a byte below 256 * keep keeps, and a byte on the edge draws for the remaining fraction.

    With keep = 0.6 the edge is 153: 153/256 + 1/256 * 0.6 = 0.6, with no rounding to a number of bits.
    """
    edge = int(_BYTE_VALUES * keep)
    random_bytes = _random_bytes(mask.numel())
    kept = np.less(random_bytes, edge, out=mask.numpy())
    on_edge = np.flatnonzero(random_bytes == edge)
    kept[on_edge] = (torch.rand(len(on_edge), dtype=torch.float64, device="cpu") < _BYTE_VALUES * keep - edge).numpy()


def _random_bytes(count: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    words = torch.empty(-(-count // 8), dtype=torch.int64, device="cpu")
    # Without bounds random_() leaves the sign bit zero, and every eighth byte would never exceed 127.
    words.random_(-(2**63), None)
    values: np.ndarray[tuple[int], np.dtype[np.uint8]] = words.numpy().view(np.uint8)[:count]
    return values


def masked_pool(feature_map: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Pool a map globally with the elements outside the mask taken as zero, without gradient into the map.

    The result is not divided by the share of kept elements.

    Args:
        feature_map: [N, C, h, w], any floating type.
        mask: bool [N, C, h, w], best laid out as the map is.
        pooling: "avg" or "max".

    Returns:
        [N, C] in float32, or in the map's type where that is wider.
    """
    if feature_map.device.type != "cpu":
        return _pool(_zero_dropped(feature_map, mask), pooling)
    images = max(1, _POOLED_ELEMENTS // feature_map[0].numel())
    slices = zip(torch.split(feature_map, images), torch.split(mask, images), strict=True)
    return torch.cat([_pool(_zero_dropped(part, kept), pooling) for part, kept in slices])


def _zero_dropped(feature_map: Tensor, mask: Tensor) -> Tensor:
    # An integer product with 0 or 1 is vectorised for 16-bit elements too, where a floating one is not.
    bits = _SAME_WIDTH[feature_map.element_size()]
    return (feature_map.detach().view(bits) * mask.to(bits)).view(feature_map.dtype)


def _pool(feature_map: Tensor, pooling: Pooling) -> Tensor:
    wide = torch.promote_types(feature_map.dtype, torch.float32)
    if pooling == "max":
        return feature_map.to(wide).amax((2, 3))
    return feature_map.mean((2, 3), dtype=wide)
