from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bench.core.config import Protocol
from bench.core.errors import UnknownName, UserError
from bench.core.paths import cache
from bench.data.registry import DATASETS, add, load
from bench.data.sources.medmnistinfo import INFO, SIZES
from bench.data.splits import split


def write_npz(path: Path, size: int = 28, counts: tuple[int, int, int] = (8, 4, 4), colour: bool = False) -> Path:
    generator = np.random.default_rng(0)
    shape = (size, size, 3) if colour else (size, size)
    arrays = {}
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        arrays[f"{part}_images"] = generator.integers(0, 256, (count, *shape)).astype(np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 2).reshape(-1, 1).astype(np.uint8)
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize(("name", "colour"), [("breastmnist", False), ("retinamnist_64", True)])
def test_a_set_has_its_official_parts(tmp_path: Path, name: str, colour: bool):
    size = 64 if "_" in name else 28
    file = write_npz(tmp_path / f"{name}.npz", size, colour=colour)
    add(f"medmnist:{name}", file)
    table = load(f"medmnist:{name}", Protocol())
    with np.load(file) as arrays:
        assert np.array_equal(table.images.read(table.ids.tolist().index("val-000001")), arrays["val_images"][1])
    assert [len(rows) for rows in split(table, "official", 0).parts().values()] == [8, 4, 4]
    assert any("incomplete: [8, 4, 4]" in note for note in table.notes)
    assert f"medmnist:{name}" in DATASETS.names()


def test_every_2d_set_in_every_size_is_known():
    assert len(INFO) == 12
    for stem, info in INFO.items():
        if info.multilabel:
            continue
        for size in SIZES:
            spec = DATASETS.get(f"medmnist:{stem}" if size == 28 else f"medmnist:{stem}_{size}")
            assert spec.downloads[0].checksum.startswith("md5:")
            assert spec.downloads[0].filename in spec.downloads[0].address
    assert len({md5 for info in INFO.values() for md5 in info.md5}) == 48


def test_the_counts_are_those_of_the_publication():
    assert sum(INFO["dermamnist"].counts) == 10015
    assert sum(INFO["bloodmnist"].counts) == 17092
    assert sum(INFO["pneumoniamnist"].counts) == 5856
    assert len(INFO["pathmnist"].classes) == 9


def test_a_multi_label_set_is_refused_with_a_clear_word():
    with pytest.raises(UserError, match="has several labels an image; multi-label sets are not supported"):
        DATASETS.get("medmnist:chestmnist")


@pytest.mark.parametrize(
    ("name", "message"),
    [("medmnist:bloodmist", "did you mean bloodmnist"), ("medmnist:bloodmnist_96", "in the sizes 28")],
)
def test_an_unknown_set_or_size_offers_what_there_is(name: str, message: str):
    with pytest.raises(UnknownName, match=message):
        DATASETS.get(name)


@pytest.mark.parametrize("keep", [0, 10, 500, -30])
def test_a_truncated_npz_is_refused(tmp_path: Path, keep: int):
    file = write_npz(tmp_path / "breastmnist.npz")
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"is damaged or no MedMNIST file of breastmnist"):
        add("medmnist:breastmnist", file)


def test_another_size_or_a_pickle_is_refused(tmp_path: Path):
    file = write_npz(tmp_path / "breastmnist.npz", size=64)
    with pytest.raises(UserError, match=r"has shape \(8, 64, 64\).*expected \(N, \(28, 28\)\)"):
        add("medmnist:breastmnist", file)
    np.savez(file, train_images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match=r"damaged or no MedMNIST|has shape"):
        add("medmnist:breastmnist", file)


def test_a_header_that_promises_less_than_follows_is_refused_before_it_fills_the_disk(tmp_path: Path):
    file = tmp_path / "breastmnist.npz"
    member = io.BytesIO()
    np.lib.format.write_array(member, np.zeros((2, 28, 28), np.uint8))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_images.npy", member.getvalue() + b"\0" * 50_000_000)
    with pytest.raises(UserError, match="holds more than its header says"):
        add("medmnist:breastmnist", file)


def test_a_header_that_promises_a_terabyte_is_refused(tmp_path: Path):
    file = tmp_path / "breastmnist.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 28, 28)})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("train_images.npy", header.getvalue())
    with pytest.raises(UserError, match="train_images has shape"):
        add("medmnist:breastmnist", file)


def test_labels_outside_the_classes_are_refused(tmp_path: Path):
    file = tmp_path / "breastmnist.npz"
    pictures = {f"{part}_images": np.zeros((4, 28, 28), np.uint8) for part in ("train", "val", "test")}
    labels = {f"{part}_labels": np.full((4, 1), 7, np.uint8) for part in ("train", "val", "test")}
    np.savez(file, **pictures, **labels)
    with pytest.raises(UserError, match="labels reach outside"):
        add("medmnist:breastmnist", file)


def test_an_unpacked_copy_that_cannot_be_read_is_unpacked_again(tmp_path: Path):
    add("medmnist:breastmnist", write_npz(tmp_path / "breastmnist.npz"))
    before = load("medmnist:breastmnist", Protocol()).fingerprint()
    unpacked = list((cache() / "npz").rglob("*.npy"))
    assert len(unpacked) == 7
    for harm in (lambda path: path.write_bytes(path.read_bytes()[:-1]), lambda path: path.write_bytes(b"no array"),
                 lambda path: np.save(path, np.zeros((2, 2)))):  # fmt: skip
        for path in unpacked:
            harm(path)
        assert load("medmnist:breastmnist", Protocol()).fingerprint() == before
