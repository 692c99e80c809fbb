from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.data.images import files
from bench.data.registry import add
from bench.data.sources.folder import read_folder
from bench.data.sources.manifest import read_csv, read_manifest


def test_class_folders(tmp_path: Path, draw):
    for row in range(6):
        draw(tmp_path / ("cat" if row % 2 else "dog") / f"{row}.jpg", row)
    (tmp_path / "dog" / "readme.txt").write_text("not a picture")
    (tmp_path / "dog" / ".ipynb_checkpoints").mkdir()
    draw(tmp_path / "dog" / ".ipynb_checkpoints" / "0.jpg", 0)
    table = read_folder("t", tmp_path)
    assert table.classes == ("cat", "dog")
    assert table.counts() == {"cat": 3, "dog": 3}
    assert table.ids[0] == "cat/1.jpg"
    assert len(set(table.groups.tolist())) == 6


def test_part_folders_are_the_official_split_also_inside_a_wrapping_folder(tmp_path: Path, draw):
    for row, (part, label) in enumerate((p, c) for p in ("Training", "Testing", "val") for c in "xy"):
        draw(tmp_path / "archive" / part / label / f"{row}.png", row)
    table = read_folder("t", tmp_path)
    assert sorted(set(table.official.tolist())) == ["test", "train", "val"]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({}, "holds no picture in any class folder; expected two or more folders"),
        ({"only/1.png": 1, "only/2.png": 2}, "holds one class folder, 'only'"),
        ({"a/x.txt": 0, "b/y.txt": 0}, "holds no picture in any class folder"),
    ],
)
def test_an_empty_folder_and_one_class_are_refused(tmp_path: Path, draw, layout, message):
    for name, seed in layout.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x") if name.endswith("txt") else draw(path, seed)
    with pytest.raises(UserError, match=message):
        read_folder("t", tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="gone is no folder"):
        read_folder("t", tmp_path / "gone")


@pytest.fixture
def mostly_good(tmp_path: Path, draw) -> Path:
    for row in range(20):
        draw(tmp_path / "ab"[row % 2] / f"{row:02d}.{'jpg' if row < 10 else 'png'}", row, size=(48, 40))
    return tmp_path


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"hello, no picture here"), "is no picture"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "is damaged"),
    ],
)
@pytest.mark.parametrize("victim", ["a/00.jpg", "a/10.png"])
def test_an_unusable_picture_is_skipped_counted_and_listed(mostly_good: Path, damage, words, victim):
    damage(mostly_good / victim)
    table = read_folder("t", mostly_good)
    assert len(table) == 19
    assert victim not in table.ids
    assert any("1 unusable images skipped" in note and victim in note and words in note for note in table.notes)


def test_huge_and_tiny_pictures_are_skipped_by_the_stated_rule(mostly_good: Path, draw, monkeypatch):
    monkeypatch.setattr(files, "MAX_PIXELS", 3000)
    draw(mostly_good / "a" / "huge.png", 1, size=(60, 60))
    draw(mostly_good / "a" / "tiny.png", 2, size=(4, 40))
    table = read_folder("t", mostly_good)
    assert len(table) == 20
    note = next(note for note in table.notes if "2 unusable" in note)
    assert "huge.png is huge (60 x 60; 3000 pixels are the most)" in note
    assert "tiny.png is tiny (4 x 40; 8 pixels a side are the least)" in note


def test_a_picture_that_claims_a_billion_pixels_is_not_decoded(mostly_good: Path):
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10**6))
        + chunk(b"IEND", b"")
    )
    (mostly_good / "a" / "bomb.png").write_bytes(bomb)
    table = read_folder("t", mostly_good)
    assert len(table) == 20
    assert any("bomb.png is huge" in note for note in table.notes)


