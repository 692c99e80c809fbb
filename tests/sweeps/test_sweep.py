"""A sweep from its command to the test set."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

import bench.harness.inputs
import sweeps.worker
from bench.cli.app import app
from bench.core.config import load_protocol
from bench.core.errors import UserError
from bench.data.splits import split
from bench.executors.driver import Stop
from bench.harness.trial import TRIAL
from bench.measure.clients import CLIENT_COLUMNS
from bench.store.layout import LAST
from bench.store.run import Run
from models.recipes.callbacks import Interrupted
from sweeps.ledger import Ledger
from sweeps.sweep import prepare, run_sweep
from sweeps.target import Target, protocol_toml, settle


def document(outcome: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(outcome["record"]).read_text())
    return found


def test_trials_never_touch_the_test_part(make_asked: Any, silent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = make_asked(2, overrides=("tuning=full",))
    sweep, _ = prepare(asked)
    spec = sweep.job(sweep.base, lambda event: None, Stop()).spec
    forbidden = set(split(sweep.table, "grouped", spec.data_seed).test.tolist())
    handed: set[int] = set()
    part = bench.harness.inputs.part

    def spying(table: Any, inputs: Any, rows: Any, *views: Any) -> Any:
        handed.update(rows.tolist())
        return part(table, inputs, rows, *views)

    monkeypatch.setattr(bench.harness.inputs, "part", spying)
    run_sweep(asked, silent)
    assert len(handed) + len(forbidden) == len(sweep.table)
    assert not handed & forbidden


def test_a_trial_is_a_cell_with_the_same_seeds(make_asked: Any, silent: Any) -> None:
    asked = make_asked(1, test=True)
    outcome = run_sweep(asked, silent)
    (trial,) = document(outcome)["trials"]
    assert trial["cell"] == outcome["cells"]["tuned"][0]
    stored = {cell.key: cell for cell in Run.open(asked.folder).cells()}
    columns = json.loads((asked.folder / "trials" / trial["cell"] / TRIAL).read_text())["columns"]
    again = stored[trial["cell"]].result
    assert again is not None
    assert again["metrics"]["best_epoch"] == columns["best_epoch"]
    best = int(columns["best_epoch"])
    assert stored[trial["cell"]].history()["val_accuracy"].to_pylist()[best] == pytest.approx(columns["accuracy"])
    assert set(stored) == {*outcome["cells"]["default"], *outcome["cells"]["tuned"]}
    page = Path(outcome["report"]).read_text()
    assert "What tuning brought on the test set" in page
    assert "Sweeps</a>" in page


def test_started_again_it_goes_on_and_may_grow(make_asked: Any, silent: Any) -> None:
    first = run_sweep(make_asked(3), silent)
    before = document(first)["trials"]
    again = run_sweep(make_asked(3), silent)
    assert document(again)["trials"] == before
    grown = run_sweep(make_asked(5), silent)
    assert again["study"] == grown["study"] == first["study"]
    assert document(grown)["trials"][:3] == before
    assert [trial["number"] for trial in document(grown)["trials"]] == [0, 1, 2, 3, 4]


def test_two_sweeps_propose_the_same_trials(make_asked: Any, silent: Any, tmp_path: Path) -> None:
    one, two = (run_sweep(make_asked(4, folder=tmp_path / name), silent) for name in ("one", "two"))
    keep = ("number", "state", "params", "values", "steps", "cell")
    rows = [[{name: trial[name] for name in keep} for trial in document(done)["trials"]] for done in (one, two)]
    assert rows[0] == rows[1]


def test_the_best_protocol_is_a_file_that_run_takes(make_asked: Any, silent: Any, tmp_path: Path) -> None:
    best = tmp_path / "best.toml"
    outcome = run_sweep(make_asked(4, best=best), silent)
    chosen = document(outcome)["trials"][outcome["best"]["number"]]
    values = [trial["values"][0] for trial in document(outcome)["trials"] if trial["values"]]
    assert chosen["values"][0] == max(values)
    protocol = load_protocol(str(best))
    assert protocol.learning_rate == chosen["params"]["learning_rate"]
    assert protocol.batch_size == chosen["params"]["batch_size"]
    arguments = ["run", "--models", "linear@tiny", "--datasets", "phantom-brain", "--regimes", "centralized"]
    planned = CliRunner().invoke(app, [*arguments, "--seeds", "1", "--protocol", str(best), "--dry-run", "--json"])
    assert json.loads(planned.stdout)["cells"][0]["key"] == outcome["cells"]["tuned"][0] == chosen["cell"]


@pytest.mark.parametrize("overrides", [[], ["federated.clients=3", "weights=a b.pth", "learning_rate=1e-05"]])
def test_a_protocol_survives_its_file(tmp_path: Path, overrides: list[str]) -> None:
    protocol = load_protocol("demo", overrides)
    path = tmp_path / "protocol.toml"
    path.write_text(protocol_toml(protocol, "said\ntwice"))
    assert load_protocol(str(path)) == protocol


def test_values_become_a_cell() -> None:
    base = Target("deepmedix", "fedavg", load_protocol("demo"))
    chosen = settle(base, {"epochs": 3, "federated.clients": 2, "model.head": "linear", "regime.name": "fedprox"})
    assert (chosen.model, chosen.regime) == ("linear@mobilenet_v2", "fedprox")
    assert (chosen.protocol.epochs, chosen.protocol.federated.clients, chosen.protocol.batch_size) == (3, 2, 16)
    assert settle(base, {"model.backbone": "resnet18"}).model == "deepmedix@resnet18"
    assert settle(base, {"model.head": "deepmedix-wide"}).model == "deepmedix-wide"
    assert settle(base, {"model.name": "resnet18"}).model == "resnet18"
    with pytest.raises(UserError, match="make no protocol"):
        settle(base, {"epochs": 0})


def test_several_objectives_give_a_front(make_asked: Any, silent: Any, tmp_path: Path) -> None:
    space = tmp_path / "heads.toml"
    space.write_text('[protocol]\nlearning_rate = { low = 1e-3, high = 1e-1, log = true }\n'
                     '[model]\nhead = ["linear", "deepmedix", "deepmedix-wide"]\n')  # fmt: skip
    outcome = run_sweep(make_asked(8, space=space, objectives=("log_loss:min", "macs_m:min")), silent)
    found = document(outcome)
    complete = [trial for trial in found["trials"] if trial["state"] == "complete"]
    assert len(complete) == 8
    beaten = {
        trial["number"]
        for trial in complete
        for other in complete
        if trial["values"] != other["values"]
        and all(mine >= its for mine, its in zip(trial["values"], other["values"], strict=True))
    }  # fmt: skip
    assert set(found["front"]) == {trial["number"] for trial in complete} - beaten
    assert found["best"] == min(complete, key=lambda trial: (trial["values"][0], trial["number"]))["number"]


@pytest.mark.parametrize("regime", ["centralized", "fedavg"])
def test_pruning_ends_a_hopeless_trial_by_epoch_and_by_round(
    make_asked: Any, silent: Any, monkeypatch: pytest.MonkeyPatch, regime: str
) -> None:
    monkeypatch.setattr(sweeps.worker.Trial, "should_prune", lambda trial: trial.number == 1)
    asked = make_asked(2, regime=regime, objectives=("log_loss:min",), overrides=("federated.clients=2",))
    good, hopeless = document(run_sweep(asked, silent))["trials"]
    assert (good["state"], hopeless["state"]) == ("complete", "pruned")
    assert [step for step, _ in good["steps"]] == [1, 2, 3]
    assert [step for step, _ in hopeless["steps"]] == [1]
    assert not list(asked.folder.glob(f"trials/*/{LAST}"))


def test_a_federated_trial_is_judged_on_validation_clients_by_their_name(make_asked: Any, silent: Any) -> None:
    overrides = ("federated.clients=2",)
    asked = make_asked(1, regime="fedavg", objectives=("val_worst_client_accuracy:max",), overrides=overrides)
    (trial,) = document(run_sweep(asked, silent))["trials"]
    (path,) = asked.folder.glob("trials/*/trial.json")
    columns = json.loads(path.read_text())["columns"]
    assert trial["values"] == [columns["val_worst_client_accuracy"]]
    assert not columns.keys() & set(CLIENT_COLUMNS)


@pytest.mark.parametrize("regime", ["fedavg", "local-only"])
def test_a_test_metric_is_no_objective(make_asked: Any, silent: Any, regime: str) -> None:
    with pytest.raises(UserError, match=r"a trial has no column 'worst_client_accuracy'; .*val_worst_"):
        run_sweep(make_asked(1, regime=regime, objectives=("worst_client_accuracy:max",)), silent)


def test_a_stopped_trial_goes_on_from_its_last_epoch(
    make_asked: Any, silent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = make_asked(2, pruner="none")
    run_trial, started = sweeps.worker.run_trial, []

    def stopping(job: Any, timed: bool) -> Any:
        def voice(event: dict[str, Any]) -> None:
            job.on_event(event)
            if event["event"] == "batch" and event["epoch"] == 2:
                raise Interrupted

        return run_trial(sweeps.worker.CellJob(job.planned, job.table, job.folder, job.runtime, voice), timed)

    with monkeypatch.context() as patched:
        patched.setattr(sweeps.worker, "run_trial", stopping)
        patched.setattr(sweeps.worker, "_refuse_if_all_failed", lambda ledger: None)
        sweep, _ = prepare(asked)
        study = optuna.create_study(study_name="s", direction="maximize")
        ledger = Ledger(study, 2, asked.folder / "locks")
        claim = ledger.claim()
        assert claim is not None
        listener = Listener()
        sweeps.worker.run_claim(sweep, study, ledger, claim, listener, Stop())
    assert study.trials[0].state == TrialState.RUNNING
    assert list(asked.folder.glob(f"trials/*/{LAST}"))

    def watching(job: Any, timed: bool) -> Any:
        def voice(event: dict[str, Any]) -> None:
            started.extend([event["epoch"]] if event["event"] == "epoch" else [])
            job.on_event(event)

        return run_trial(sweeps.worker.CellJob(job.planned, job.table, job.folder, job.runtime, voice), timed)

    monkeypatch.setattr(sweeps.worker, "run_trial", watching)
    sweeps.worker.work(sweep, study, ledger, listener, Stop())
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    assert started == [2, 0, 1, 2]
    assert listener.resumed == [False, True, False]


class Listener:
    """Remembers whether trials were resumed."""

    def __init__(self) -> None:
        self.resumed: list[bool] = []

    def started(self, number: int, params: dict[str, Any], resumed: bool) -> None:
        self.resumed.append(resumed)

    def ended(self, trial: Any) -> None:
        pass

    def waiting(self, count: int) -> None:
        raise AssertionError("nobody else works here")


def test_a_failed_trial_is_kept_with_its_reason(make_asked: Any, silent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run_trial = sweeps.worker.run_trial
    calls = iter([False, True, False, False])

    def failing(job: Any, timed: bool) -> Any:
        if next(calls):
            raise ValueError("no such luck")
        return run_trial(job, timed)

    monkeypatch.setattr(sweeps.worker, "run_trial", failing)
    outcome = run_sweep(make_asked(4, pruner="none"), silent)
    assert outcome["trials"] == {"complete": 3, "pruned": 0, "fail": 1, "running": 0}
    assert document(outcome)["trials"][1]["problem"] == "ValueError: no such luck"


def test_when_all_fail_the_sweep_says_why(make_asked: Any, silent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(job: Any, timed: bool) -> Any:
        raise ValueError("no such luck")

    monkeypatch.setattr(sweeps.worker, "run_trial", failing)
    with pytest.raises(UserError, match="every trial failed, the first by ValueError: no such luck"):
        run_sweep(make_asked(2), silent)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"objectives": ("acuracy:max",)}, "no column 'acuracy'; did you mean accuracy"),
        ({"objectives": ("accuracy",)}, "COLUMN:max or COLUMN:min, not 'accuracy'"),
        ({"objectives": ("accuracy:max", "accuracy:min")}, "names a column twice"),
        ({"objectives": ("up_mb:min",)}, "no column 'up_mb'"),
        ({"objectives": ("accuracy:max", "macs_m:min"), "pruner": "halving"}, "--pruner works with one --objective"),
        ({"pruner": "median"}, "--pruner takes hyperband, halving, none"),
        ({"storage": "study.txt"}, "not 'study.txt'"),
        ({"storage": "nosuch://host/base"}, "nosuch"),
        ({"model": "depmedix"}, "no model is called 'depmedix'"),
        ({"regime": "all"}, "one --regime"),
    ],
)
def test_mistakes_are_refused_before_the_first_trial(
    make_asked: Any, silent: Any, changes: dict[str, Any], sentence: str
) -> None:
    asked = make_asked(**changes)
    with pytest.raises(UserError, match=sentence):
        run_sweep(asked, silent)
    assert not (asked.folder / "trials").exists()


def test_a_journal_file_is_a_storage_too(make_asked: Any, silent: Any, tmp_path: Path) -> None:
    storage = str(tmp_path / "shared" / "study.log")
    first = run_sweep(make_asked(2, storage=storage), silent)
    assert Path(storage).is_file()
    elsewhere = run_sweep(make_asked(3, storage=storage, folder=tmp_path / "elsewhere"), silent)
    assert elsewhere["study"] == first["study"]
    assert [trial["number"] for trial in document(elsewhere)["trials"]] == [0, 1, 2]
    assert len(list((tmp_path / "elsewhere" / "trials").iterdir())) == 1


def test_the_command_module_loads_nothing_heavy() -> None:
    code = "import sys, bench.cli.sweep; print([m for m in ('torch', 'optuna', 'pandas') if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
