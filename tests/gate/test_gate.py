"""`bench check`: six outcomes, exit codes, baselines, margins, what is written."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer import Typer
from typer.testing import CliRunner

from bench.cli.check import COMMANDS
from bench.core.errors import UserError
from bench.core.identity import digest
from bench.gate import output as verdicts
from bench.gate.baseline import Images, Side, SideCell, load_side, pair, write_baseline
from bench.gate.check import check, hold
from bench.gate.margins import Margins, load_margins
from bench.gate.verdict import Check
from bench.measure.quality import intervals, quality
from bench.store.predictions import Predictions

CLASSES = ("no", "yes")
SPEC = {
    "model": "deepmedix", "dataset": "phantom", "split": "grouped", "regime": "centralized", "seed": 0,
    "protocol": {"image_size": 64},
}  # fmt: skip
Make = Callable[..., Path]


def predictions(wrong: int, size: int = 600, lucky: int = 0) -> dict[str, Any]:
    """`wrong` of the images predicted wrongly, `lucky` of them others than the usual ones."""
    labels = np.arange(size) % 2
    predicted = labels.copy()
    at = np.r_[np.arange(wrong - lucky), size - 1 - np.arange(lucky)]
    predicted[at] = 1 - predicted[at]
    shares = np.where(predicted[:, None] == np.arange(2), 0.9, 0.1).astype(np.float32)
    ids = [f"i{index:05d}" for index in range(size)]
    return {
        "image_id": ids, "group": [f"p{i}" for i in range(size)], "site": [""] * size, "label": labels,
        "p_no": shares[:, 0], "p_yes": shares[:, 1],
    }  # fmt: skip


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A run with one cell."""

    def build(name: str, table: dict[str, Any], spec: dict[str, Any] | None = None, **changes: Any) -> Path:
        spec, run = spec or SPEC, tmp_path / name
        key = digest({**spec, "name": name}, 20)
        folder = run / "cells" / key
        folder.mkdir(parents=True)
        shares = np.stack([table["p_no"], table["p_yes"]], axis=1)
        bounds = intervals(table["label"], shares, table["group"], CLASSES)
        data = {"classes": list(CLASSES), "test_fingerprint": digest(sorted(table["image_id"]))}
        result = {
            "schema": 1, "key": key, "cell": spec, "metrics": quality(table["label"], shares, CLASSES),
            "intervals": {n: list(b) for n, b in bounds.items()}, "notes": [], "seconds": 1.0,
            "cost": {"params_m": 2.3, "macs_m": 25.0, "flops_m": 51.0}, "timing": {}, "data": data, **changes,
        }  # fmt: skip
        (run / "plan.json").write_text(json.dumps({"schema": 1, "cells": [{"key": key, "cell": spec}]}))
        (folder / "result.json").write_text(json.dumps(result))
        pq.write_table(pa.table({n: pa.array(v) for n, v in table.items()}), folder / "predictions.parquet")
        return run

    return build


def outcomes(found: Check) -> dict[str, str]:
    return {verdict.metric: verdict.outcome for verdict in found.verdicts}


def test_the_same_run_is_the_same_against_itself_and_against_its_file(make: Make, tmp_path: Path) -> None:
    run = make("a", predictions(30))
    write_baseline(run, tmp_path / "base.json")
    for baseline in (run, tmp_path / "base.json"):
        found = check(run, baseline)
        assert set(outcomes(found).values()) == {"same"}
        assert found.exit_code(strict=True) == 0


@pytest.mark.parametrize("by_file", [True, False])
def test_a_planted_loss_of_three_points_is_worse(make: Make, tmp_path: Path, by_file: bool) -> None:
    base, run = make("base", predictions(30)), make("run", predictions(48))
    baseline = base
    if by_file:
        baseline = tmp_path / "base.json"
        write_baseline(base, baseline)
    found = check(run, baseline)
    verdict = next(v for v in found.verdicts if v.metric == "accuracy")
    assert verdict.outcome == "worse"
    assert verdict.p < 0.001
    assert found.exit_code() == 1


