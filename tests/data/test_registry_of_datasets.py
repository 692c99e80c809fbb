from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.config import Protocol
from bench.core.errors import UnknownName, UserError
from bench.data.registry import DATASETS, add, available, load, locate
from bench.data.splits import split


@pytest.fixture
def clinic(tmp_path: Path, draw) -> Path:
    for row in range(30):
        draw(tmp_path / "clinic" / ("ill" if row % 2 else "well") / f"{row:02d}.png", row)
    return tmp_path / "clinic"


def test_the_phantoms_are_always_available_and_the_paper_sets_are_known():
    assert available() == ["phantom-brain", "phantom-skin"]
    assert {"figshare-brain", "br35h", "brain-kaggle", "ham10000", "ham10000-mel", "ham10000-mel-balanced"} <= set(
        DATASETS.names()
    )
    assert {"isic2018", "isic2019"} <= set(DATASETS.names())


def test_naming_a_dataset_that_is_not_available_says_what_brings_it():
    with pytest.raises(UserError, match="'figshare-brain' is not available; `bench data fetch figshare-brain`"):
        load("figshare-brain", Protocol())
    with pytest.raises(UserError, match="an account is needed"):
        load("br35h", Protocol())


def test_an_unknown_name_offers_near_ones():
    with pytest.raises(UnknownName, match="did you mean ham10000"):
        load("ham1000", Protocol())


def test_an_added_folder_is_remembered(clinic: Path):
    add("my-clinic", clinic, kind="brain", licence="ours")
    assert available()[-1] == "my-clinic"
    assert DATASETS.match("my-*") == ["my-clinic"]
    table = load("my-clinic", Protocol())
    assert (len(table), table.kind) == (30, "brain")
    assert locate("my-clinic") == clinic.resolve()
    assert DATASETS.get("my-clinic").licence == "ours"


def test_an_added_manifest_keeps_its_columns(clinic: Path):
    rows = [f"{path.relative_to(clinic)},{path.parent.name},p{int(path.stem) // 2}" for path in clinic.rglob("*.png")]
    (clinic / "list.csv").write_text("f,what,who\n" + "\n".join(rows) + "\n")
    add("listed", clinic, {"image": "f", "label": "what", "group": "who"})
    assert len(set(load("listed", Protocol()).groups.tolist())) == 15


def test_what_cannot_be_read_is_not_remembered(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no picture"):
        add("nothing", tmp_path / "empty")
    with pytest.raises(UserError, match="there is no"):
        add("nothing", tmp_path / "gone")
    assert "nothing" not in DATASETS.names()


@pytest.mark.parametrize("name", ["a/b", "all", "", "a b", "../x", "x" * 200])
def test_a_name_that_would_not_do_is_refused(clinic: Path, name: str):
    with pytest.raises(UserError, match="a dataset cannot be called"):
        add(name, clinic)


def test_an_embedded_name_is_taken(clinic: Path):
    with pytest.raises(UserError, match="is embedded and needs no files"):
        add("phantom-brain", clinic)


def test_a_dataset_whose_folder_is_gone_says_so(clinic: Path):
    add("here", clinic)
    clinic.rename(clinic.with_name("elsewhere"))
    assert "here" not in available()
    with pytest.raises(UserError, match="is not there any more"):
        load("here", Protocol())


def test_a_damaged_record_is_named(clinic: Path):
    from bench.core.paths import home

    add("here", clinic)
    (home() / "datasets" / "here.toml").write_text("name = 3 =")
    with pytest.raises(UserError, match="is not valid TOML"):
        DATASETS.names()


def test_byte_identical_files_are_one_group(clinic: Path):
    (clinic / "ill" / "copy.png").write_bytes((clinic / "ill" / "01.png").read_bytes())
    add("doubled", clinic)
    table = load("doubled", Protocol())
    rows = {name: row for row, name in enumerate(table.ids.tolist())}
    assert table.groups[rows["ill/copy.png"]] == table.groups[rows["ill/01.png"]]
    assert any("1 groups joined" in note for note in table.notes)
    made = split(table, "grouped", 0)
    parts = [
        name for name, part in made.parts().items() if {rows["ill/copy.png"], rows["ill/01.png"]} & set(part.tolist())
    ]
    assert len(parts) == 1
