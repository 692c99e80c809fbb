"""Questions to stored cells: kept by key, written whole, failures told; from the command line too."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.analyses.registry import ANALYSES, AnalysisSpec, Answer, Estimate, Settings
from bench.analyses.run import Question, analyze, question, questions
from bench.analyses.selection.choices import _epochs
from bench.cli.app import app
from bench.core.errors import UserError
from bench.store.answers import answered, failed, read_answer
from bench.store.cells import StoredCell
from bench.store.layout import answer_path, failure_path
from bench.store.run import Run

SMALL = ["image_size=32", "epochs=2", "synthetic_images=60", "timing_batch_size=2", "bootstrap_resamples=100"]


class Offset(Settings):
    by: float = 0.0


@dataclass
class Counter:
    """An analysis that counts how often it is asked, and fails for a negative offset."""

    times: int = 0

    def __call__(self, cell: object, settings: Offset, folder: Path) -> Answer:
        self.times += 1
        (folder / "note.txt").write_text(f"by {settings.by}")
        if settings.by < 0:
            raise RuntimeError("cannot go back")
        rows = [{"times": self.times}]
        return Answer({"counter_by": Estimate(settings.by)}, {"times": rows}, {"a note": folder / "note.txt"}, ["said"])


@pytest.fixture
def cell(tmp_path):
    spec = {"model": "m", "dataset": "d", "split": "grouped", "regime": "centralized", "seed": 0, "protocol": {}}
    folder = tmp_path / "cells" / "abc"
    folder.mkdir(parents=True)
    return StoredCell("abc", folder, spec, "done", {}, "")


def asked(counter, version=1, **values) -> Question:
    spec = AnalysisSpec("counter", "Counter", "how often?", counter, settings=Offset, version=version)
    return Question(spec, spec.configured(values))


def put(cell, question):
    (outcome,) = analyze([cell], [question], open_cell=lambda stored: stored)
    return outcome


def test_an_answer_is_kept_until_settings_version_or_cell_are_others(cell):
    counter = Counter()
    assert put(cell, asked(counter)).status == "answered"
    assert put(cell, asked(counter)).status == "kept"
    assert counter.times == 1
    stored = read_answer(cell.folder, "counter")
    assert stored.columns == {"counter_by": (0.0, None, None)}
    assert stored.tables == {"times": [{"times": 1}]}
    assert (cell.folder / "analyses" / stored.files["a note"]).read_text() == "by 0.0"
    assert put(cell, asked(counter, by=2)).status == "answered"
    assert put(cell, asked(counter, version=2, by=2)).status == "answered"
    assert (cell.folder / "analyses/counter/note.txt").read_text() == "by 2.0"
    assert counter.times == 3


def test_a_truncated_answer_is_asked_again(cell):
    counter = Counter()
    put(cell, asked(counter))
    path = answer_path(cell.folder, "counter")
    path.write_text(path.read_text()[:40])
    with pytest.raises(UserError, match=r"counter\.json cannot be read"):
        read_answer(cell.folder, "counter")
    assert put(cell, asked(counter)).status == "answered"


def test_a_failure_is_stored_with_its_traceback_and_leaves_the_earlier_answer(cell):
    counter = Counter()
    put(cell, asked(counter))
    outcome = put(cell, asked(counter, by=-1))
    assert (outcome.status, outcome.error) == ("failed", "RuntimeError: cannot go back")
    assert failed(cell.folder) == {"counter": "RuntimeError: cannot go back"}
    record = json.loads(failure_path(cell.folder, "counter").read_text())
    assert "in __call__" in record["traceback"]
    assert record["settings"] == {"by": -1.0}
    assert read_answer(cell.folder, "counter").settings == {"by": 0.0}
    assert sorted(path.name for path in (cell.folder / "analyses").iterdir()) == [
        "counter",
        "counter.failure.json",
        "counter.json",
    ]
    assert put(cell, asked(counter, by=3)).status == "answered"
    assert failed(cell.folder) == {}
    assert answered(cell.folder) == ["counter"]


def test_a_column_under_another_name_fails(cell):
    spec = AnalysisSpec("other", "", "", lambda cell, settings, folder: Answer({"accuracy": Estimate(1.0)}))
    outcome = put(cell, Question(spec, Settings()))
    assert "does not begin with other_" in outcome.error
    assert answered(cell.folder) == []


def test_a_cell_that_cannot_be_opened_fails_in_every_question(cell):
    def closed(stored):
        raise UserError("the dataset is gone")

    outcomes = list(analyze([cell], [asked(Counter()), question("selective", {})], open_cell=closed))
    assert [outcome.error for outcome in outcomes] == ["the dataset is gone"] * 2


@pytest.mark.parametrize(
    ("names", "values", "sentence"),
    [
        ("calibratoin", [], "did you mean calibration"),
        ("selective", ["selective.confidnce=margin"], "its settings are .*confidence"),
        ("selective", ["selective.confidence=loud"], "selective.confidence: Input should be"),
        ("selective", ["confidence=margin"], "takes NAME.field=value"),
        ("selective", ["conformal.level=0.1"], "is not among the analyses asked"),
    ],
)
def test_a_mistake_in_a_question_is_one_sentence(names, values, sentence):
    with pytest.raises(UserError, match=sentence):
        questions(names, values)


def test_settings_are_read_as_json_or_text():
    (found,) = questions("selective", ["selective.coverages=[0.5]", "selective.confidence=entropy"])
    assert found.settings.coverages == (0.5,)
    assert found.settings.confidence == "entropy"


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_backbone):
    folder = tmp_path_factory.mktemp("analyzed") / "run"
    words = ["--models", "linear@tiny,deepmedix@tiny", "--datasets", "phantom-brain", "--regimes", "centralized"]
    words += ["--seeds", "2", "--keep-epochs"]
    overrides = [word for field in SMALL for word in ("--set", field)]
    tail = ["--protocol", "demo", "--with", "selective", "--out", str(folder), "--json"]
    ended = CliRunner().invoke(app, ["run", *words, *overrides, *tail])
    assert ended.exit_code == 0, ended.output
    told = json.loads(ended.stdout)
    assert [row["status"] for row in told["answers"]] == ["answered"] * 4
    return folder


def test_the_command_answers_resumes_and_enters_the_report(run):
    words = [
        "analyze",
        str(run),
        "--with",
        "selective,calibration",
        "--cells",
        "linear@tiny · phantom-brain · *seed 0",
        "--json",
    ]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.output
    rows = json.loads(ended.stdout)["answers"]
    assert [(row["analysis"], row["status"]) for row in rows] == [("selective", "kept"), ("calibration", "answered")]
    assert rows[0]["columns"]["selective_aurc"]["value"] >= 0
    page = (run / "report/index.html").read_text()
    assert '<section id="analysis-selective">' in page
    assert "<h2>Calibration</h2>" in page
    CliRunner().invoke(app, ["report", str(run)])
    assert "selective_aurc_low" in (run / "report/summary.csv").read_text().splitlines()[0]


def test_questions_to_the_predictor_and_to_other_seeds_are_answered_from_the_folder_alone(run):
    words = ["analyze", str(run), "--with", "membership,explanations", "--cells", "linear@tiny · *seed 1", "--json"]
    small = {"images": 2, "shown": 1, "gradient_steps": 2, "removals": 2}
    words += [word for name, value in small.items() for word in ("--set", f"explanations.{name}={value}")]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.output
    first, second = json.loads(ended.stdout)["answers"]
    assert 0 <= first["columns"]["membership_auc"]["value"] <= 1
    assert "attacked by 1 shadow models" in first["notes"][0]
    assert second["columns"]["explanations_faithfulness_layercam"]["value"] is not None
    assert 'src="data:image/png;base64,' in (run / "report/index.html").read_text()


def test_questions_to_the_whole_run_are_answered_once_and_drawn(run):
    words = ["analyze", str(run), "--with", "optimism,discrimination", "--json"]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.output
    rows = {row["analysis"]: row for row in json.loads(ended.stdout)["answers"]}
    assert {row["cell"] for row in rows.values()} == {"the run's 4 cells"}
    choices = read_answer(run, "optimism").tables["choices"]
    assert [row["chosen"] for row in choices].count("epoch") == 4
    assert [row["chosen"] for row in choices].count("model") == 2
    for kind in ("epoch", "model"):
        mean = np.mean([row["optimism"] for row in choices if row["chosen"] == kind])
        assert rows["optimism"]["columns"][f"optimism_of_{kind}"]["value"] == pytest.approx(mean)
    assert rows["optimism"]["columns"]["optimism_of_protocol"]["value"] is None
    assert "discrimination_power_paired_phantom-brain" in rows["discrimination"]["columns"]
    page = (run / "report/index.html").read_text()
    assert "<h2>Optimism of selection</h2>" in page
    assert "the run&#39;s 4 cells" in page or "phantom-brain · grouped" in page
    again = CliRunner().invoke(app, words)
    assert {row["status"] for row in json.loads(again.stdout)["answers"]} == {"kept"}


def test_a_kept_epochs_metric_is_what_the_cell_had_answered_with_it(run):
    """The epoch that was taken gives the stored accuracy again, by weights that were written apart from it."""
    for stored in Run.open(run).cells():
        best = int(stored.result["metrics"]["best_epoch"])
        candidates = _epochs(stored)
        assert len(candidates) == 2
        assert candidates[best].test == pytest.approx(stored.result["metrics"]["accuracy"], abs=1e-9)
        assert candidates[best].validation == max(each.validation for each in candidates)


def test_a_failed_analysis_is_exit_code_1_and_named_in_the_report(run, tmp_path):
    words = ["analyze", str(run), "--with", "subgroups", "--set", f"subgroups.metadata={tmp_path}/none.csv"]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 1
    assert "metadata file" in ended.output
    assert "the analysis failed: metadata file" in (run / "report/index.html").read_text()


def test_a_pattern_that_matches_no_cell_is_a_mistake(run):
    ended = CliRunner().invoke(app, ["analyze", str(run), "--with", "selective", "--cells", "vgg*"])
    assert isinstance(ended.exception, UserError)
    assert "none of the 4 finished cells" in str(ended.exception)


def test_the_listing_names_every_analysis_with_its_settings():
    rows = json.loads(CliRunner().invoke(app, ["analyze", "list", "--json"]).stdout)
    assert [row["name"] for row in rows] == ANALYSES.names()
    assert next(row for row in rows if row["name"] == "selective")["settings"]["confidence"] == "highest"
