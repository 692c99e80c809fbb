"""An image's numbers do not depend on how many others are evaluated with it, nor on the threads."""

from __future__ import annotations

import pytest
import torch

from models.calibrate import calibrate
from models.evaluate import BATCH, evaluated, positions
from models.inference.engines import folded
from models.registry import MODELS


@pytest.mark.parametrize("name", ["deepmedix", "resnet18"])
def test_an_image_alone_and_among_others_gives_the_same_bits(name: str) -> None:
    torch.manual_seed(0)
    network = MODELS.get(name).build(3).to(memory_format=torch.channels_last)
    images = torch.rand(BATCH + 9, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    # As they are initialized, the statistics would shrink every map to nothing, and nothing could differ.
    calibrate(network.backbone, [(images, images)])
    backbone = folded(network.backbone)
    maps = evaluated(backbone, images, channels_last=True)
    assert maps.std() > 0.1
    with torch.inference_mode():
        assert not torch.equal(backbone(images[:1]), maps[:1])  # what batches of any size did
    order = torch.randperm(len(images))
    threads = torch.get_num_threads()
    try:
        for count in (1, 7, len(images)):
            torch.set_num_threads(1 + count % 2)
            assert torch.equal(evaluated(backbone, images[order[:count]], channels_last=True), maps[order[:count]])
    finally:
        torch.set_num_threads(threads)


def test_every_call_gets_the_fixed_number_of_rows_and_only_the_real_ones_come_back() -> None:
    seen: list[int] = []

    def doubled(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return 2 * rows

    given = torch.arange(2.0 * BATCH + 3).reshape(-1, 1)
    assert torch.equal(evaluated(doubled, given), 2 * given)
    assert seen == [BATCH] * 3
    assert [(rows.start, rows.stop) for rows in positions(BATCH + 1)] == [(0, BATCH), (BATCH, BATCH + 1)]
