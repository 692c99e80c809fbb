"""What a source brings along besides images: characteristics and lesion masks, outside the fingerprint."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.data.images.masks import mask
from bench.data.sources.figshare import read as read_figshare
from bench.data.sources.isic import read_ham10000_mel, read_isic2017


@pytest.fixture
def folder(tmp_path):
    lines = ["image,label,part,lesion_id,age,sex,anatomy,mask"]
    for number, label in ((3, "NV"), (1, "MEL"), (2, "BKL")):
        name = f"ISIC_{number}"
        for place in ("images", "masks"):
            (tmp_path / place).mkdir(exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), 40 * number, np.uint8)).save(tmp_path / "images" / f"{name}.jpg")
        drawn = np.zeros((16, 16), np.uint8)
        drawn[: 4 * number] = 255
        Image.fromarray(drawn).convert("1").save(tmp_path / "masks" / f"{name}.png")
        filled = f"masks/{name}.png" if number != 2 else ""
        lines.append(f"images/{name}.jpg,{label},train,,{10 * number},female,torso,{filled}")
    (tmp_path / "index.csv").write_text("\n".join(lines))
    return tmp_path


def test_characteristics_and_masks_follow_their_images(folder):
    table = read_isic2017(folder, Protocol())
    assert table.ids.tolist() == ["ISIC_1", "ISIC_2", "ISIC_3"]
    assert table.metadata["age"].tolist() == ["10", "20", "30"]
    assert [None if (found := mask(table, row, 8)) is None else found.mean() for row in range(3)] == [0.25, None, 0.75]
    picked = table.select(np.array([2, 0]))
    assert picked.metadata["age"].tolist() == ["10", "30"]
    assert mask(picked, 1, 8).mean() == 0.75
    assert replace(table, metadata={}, masks=None).fingerprint() == table.fingerprint()


def test_a_mask_that_is_gone_is_named(folder):
    table = read_isic2017(folder, Protocol())
    (folder / "masks/ISIC_1.png").unlink()
    with pytest.raises(UserError, match=r"ISIC_1\.png cannot be read"):
        mask(table, 0, 8)


def test_the_real_sets_bring_them(shared_data):
    isic = read_isic2017(shared_data / "isic2017", Protocol())
    assert len(isic) == 2150
    assert (isic.masks != "").sum() == 1921
    assert set(isic.metadata) == {"age", "sex", "anatomy"}
    tumours = read_figshare(shared_data / "figshare-brain", Protocol())
    assert (tumours.masks != "").sum() == 3064
    assert 0.005 < np.median([mask(tumours, row, 128).mean() for row in range(0, 3064, 60)]) < 0.03
    assert "anatomy" in read_ham10000_mel(shared_data / "ham10000", Protocol()).metadata