def test_a_gain_is_better_and_held(make: Make) -> None:
    found = check(make("run", predictions(30)), make("base", predictions(60)))
    assert outcomes(found)["accuracy"] == "better"
    assert found.exit_code() == 0


def test_a_loss_inside_the_margin_is_the_same(make: Make, tmp_path: Path) -> None:
    margins = tmp_path / "margins.toml"
    margins.write_text("[quality]\naccuracy = 0.1\n")
    found = check(make("run", predictions(48)), make("base", predictions(30)), margins)
    assert outcomes(found)["accuracy"] == "same"
    assert found.exit_code() == 0


def test_too_few_images_to_tell_is_said_and_only_strict_stops(make: Make) -> None:
    base, run = make("base", predictions(6, 60)), make("run", predictions(6, 60, lucky=5))
    found = check(run, base)
    verdict = next(v for v in found.verdicts if v.metric == "accuracy")
    assert verdict.outcome == "undecided"
    assert "is not excluded" in verdict.why
    assert "would be found four times out of five" in verdict.why
    assert (found.exit_code(), found.exit_code(strict=True)) == (0, 2)
    assert "undecided" in verdicts.summary(found)


def test_costs_are_compared_exactly(make: Make) -> None:
    cost = {"params_m": 2.300001, "macs_m": 24.9, "flops_m": 51.0}
    found = outcomes(check(make("run", predictions(30), cost=cost), make("base", predictions(30))))
    assert (found["params_m"], found["macs_m"], found["flops_m"]) == ("worse", "better", "same")


def test_a_cell_that_failed_or_was_not_run_is_missing(make: Make, tmp_path: Path) -> None:
    base, run = make("base", predictions(30)), make("run", predictions(30))
    result = next(run.glob("cells/*/result.json"))
    result.unlink()
    (result.parent / "failure.json").write_text(json.dumps({"error": "RuntimeError: boom"}))
    found = check(run, base)
    assert [v.outcome for v in found.verdicts] == ["missing"]
    assert "RuntimeError: boom" in found.verdicts[0].why
    assert found.exit_code() == 1


def test_other_test_images_and_other_protocols_cannot_be_compared(make: Make) -> None:
    base = make("base", predictions(30))
    found = check(make("run", predictions(30, 602)), base)
    assert found.verdicts[0].why == "the dataset or its test set changed"
    assert found.exit_code() == 2
    other = {**SPEC, "protocol": {"image_size": 96}}
    assert "differs in image_size" in check(make("other", predictions(30), other), base).verdicts[0].why


def test_a_field_that_the_stored_protocol_does_not_name_stands_at_its_default(make: Make) -> None:
    base = make("base", predictions(30))
    smoothed, plain = ({**SPEC, "protocol": {"image_size": 64, "label_smoothing": value}} for value in (0.1, 0.0))
    found = check(make("run", predictions(30), smoothed), base)
    assert found.verdicts[0].why == "the protocol differs in label_smoothing"
    assert set(outcomes(check(make("same", predictions(30), plain), base)).values()) == {"same"}


def test_cells_of_one_name_are_told_apart_as_in_the_tables(make: Make) -> None:
    run = make("run", predictions(30))
    other = make("other", predictions(30), {**SPEC, "protocol": {"image_size": 96}})
    (moved,) = other.glob("cells/*")
    moved.rename(run / "cells" / moved.name)
    plans = [json.loads((each / "plan.json").read_text()) for each in (run, other)]
    (run / "plan.json").write_text(json.dumps({**plans[0], "cells": plans[0]["cells"] + plans[1]["cells"]}))
    name = "deepmedix · phantom · grouped · centralized · seed 0"
    assert list(load_side(run).cells) == [f"{name} · image_size=64", f"{name} · image_size=96"]


