"""Checklists: filled in where the run knows, saying so where it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.errors import UserError
from bench.store.answers import StoredAnswer, write_answer
from reports.checklists.facts import FACTS
from reports.checklists.items import CHECKLISTS
from reports.checklists.write import UNANSWERED, write_checklists

COUNTS = {"claim": 42, "tripod-ai": 52, "clear-derm": 25, "model-card": 9}


def rows(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")][1:]
    return {parts[0].strip(): parts[2].strip() for line in lines if (parts := line.strip("|").split(" | "))}


@pytest.mark.parametrize("name", list(CHECKLISTS))
def test_every_item_stands_and_every_topic_is_known(name: str) -> None:
    items = CHECKLISTS[name].items
    assert len(items) == len({item.number for item in items}) == COUNTS[name]
    assert all(topic in FACTS for item in items for topic in item.topics)
    assert all(item.text and item.number for item in items)


def test_a_run_fills_in_what_it_knows_and_no_more(full_run: Path, tmp_path: Path) -> None:
    (path,) = write_checklists(full_run, ["claim"], tmp_path)
    found = rows(path)
    assert len(found) == COUNTS["claim"]
    assert "by whole groups" in found["20"]
    assert "images in training" in found["33"]
    assert "deepmedix" in found["22"]
    assert "95 % intervals" in found["29"]
    for number in ("12", "16", "32", "40", "42"):  # nobody asked for an external validation of this run
        assert found[number] == UNANSWERED


def test_an_analysis_that_was_asked_is_in_the_checklist(
    new_run: Any, spec: Any, predictions: Any, tmp_path: Path
) -> None:
    run = new_run()
    run.done(spec("deepmedix", "br35h", 0), predictions("deepmedix", "br35h", 0))
    cell = next((run.path / "cells").iterdir())
    figures = {"external_roc_auc": (0.7, 0.6, 0.8), "external_accuracy": (0.66, None, None)}
    answer = StoredAnswer("external", "External", 1, {}, "k", figures, {}, {}, [], "now", 1.0)
    write_answer(cell, answer)
    done = CliRunner().invoke(app, ["report", str(run.path), "--checklist", "model-card,tripod-ai", "--json"])
    assert done.exit_code == 0, done.output
    written = [Path(path) for path in json.loads(done.stdout)["checklists"]]
    assert [path.name for path in written] == ["checklist-model-card.md", "checklist-tripod-ai.md"]
    assert "Test set" in rows(written[0])["7"]
    for path, number in ((written[0], "9"), (written[1], "16")):
        assert "external_roc_auc 0.7 to 0.7" in rows(path)[number]


def test_an_unknown_checklist_is_a_mistake(full_run: Path) -> None:
    with pytest.raises(UserError, match="no checklist is called 'clam'; did you mean claim"):
        write_checklists(full_run, ["clam"])
