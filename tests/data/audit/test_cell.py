"""What is said of a finished cell's audit: read from the store, whatever was written when the cell was run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.core.atomic import write_json
from bench.core.cellspec import data_seed
from bench.core.config import Protocol
from bench.core.identity import digest
from bench.data.audit.audit import audit_dataset
from bench.data.audit.cell import audit_sentences, cell_audit
from bench.data.audit.store import audit_path, audit_verdict, audits, table_file
from bench.data.registry import add, load
from bench.data.splits import split
from bench.data.table import Table


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """Thirty pictures, ten of them once more, mirrored."""
    folder = tmp_path / "clinic"
    for row in range(30):
        knots = np.random.default_rng(row).integers(0, 256, (24, 24)).astype(np.uint8)
        picture = Image.fromarray(knots).resize((96, 96), Image.Resampling.BICUBIC)
        path = folder / "ab"[row % 2] / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        if row < 10:
            picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path.with_stem(f"{row:02d}-mirrored"))
    add("clinic", folder)
    return folder


def cell_of(table: Table, kind: str = "grouped", seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """The spec and the data of a cell as a run writes them."""
    made = split(table, kind, data_seed(table.name, kind, seed))
    data = {
        "fingerprint": table.fingerprint(), "test_fingerprint": digest(sorted(table.ids[made.test].tolist())),
        "synthetic": table.synthetic, "audit": audit_verdict(table, made),
    }  # fmt: skip
    return {"dataset": table.name, "split": kind, "seed": seed}, data


def test_cells_that_were_run_before_the_audit_are_judged_by_it(clinic: Path) -> None:
    table = load("clinic", Protocol())
    cells = [cell_of(table, seed=seed) for seed in range(4)]
    assert {data["audit"] for _, data in cells} == {"not audited"}
    assert {cell_audit(*cell).text for cell in cells} == {"not audited (when it was run)"}
    audit_dataset("clinic")
    made = [split(table, "grouped", data_seed("clinic", "grouped", seed)) for seed in range(4)]
    expected = [audit_verdict(table, each) for each in made]
    assert [cell_audit(*cell).text for cell in cells] == expected
    assert all(words.startswith("leaks") for words in expected)
    after = cell_of(load("clinic", Protocol()))
    assert after[1]["fingerprint"] != cells[0][1]["fingerprint"]
    assert cell_audit(*after).text == "clean"
    assert audit_sentences([*cells, after])[0].startswith("clinic: leaks: ")
    assert audit_sentences([after]) == []


def test_another_state_of_the_dataset_is_a_stale_audit(clinic: Path) -> None:
    audit_dataset("clinic")
    next((clinic / "a").glob("*.png")).unlink()
    cell = cell_of(load("clinic", Protocol()))
    found = cell_audit(*cell)
    assert (found.text, found.badge, found.advice) == ("stale audit", "stale audit", "bench data audit clinic")
    audit_dataset("clinic")
    assert cell_audit(*cell).text.startswith("leaks")


def test_groups_that_became_known_later_need_no_new_audit(clinic: Path, tmp_path: Path) -> None:
    names = sorted(str(path.relative_to(clinic)) for path in clinic.rglob("*.png"))
    for columns, groups in (
        ("image,label", [""] * len(names)),
        ("image,label,patient", [f",p{name[2:4]}" for name in names]),
    ):
        lines = [f"{name},{name[0]}{group}" for name, group in zip(names, groups, strict=True)]
        (clinic / "index.csv").write_text("\n".join([columns, *lines]) + "\n")
        add("listed", clinic / "index.csv")
        if columns == "image,label":
            audit_dataset("listed")
            first = load("listed", Protocol())
    table = load("listed", Protocol())
    assert table.fingerprint() != first.fingerprint()
    assert cell_audit(*cell_of(table)).text == "clean"
    # A version that kept no columns beside its audits: the next start of a run adds them.
    table_file(table.fingerprint()).unlink()
    assert cell_audit(*cell_of(table)).text == "stale audit"
    load("listed", Protocol())
    assert cell_audit(*cell_of(table)).text == "clean"


def test_where_nothing_is_stored_it_says_so_with_the_command(clinic: Path) -> None:
    table = load("clinic", Protocol())
    cell = cell_of(table)
    write_json(audits() / "other.json", {"dataset": "other", "pairs": []})
    found = cell_audit(*cell)
    assert (found.text, found.badge, found.advice) == ("not audited", "", "bench data audit clinic")
    cell[1]["audit"] = "clean"
    assert cell_audit(*cell).text == "not audited"
    assert audit_sentences([cell]) == ["clinic: not audited; `bench data audit clinic` tells."]


def test_a_known_leak_is_not_forgotten_where_the_store_knows_nothing(clinic: Path) -> None:
    cell = cell_of(load("clinic", Protocol()))
    cell[1]["audit"] = "leaks: 3"
    assert cell_audit(*cell).badge == "leaks: 3 groups in two parts (when it was run)"
    write_json(audits() / "other.json", {"dataset": "other", "pairs": []})
    assert cell_audit(*cell).badge == "leaks: 3 groups in two parts (when it was run)"


def test_a_split_that_cannot_be_made_again_is_not_judged(clinic: Path) -> None:
    audit_dataset("clinic")
    cell = cell_of(load("clinic", Protocol()))
    cell[1]["test_fingerprint"] = "of other images"
    assert cell_audit(*cell).text == "stale audit"


def test_drawn_images_keep_what_was_said() -> None:
    table = load("phantom-brain", Protocol(synthetic_images=60, image_size=32))
    assert cell_audit(*cell_of(table)).text == "clean"


def test_a_damaged_audit_is_named(clinic: Path) -> None:
    audit_dataset("clinic")
    table = load("clinic", Protocol())
    cell = cell_of(table)
    audit_path(table).write_text("{")
    found = cell_audit(*cell)
    assert (found.text, found.advice) == ("unreadable audit", "bench data audit clinic")