def test_runs_without_a_common_cell_are_refused(make: Make) -> None:
    base = make("base", predictions(30), {**SPEC, "model": "resnet18"})
    with pytest.raises(UserError, match="share no cell"):
        check(make("run", predictions(30)), base)


def test_lost_predictions_fall_back_on_intervals(make: Make) -> None:
    base, run = make("base", predictions(30)), make("run", predictions(48))
    next(run.glob("cells/*/predictions.parquet")).write_bytes(b"PAR1")
    verdict = next(v for v in check(run, base).verdicts if v.metric == "accuracy")
    assert "two intervals, unpaired" in verdict.why
    assert verdict.outcome == "worse"
    paired = next(v for v in check(make("whole", predictions(48)), base).verdicts if v.metric == "accuracy")
    assert paired.p < verdict.p


def test_the_baseline_is_small_diffable_and_keeps_decisions(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    run = make("run", predictions(30))
    assert write_baseline(run, path) == {"cells": 1, "left_out": 0}
    text = path.read_text()
    assert len(text) < 4000
    assert max(len(line) for line in text.splitlines()) < 160
    found = pair(load_side(path), load_side(run), "deepmedix · phantom · grouped · centralized · seed 0")
    assert found is not None
    assert np.array_equal(found.first, found.second)
    write_baseline(run, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == text


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no baseline"), ("{}", "schema: field required"),
     ('{"schema": 9, "cells": {}}', "no baseline of this version"), ("no json", "cannot be read"),
     ('{"schema": 1, "cells": {"a": {"metrics": {}}}}', "damaged")],
)  # fmt: skip
def test_bad_baselines(make: Make, tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        check(make("run", predictions(30)), path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("[quality]\naccuracie = 0.1", "did you mean accuracy"), ("[quality]\naccuracy = -1", "0 or more"),
     ("accuracy = 0.1", "under"), ("[quality", "not valid TOML")],
)  # fmt: skip
def test_bad_margins(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "margins.toml"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        load_margins(path)


def test_lower_is_better_for_losses(make: Make, tmp_path: Path) -> None:
    margins = tmp_path / "margins.toml"
    margins.write_text("[quality]\nlog_loss = 0.01\n")
    base, run = make("base", predictions(30)), make("run", predictions(60))
    assert outcomes(check(run, base, margins))["log_loss"] == "worse"
    assert outcomes(check(base, run, margins))["log_loss"] == "better"


def test_a_loss_of_ranking_is_worse_and_a_gain_is_not(make: Make) -> None:
    """The p value of ROC-AUC points the right way."""
    generator = np.random.default_rng(0)
    runs = {}
    for name, skill in (("good", 3.0), ("bad", 1.0)):
        table = predictions(0)
        yes = 1 / (1 + np.exp(-(skill * (2 * table["label"] - 1) + generator.normal(size=600) * 2)))
        runs[name] = make(name, {**table, "p_yes": yes, "p_no": 1 - yes})
    worse = next(v for v in check(runs["bad"], runs["good"]).verdicts if v.metric == "roc_auc")
    better = next(v for v in check(runs["good"], runs["bad"]).verdicts if v.metric == "roc_auc")
    assert (worse.outcome, better.outcome) == ("worse", "better")
    assert worse.p < 0.001 < 0.999 < better.p


@pytest.fixture
def app() -> Typer:
    made = Typer()
    made.command("check")(COMMANDS["check"])
    made.command("other")(lambda: None)
    return made


def test_the_command_writes_junit_markdown_annotations_and_json(app: Typer, make: Make, tmp_path: Path) -> None:
    base, run = make("base", predictions(30)), make("run", predictions(48))
    junit, summary = tmp_path / "check.xml", tmp_path / "check.md"
    asked = ["check", str(run), "--baseline", str(base), "--junit", str(junit), "--markdown", str(summary)]
    result = CliRunner().invoke(app, [*asked, "--github"])
    assert result.exit_code == 1
    assert "::error title=accuracy worse::" in result.stdout
    suite = ElementTree.parse(junit).getroot()
    assert suite.get("failures") == str(len(suite.findall("testcase/failure"))) != "0"
    assert "✗ worse" in summary.read_text()
    found = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert found["exit_code"] == 1
    assert found["counts"]["worse"] >= 1


def test_update_then_check_holds(app: Typer, make: Make, tmp_path: Path) -> None:
    run, path = make("run", predictions(30)), tmp_path / "base.json"
    assert CliRunner().invoke(app, ["check", str(run), "--baseline", str(path), "--update"]).exit_code == 0
    result = CliRunner().invoke(app, ["check", str(run), "--baseline", str(path)])
    assert result.exit_code == 0
    told = "phantom: not audited (when it was run); `bench data audit phantom` tells."
    assert result.stdout.splitlines() == [told, "5 same"]


def test_annotations_escape_what_github_reads(make: Make) -> None:
    found = check(make("run", predictions(48)), make("base", predictions(30)))
    assert all("\n" not in line and "%25" not in line.split("::")[1] for line in verdicts.github_lines(found))


NAMES = [f"{model} · phantom · grouped · centralized · seed 0" for model in ("one", "two", "three", "four")]


def grid(wrong: list[int], size: int, groups: int) -> Side:
    """A side with one cell a model; each classifies other images wrongly, and `groups` patients share the images."""
    labels = np.arange(size) % 2
    ids = np.array([f"i{index:05d}" for index in range(size)])
    cells = {}
    for place, (name, count) in enumerate(zip(NAMES, wrong, strict=False)):
        predicted = labels.copy()
        at = (np.arange(count) * 7 + 3 * place) % size
        predicted[at] = 1 - predicted[at]
        shares = np.where(predicted[:, None] == np.arange(2), 0.9, 0.1)
        patients = np.array([f"p{index % groups}" for index in range(size)])
        kept = Predictions(ids, patients, np.full(size, ""), labels, shares, CLASSES)
        metrics = quality(labels, shares, CLASSES)
        cells[name] = SideCell(metrics, classes=CLASSES, images=Images("same", shares.argmax(1), kept))
    return Side(cells, has_probabilities=True)


ONLY_ACCURACY = Margins({"accuracy": 0.01})


def accuracy_of(base: Side, now: Side) -> dict[str, str]:
    found = hold(base, now, ONLY_ACCURACY)
    return {verdict.cell.split(" · ")[0]: verdict.outcome for verdict in found if verdict.metric == "accuracy"}


def test_a_collapse_is_worse_though_three_patients_share_the_images() -> None:
    found = accuracy_of(grid([40], 100, groups=3), grid([94], 100, groups=3))
    assert found == {"one": "worse"}


def test_a_loss_that_all_cells_share_is_seen_where_no_cell_shows_it_alone() -> None:
    base, now = grid([8, 8, 8, 8], 120, groups=120), grid([12, 12, 12, 12], 120, groups=120)
    found = accuracy_of(base, now)
    assert found.pop("all 4 cells") == "worse"
    assert set(found.values()) == {"undecided"}


def test_one_collapse_among_sound_cells_is_told_by_its_name() -> None:
    base, now = grid([8, 8, 8, 8], 120, groups=120), grid([8, 90, 8, 8], 120, groups=120)
    found = accuracy_of(base, now)
    assert {name for name, outcome in found.items() if outcome == "worse"} >= {"two"}
    assert {found[name] for name in ("one", "three", "four")} == {"same"}


def test_only_the_cells_that_are_gated_are_the_family(make: Make) -> None:
    base, run = make("base", predictions(30)), make("run", predictions(48))
    assert check(run, base, cells="deepmedix *").count("worse") > 0
    with pytest.raises(UserError, match=r"no cell of .* matches 'resnet"):
        check(run, base, cells="resnet*")