def test_too_many_unusable_pictures_are_refused(mostly_good: Path):
    for row in range(5):
        (mostly_good / "ab"[row % 2] / f"{row:02d}.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"5 of 20 images cannot be used.*20%: a/00.jpg is empty; .* and 2 more"):
        read_folder("t", mostly_good)


def test_a_file_that_only_decoding_shows_to_be_damaged_is_skipped_from_the_next_start_on(
    mostly_good: Path, monkeypatch
):
    monkeypatch.setattr(files, "_ends_well", lambda _: True)
    path = mostly_good / "a" / "10.png"
    path.write_bytes(path.read_bytes()[:-200])
    table = read_folder("t", mostly_good)
    row = table.ids.tolist().index("a/10.png")
    with pytest.raises(UserError, match=r"cannot decode .*10.png.*it is skipped from the next start on"):
        table.images.read(row)
    assert "a/10.png" not in read_folder("t", mostly_good).ids


def write_csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_columns_are_found_by_common_names_and_ids_without_suffix_below(tmp_path: Path, draw):
    for row in range(4):
        draw(tmp_path / f"part_{row % 2}" / f"IMG_{row}.jpg", row)
    csv = write_csv(
        tmp_path / "meta.csv",
        "Lesion_ID,image_id,DX,dataset,fold\nL1,IMG_0,mel,vienna,0\nL1,IMG_1,mel,vienna,0\nL2,IMG_2,nv,rome,1\nL3,IMG_3,nv,,2\n",
    )
    table = read_manifest("t", csv)
    assert table.classes == ("mel", "nv")
    assert table.groups.tolist() == ["L1", "L1", "L2", "L3"]
    assert table.sites.tolist() == ["vienna", "vienna", "rome", ""]
    assert table.official.tolist() == ["1", "1", "2", "3"]
    assert "group = Lesion_ID" in table.notes[0]


def test_masks_and_characteristics_come_along(tmp_path: Path, draw):
    for row in range(3):
        draw(tmp_path / "images" / f"{row}.png", row)
    text = (
        "image,label,age,SEX,localization,mask\n0,x,40,male,back,masks/0.png\n1,y,,female,,\n2,y,60,,arm,masks/2.png\n"
    )
    table = read_manifest("t", write_csv(tmp_path / "index.csv", text))
    assert {name: values.tolist() for name, values in table.metadata.items()} == {
        "age": ["40", "", "60"],
        "sex": ["male", "female", ""],
        "anatomy": ["back", "", "arm"],
    }
    assert table.masks.tolist() == [str(tmp_path / "masks/0.png"), "", str(tmp_path / "masks/2.png")]
    plain = read_manifest("t", write_csv(tmp_path / "index.csv", "image,label\n0,x\n1,y\n2,y\n"))
    assert plain.masks is None
    assert plain.fingerprint() == table.fingerprint()
    outside = write_csv(tmp_path / "index.csv", "image,label,mask\n0,x,../secret.png\n1,y,\n")
    with pytest.raises(UserError, match="lies outside its folder"):
        read_manifest("t", outside)


def test_columns_can_be_named_and_a_semicolon_or_tab_is_fine(tmp_path: Path, draw):
    for row in range(2):
        draw(tmp_path / f"{row}.png", row)
    csv = write_csv(tmp_path / "m.csv", "file;what;who\n0.png;x;p1\n1.png;y;p2\n")
    table = read_manifest("t", csv, {"label": "what", "group": "who", "site": None})
    assert table.groups.tolist() == ["p1", "p2"]
    tabbed = write_csv(tmp_path / "m.tsv", "image\tlabel\n0.png\tx\n1.png\ty\n")
    assert "every image is a group of its own" in read_manifest("t", tabbed).notes[1]


def test_missing_files_are_counted_and_the_complete_number_is_known(tmp_path: Path, draw):
    draw(tmp_path / "0.png", 0)
    draw(tmp_path / "1.png", 1)
    csv = write_csv(tmp_path / "m.csv", "image,label\n0.png,x\n1.png,y\n2.png,y\n")
    table = read_manifest("t", csv)
    assert (len(table), table.expected, table.complete) == (2, 3, False)
    assert "incomplete: 2 of 3 images are here; missing 2.png" in table.notes


def test_repeated_rows_are_dropped_and_noted(tmp_path: Path, draw):
    draw(tmp_path / "0.png", 0)
    draw(tmp_path / "1.png", 1)
    csv = write_csv(tmp_path / "m.csv", "image,label\n0.png,x\n0.png,x\n1.png,y\n")
    assert "1 repeated rows of one image dropped" in read_manifest("t", csv).notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("image,label\n", "has a header and no rows"),
        ("image,label\n0.png,x,9\n", "line 2: 3 values where the header names 2 columns"),
        ("a,b\n0.png,x\n", "no column for the image among a, b; name it with --image COLUMN"),
        ("image,b\n0.png,x\n", "no column for the label"),
        ("image,label\n0.png,x\n0.png,y\n", "image '0.png' is both 'x' and 'y'"),
        ("image,label\n0.png,\n", "image '0.png' has no label"),
        ("image,label\nno.png,x\nnor.png,y\n", "none of its 2 images lies below"),
        ("image,label,split\n0.png,x,holdout\n", "the split 'holdout' is neither a fold's number nor"),
        ("image,label,label\n0.png,x,x\n", "has the column 'label' more than once"),
        ('image,label\n0.png,"x\n', "is not a well-formed CSV"),
    ],
)
def test_a_bad_manifest_is_one_clear_sentence(tmp_path: Path, draw, text, message):
    draw(tmp_path / "0.png", 0)
    with pytest.raises(UserError, match=message):
        read_manifest("t", write_csv(tmp_path / "m.csv", text))


