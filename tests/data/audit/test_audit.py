from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.data.audit.audit import audit_dataset, write_html
from bench.data.audit.duplicates import _order, compared, details, same_pictures, signatures
from bench.data.audit.groups import groups_in_two_parts, identical_pairs, merged
from bench.data.audit.store import audit_path, audit_verdict
from bench.data.registry import add, load
from bench.data.splits import Split, split


def textured(seed: int, side: int = 128) -> Image.Image:
    """A picture with fine structure of its own."""
    generator = np.random.default_rng(seed)
    layers = [
        Image.fromarray(generator.integers(0, 256, (n, n)).astype(np.uint8)).resize((side, side)) for n in (5, 17, 40)
    ]
    return Image.fromarray(np.mean([np.asarray(layer) for layer in layers], axis=0).astype(np.uint8))


def neighbour(seed: int, side: int = 128) -> Image.Image:
    """The same coarse layout, other fine structure: the next slice of one patient."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 5)).astype(np.uint8)).resize((side, side))
    other = np.random.default_rng(seed + 10_000)
    fine = [Image.fromarray(other.integers(0, 256, (n, n)).astype(np.uint8)).resize((side, side)) for n in (17, 40)]
    mixed = np.asarray(coarse) * 0.6 + np.mean([np.asarray(layer) for layer in fine], axis=0) * 0.2
    return Image.fromarray(mixed.astype(np.uint8))


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue()))


VARIANTS = {
    "re-encoded": lambda picture: jpeg(picture, 50),
    "half": lambda picture: picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": lambda picture: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "turned": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "brighter": lambda picture: picture.point(lambda value: min(255, int(value * 1.1))),
}


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """Thirty pictures, a copy of one of them, and a mirrored copy with another label."""
    for row in range(30):
        path = tmp_path / "clinic" / ("ill" if row % 2 else "well") / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        textured(row).save(path)
    (tmp_path / "clinic" / "ill" / "copy.png").write_bytes((tmp_path / "clinic" / "ill" / "01.png").read_bytes())
    VARIANTS["mirrored"](textured(4)).save(tmp_path / "clinic" / "ill" / "mirrored.png")
    return tmp_path / "clinic"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_picture_is_found_however_it_was_changed(tmp_path: Path, variant: str):
    for row in range(8):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "b").mkdir(exist_ok=True)
        textured(row).save(tmp_path / "a" / f"{row}.png")
        VARIANTS[variant](textured(row)).save(tmp_path / "b" / f"{row}.png")
    add("both", tmp_path)
    table = load("both", Protocol(), joined=False)
    found = {(table.ids[match.left][2:], table.ids[match.right][2:]) for match in same_pictures(signatures(table))}
    assert found == {(f"{row}.png", f"{row}.png") for row in range(8)}


def test_the_next_slice_of_a_patient_is_another_picture(tmp_path: Path):
    for row in range(8):
        for folder, picture in (("a", textured(row)), ("b", neighbour(row))):
            (tmp_path / folder).mkdir(exist_ok=True)
            picture.save(tmp_path / folder / f"{row}.png")
    add("slices", tmp_path)
    assert not same_pictures(signatures(load("slices", Protocol(), joined=False)))


def test_gray_stored_as_colour_has_equal_pixels(tmp_path: Path):
    for row, folder in ((0, "a"), (1, "b")):
        (tmp_path / folder).mkdir()
        textured(row).save(tmp_path / folder / f"{row}.png")
    textured(0).convert("RGB").save(tmp_path / "b" / "colour.png")
    add("gray", tmp_path)
    assert [match.kind for match in same_pictures(signatures(load("gray", Protocol(), joined=False)))] == ["exact"]


def test_flat_images_are_not_each_others_duplicates(tmp_path: Path):
    for row, level in enumerate((10, 120, 200)):
        (tmp_path / "ab"[row % 2]).mkdir(exist_ok=True)
        Image.new("L", (64, 64), level).save(tmp_path / "ab"[row % 2] / f"{row}.png")
    add("flat", tmp_path)
    assert not same_pictures(signatures(load("flat", Protocol(), joined=False)))


def test_agreement_and_residual_by_hand():
    left = np.array([[1.0, -1.0, 1.0, -1.0]])
    agreement, residual = compared(left, np.array([[2.0, -2.0, 2.0, -2.0]]))
    assert agreement[0] == pytest.approx(1)
    assert residual[0] == pytest.approx(0, abs=1e-3)
    agreement, residual = compared(left, np.array([[1.0, 1.0, -1.0, -1.0]]))
    assert agreement[0] == pytest.approx(0)
    assert residual[0] == pytest.approx(1)


def test_the_eight_orientations_are_all_different_and_reversible():
    orders = [_order(4, number) for number in range(8)]
    assert len({tuple(order.tolist()) for order in orders}) == 8
    assert orders[0].tolist() == list(range(16))
    assert orders[4].reshape(4, 4)[0].tolist() == [3, 2, 1, 0]


def test_details_lose_brightness_and_slopes():
    slope = np.tile(np.linspace(0, 255, 64, dtype=np.float32), (64, 1))[None]
    assert np.abs(details(slope, 2.0).reshape(64, 64)[:, 8:-8]).max() < 1


def test_what_the_audit_finds_and_what_the_splits_then_do(clinic: Path):
    add("clinic", clinic)
    audit = audit_dataset("clinic")
    assert audit["counts"]["exact_duplicates"] == 1
    assert audit["counts"]["near_duplicate_pairs"] == 1
    assert audit["counts"]["mirrored_or_turned_pairs"] == 1
    assert audit["counts"]["pairs_with_two_labels"] == 1
    assert audit["counts"]["groups_after_joining"] == 30
    assert audit["splits"]["grouped"]["verdict"] == "clean"
    table = load("clinic", Protocol())
    rows = {name: row for row, name in enumerate(table.ids.tolist())}
    assert table.groups[rows["ill/mirrored.png"]] == table.groups[rows["well/04.png"]]
    assert table.fingerprint() != load("clinic", Protocol(), joined=False).fingerprint()


def test_verdicts_before_and_after_an_audit(clinic: Path):
    add("clinic", clinic)
    before = load("clinic", Protocol())
    assert audit_verdict(before, split(before, "grouped", 0)) == "not audited"
    everything = np.arange(len(before))
    rows = {name: row for row, name in enumerate(before.ids.tolist())}
    torn = Split(np.delete(everything, [rows["ill/copy.png"], 5]), np.array([5]), np.array([rows["ill/copy.png"]]))
    assert audit_verdict(before, torn) == "leaks: 1"
    audit_dataset("clinic")
    after = load("clinic", Protocol())
    assert audit_verdict(after, split(after, "grouped", 0)) == "clean"
    torn = Split(
        np.delete(everything, [rows["ill/mirrored.png"], 5]), np.array([5]), np.array([rows["ill/mirrored.png"]])
    )
    assert audit_verdict(after, torn) == "leaks: 1"


def test_an_image_split_of_grouped_images_leaks(make_table):
    table = make_table([row % 2 for row in range(100)], groups=[f"p{row // 10}" for row in range(100)])
    made = split(table, "image", 0)
    assert groups_in_two_parts(table, made) == 10
    assert audit_verdict(table, made) == "leaks: 10"


@pytest.mark.parametrize("name", ["phantom-brain", "phantom-skin"])
def test_the_phantoms_are_clean_and_no_picture_stands_in_two_groups(name: str):
    protocol = Protocol(synthetic_images=120, image_size=64)
    table = load(name, protocol)
    assert audit_verdict(table, split(table, "grouped", 0)) == "clean"
    matches = same_pictures(signatures(table))
    assert all(table.groups[match.left] == table.groups[match.right] for match in matches)


def test_across_datasets(clinic: Path, tmp_path: Path):
    for row in range(10, 14):
        (tmp_path / "other" / "xy"[row % 2]).mkdir(parents=True, exist_ok=True)
        picture = textured(row + 100 if row == 13 else row)
        VARIANTS["mirrored" if row == 11 else "re-encoded"](picture).save(
            tmp_path / "other" / "xy"[row % 2] / f"{row}.png"
        )
    add("clinic", clinic)
    add("other", tmp_path / "other")
    found = audit_dataset("clinic", against=["other"])["across"]["other"]
    assert (found["images"], found["other_images"], found["other_total"]) == (3, 3, 4)
    assert found["label_conflicts"] is None
    assert found["classes"] == {"ill": [], "well": []}
    printed = CliRunner().invoke(app, ["data", "audit", "clinic", "--against", "other"]).stdout
    assert "3 (classes not comparable)" in printed
    page = write_html(audit_dataset("clinic", against=["other"]), tmp_path / "audit.html").read_text()
    assert "classes not comparable" in page


def test_labels_across_datasets_are_compared_over_the_classes_that_correspond(tmp_path: Path):
    for folder, labels in (("one", ("notumor", "glioma", "pituitary")), ("two", ("no", "yes"))):
        for row in range(9):
            told = labels[row % 3] if folder == "one" else labels[row % 3 > 0]
            # One slice is called a glioma here and healthy there.
            label = "no" if (folder, row) == ("two", 4) else told
            (tmp_path / folder / label).mkdir(parents=True, exist_ok=True)
            textured(row).save(tmp_path / folder / label / f"{row}.png")
        add(folder, tmp_path / folder, kind="brain")
    found = audit_dataset("one", against=["two"])["across"]["two"]
    assert (found["images"], found["pairs_compared"], found["label_conflicts"]) == (9, 9, 1)
    assert found["classes"] == {"glioma": ["yes"], "notumor": ["no"], "pituitary": ["yes"]}
    assert [pair["left"] for pair in found["pairs"] if pair["labels"] == "differ"] == ["glioma/4.png"]
    printed = CliRunner().invoke(app, ["data", "audit", "one", "--against", "two"]).stdout
    assert "9 (1 labelled otherwise)" in printed


def test_balance_by_part_and_site(make_table):
    from bench.data.audit.audit import examine, judge

    table = make_table([0, 1] * 30, sites=["north", "north", "south"] * 20)
    audit = examine(table, signatures(table))
    assert audit["balance"]["sites"] == {"north": {"a": 20, "b": 20}, "south": {"a": 10, "b": 10}}
    judged = judge(table, "image", 0)
    assert judged["balance"]["test"] == {"a": 6, "b": 6}


def test_joining_is_transitive_and_takes_the_first_name():
    groups = merged(np.array(["d", "c", "b", "a", "e"]), [(0, 1), (1, 2)])
    assert groups.tolist() == ["b", "b", "b", "a", "e"]
    assert identical_pairs(["x", "y", "x", "x"]) == [(0, 2), (0, 3)]


def test_an_unknown_split_is_refused(clinic: Path):
    add("clinic", clinic)
    with pytest.raises(UserError, match="no split is called 'groupd'; did you mean grouped"):
        audit_dataset("clinic", "groupd")


def test_a_damaged_stored_audit_is_named(clinic: Path):
    add("clinic", clinic)
    table = load("clinic", Protocol(), joined=False)
    audit_dataset("clinic", "grouped")
    for text in (
        "{",
        '{"pairs": 1}',
        '{"pairs": [{"left": 1, "right": "b"}]}',
        '{"pairs": [{"left": "a", "right": "b"}]}',
    ):
        audit_path(table).write_text(text)
        with pytest.raises(UserError, match="remove it and audit again"):
            load("clinic", Protocol())


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href") or name.startswith("on")]


def test_html_in_class_names_ids_and_notes_is_shown_as_text(tmp_path: Path):
    evil = "<script>alert(1)<img src=x onerror=alert(2)>"
    folder = tmp_path / "evil"
    for row in range(12):
        name = evil if row % 2 else 'well" onload="alert(3)'
        path = folder / name / f"{row}&<b>.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        textured(row // 4).save(path)
    add("evil", folder)
    page = write_html(audit_dataset("evil", "grouped"), tmp_path / "audit.html").read_text()
    parsed = Tags()
    parsed.feed(page)
    assert "script" not in parsed.tags
    assert "b" not in parsed.tags
    assert all(source.startswith("data:image/jpeg;base64,") for source in parsed.sources)
    assert "&lt;script&gt;" in page


def test_the_page_shows_pairs_as_pictures_and_needs_nothing_from_outside(clinic: Path, tmp_path: Path):
    add("clinic", clinic)
    page = write_html(audit_dataset("clinic"), tmp_path / "audit.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4
    assert "http" not in page
    assert "clean" in page
