"""The one way in which a network is evaluated: batches of a fixed size, the last one filled up.

A convolution's or a matrix product's last bits depend on how many images share its batch, not on which ones or where
they stand. With a fixed size, an image's answer is the same alone and among others, today and from a stored file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# Measured (benchmarks/README.md): among the fastest, and large enough that the number of threads changes no bit either.
BATCH = 16


def positions(count: int) -> Iterator[slice]:
    """The slices of 0 ... count - 1 that are evaluated together."""
    return (slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


@torch.inference_mode()
def evaluated(function: Callable[[Tensor], Tensor], batch: Tensor, channels_last: bool = False) -> Tensor:
    """A function of batches [B, ...] on a batch of any size, `BATCH` rows at a time, the last ones filled up.

    Args:
        channels_last: the memory format of images [B, 3, H, W]; it changes last bits too.
    """
    return torch.cat([_filled(function, batch[rows], channels_last) for rows in positions(len(batch))])


def _filled(function: Callable[[Tensor], Tensor], rows: Tensor, channels_last: bool) -> Tensor:
    count = len(rows)
    if count < BATCH:
        rows = torch.cat([rows, rows[:1].expand(BATCH - count, *rows.shape[1:])])
    if rows.ndim == 4:
        rows = rows.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return function(rows)[:count]