def test_a_named_column_that_is_not_there_offers_near_ones(tmp_path: Path):
    csv = write_csv(tmp_path / "m.csv", "image,label,patient\n0.png,x,1\n")
    with pytest.raises(UserError, match="no column 'patent' for --group; did you mean patient"):
        read_manifest("t", csv, {"group": "patent"})


def test_labels_that_differ_between_manifest_and_folder_are_refused(tmp_path: Path, draw):
    draw(tmp_path / "cat" / "0.png", 0)
    draw(tmp_path / "dog" / "1.png", 1)
    csv = write_csv(tmp_path / "m.csv", "image,label\ncat/0.png,dog\ndog/1.png,cat\n")
    with pytest.raises(UserError, match=r"2 labels differ between manifest and folder: cat/0.png is 'dog'"):
        read_manifest("t", csv)


def test_a_csv_with_a_million_columns_is_refused_at_once(tmp_path: Path):
    csv = write_csv(tmp_path / "wide.csv", ",".join(f"c{i}" for i in range(1_000_000)) + "\n1\n")
    with pytest.raises(UserError, match="has more than 500 columns"):
        read_csv(csv)


def test_a_csv_with_one_endless_line_is_refused(tmp_path: Path):
    csv = write_csv(tmp_path / "long.csv", "x" * 3_000_000)
    with pytest.raises(UserError, match="has more than 500 columns"):
        read_csv(csv)


def test_a_csv_that_is_no_text_is_refused(tmp_path: Path):
    (tmp_path / "m.csv").write_bytes(b"image,label\n\xff\xfe\xfa,x\n")
    with pytest.raises(UserError, match="cannot read"):
        read_csv(tmp_path / "m.csv")


@pytest.mark.parametrize("image", ["../outside.png", "/etc/hostname", "a/../../outside.png"])
def test_a_manifest_does_not_reach_outside_its_folder(tmp_path: Path, image: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    csv = write_csv(folder / "m.csv", f"image,label\n{image},a\n")
    with pytest.raises(UserError, match=r"lies outside its folder.*--allow-outside"):
        read_manifest("t", csv)
    with pytest.raises(UserError, match=r"none of its 1 images|cannot be used"):
        read_manifest("t", csv, allow_outside=True)


def test_names_that_are_no_utf8_are_skipped_and_told(tmp_path: Path, draw: Callable[..., Path]):
    for number in range(12):
        draw(tmp_path / "set" / "ab"[number % 2] / f"{number}.png", number)
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "set" / "a") + b"/\xff.png"))
    shutil.copy(tmp_path / "set" / "a" / "0.png", odd)
    for _ in range(2):
        table = add("odd", tmp_path / "set")
        assert len(table) == 12
        assert any(r"a/\udcff.png has a name that is not UTF-8 text" in note for note in table.notes)
    folder = Path(os.fsdecode(os.fsencode(tmp_path / "set") + b"/\xe9"))
    folder.mkdir()
    shutil.copy(odd, folder / "x.png")
    with pytest.raises(UserError, match=r"the class name \\udce9 is not UTF-8 text; rename its folder"):
        add("odd", tmp_path / "set")
