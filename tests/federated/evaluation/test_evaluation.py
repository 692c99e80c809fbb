"""A frozen model put to sites: metrics by hand, consent, and the deployed app against the simulation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.cli.app import app as cli
from bench.core.config import Runtime, load_protocol
from bench.core.errors import UserError
from bench.executors.run import execute
from bench.harness.plan import Request as PlanRequest
from bench.harness.plan import make_plan
from bench.store.run import Run
from federated.deployment.apps import client_app
from federated.deployment.consortium import Consortium, Site, create
from federated.evaluation.answer import answer_of
from federated.evaluation.approval import Refused, approve, check
from federated.evaluation.ask import lead_request
from federated.evaluation.commands import Asked, in_simulation, request_of
from federated.evaluation.pooling import pooled
from federated.evaluation.request import Frozen, Rehearsal, Request, read_request, write_request
from federated.simulation.inprocess import InProcessGrid
from federated.transport import wire

CLASSES = ("rim", "diffuse", "midline")
SMALL = ["image_size=32", "epochs=1", "synthetic_images=120", "timing_batch_size=2", "bootstrap_resamples=100"]
WAITING = {"gather-timeout": 1.0, "round-timeout": 30.0}


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: None) -> Iterator[Path]:
    """A finished fedavg cell of three clients."""
    folder = tmp_path_factory.mktemp("frozen")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(folder / "cache"))
        protocol = load_protocol("demo", [*SMALL, "federated.clients=3"])
        asked = PlanRequest(
            models="linear@tiny", datasets="phantom-brain", regimes="fedavg", protocol=protocol, seeds="1"
        )
        assert execute(make_plan(asked), Run.create(folder / "run"), Runtime(timing="off"), []).done == 1
        (found,) = Run.open(folder / "run").cells()
        yield found.folder


@pytest.fixture
def trial(tmp_path: Path) -> Consortium:
    return create(tmp_path / "trial", "trial", "127.0.0.1", 18443, ["a", "b", "c"])


def plain_request(**fields: Any) -> Request:
    return Request(**{"purpose": "p", "model": "m", "sha256": "0" * 64, "classes": ("x", "y"), "sites": 2, **fields})


def test_what_a_site_tells_by_hand() -> None:
    """Four images of four patients: three right, the third wrong; mean confidence 0.75, so overconfidence is 0."""
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.4, 0.6]], np.float32)
    told = answer_of(np.array([0, 1, 0, 1]), probabilities, np.array(["p", "q", "r", "s"]), ("x", "y"))
    assert told["confusion"] == [[1, 1], [0, 2]]
    assert (told["images"], told["groups"], told["method"]) == (4, 4, "jackknife over groups, Student's t")
    assert told["metrics"]["accuracy"]["value"] == 0.75
    # Without a patient 2/3, 2/3, 1, 2/3: sqrt(3/4 * (3 (1/12)^2 + (1/4)^2)) = 1/4.
    assert told["metrics"]["accuracy"]["error"] == pytest.approx(0.25)
    assert told["metrics"]["recall_x"]["value"] == 0.5
    assert told["metrics"]["overconfidence"]["value"] == pytest.approx(0.0, abs=1e-7)
    assert told["reliability"] == []  # no bin holds five images


def test_a_share_is_pooled_on_the_logit_and_a_loss_as_it_is() -> None:
    """Equal accuracies 0.8 with errors 0.04: logit errors 0.25 each, the mean's 0.25 / sqrt(2)."""
    row = {"accuracy": {"value": 0.8, "error": 0.04}, "log_loss": {"value": 0.5, "error": 0.1}}
    found = {each["metric"]: each for each in pooled([{"metrics": row, "groups": 40}] * 2)}
    assert (found["accuracy"]["scale"], found["log_loss"]["scale"]) == ("logit", "as it is")
    assert found["accuracy"]["value"] == pytest.approx(0.8)
    assert found["accuracy"]["error"] == pytest.approx(0.25 / math.sqrt(2))
    assert (found["log_loss"]["value"], found["log_loss"]["error"]) == pytest.approx((0.5, 0.1 / math.sqrt(2)))


def test_an_accuracy_of_one_counts_half_a_group_against_itself() -> None:
    whole = {"metrics": {"accuracy": {"value": 1.0, "error": 0.0}}, "groups": 9}
    (found,) = pooled([whole, whole])
    assert found["value"] == pytest.approx(9.5 / 10)
    assert found["error"] == pytest.approx(math.sqrt((1 / 9.5 + 1 / 0.5) / 2))


def test_a_figure_that_one_site_alone_knows_is_not_pooled() -> None:
    known, unknown = {"value": 0.5, "error": 0.1}, {"value": None, "error": None}
    assert pooled([{"metrics": {"roc_auc": each}, "groups": 5} for each in (known, unknown)]) == []


def test_a_request_is_read_back_and_its_digest_is_of_every_field(tmp_path: Path) -> None:
    request = plain_request(rehearsal=Rehearsal("test", "grouped", 3, "iid", 2, 0.5, 2, 60, 32))
    write_request(tmp_path, request, Frozen(b"{}", b"w"))
    assert read_request(tmp_path / "request.json") == request
    changed = [replace(request, **{name: value}) for name, value in (("fewest", 1), ("purpose", "q"), ("sha256", "1"))]
    assert len({each.digest for each in (request, *changed)}) == 4


def test_consent_is_signed_for_one_request_and_a_time(trial: Consortium) -> None:
    site, other, request = Site.open(trial.site("a")), Site.open(trial.site("b")), plain_request()
    with pytest.raises(Refused, match=r"has not approved the request [0-9a-f]{12}; its administrator runs `bench fed"):
        check(request, site.folder)
    path = approve(request, site, 30)
    check(request, site.folder)
    assert (site.folder / "approval.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Refused, match="has not approved"):
        check(replace(request, fewest=1), site.folder)
    with pytest.raises(Refused, match=r"ended on \d{4}-\d\d-\d\d"):
        check(request, site.folder, date.today() + timedelta(days=40))
    # Another site's consent, and one whose date was pushed out, are signed by nobody here.
    signed = json.loads(path.read_text())
    approve(request, other, 30)
    for forged in (
        (other.folder / "approved" / path.name).read_text(),
        json.dumps({**signed, "until": "2999-01-01"}),
        json.dumps({**signed, "signature": "zz"}),
        "{",
    ):
        path.write_text(forged)
        with pytest.raises(Refused, match="not signed with its administrator's key"):
            check(request, site.folder)
    with pytest.raises(UserError, match=r"approval.pub belongs to another key; sign with that one"):
        approve(request, site, 30, site.folder / "another.key")


def deployed(cell: Path, trial: Consortium, out: Path, approving: tuple[str, ...]) -> tuple[dict[str, Any], list[Any]]:
    """The deployed app in this process, a site a node, each with its own folder."""
    request, frozen, _ = request_of(Asked(cell, consortium=trial.folder, rehearse=True, fewest=5))
    write_request(out, request, frozen)
    for name in approving:
        approve(request, Site.open(trial.site(name)), 1)
    heard: list[Any] = []

    class Sites(InProcessGrid):
        def _context(self, node: int, partition: int) -> Any:
            context = super()._context(node, partition)
            state = str(trial.site("abc"[partition]) / "state")
            context.node_config.update({"data": "phantom-brain", "state": state})
            return context

        def _answer(self, message: Any) -> Any:
            heard.append(super()._answer(message))
            return heard[-1]

    return lead_request(Sites(client_app, 3), request.to_json(), out, WAITING), heard


def test_a_deployment_and_a_simulation_end_in_the_same_numbers(cell: Path, trial: Consortium, tmp_path: Path) -> None:
    request, frozen, table = request_of(Asked(cell, fewest=5))
    simulated = in_simulation(request, frozen, table, None)
    found, heard = deployed(cell, trial, tmp_path / "out", ("a", "b", "c"))
    assert [site["status"] for site in found["sites"]] == ["answered"] * 3
    unnamed = [[{**site, "site": ""} for site in each["sites"]] for each in (found, simulated)]
    assert unnamed[0] == unnamed[1]
    assert found["pooled"] == simulated["pooled"]
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == found
    # The clients are those of the cell itself.
    stored = Run.open(cell.parents[1]).cells()[0].predictions().to_pandas()
    right = stored[[f"p_{name}" for name in CLASSES]].to_numpy().argmax(1) == stored["label"]
    by_client = right.groupby(stored["client"]).mean()
    told = {site["site"]: site["metrics"]["accuracy"]["value"] for site in simulated["sites"]}
    assert told == pytest.approx(by_client.to_dict())
    # Nothing but a partition's number and one text of counts and metrics crosses the wire.
    for reply in heard:
        assert list(reply.content) == [wire.CONFIG]
        assert set(wire.config_of(reply.content)) == {"partition", "answer"}
        names = set(json.loads(str(wire.config_of(reply.content)["answer"])))
        assert names == {"images", "groups", "method", "confusion", "metrics", "reliability"}


def test_a_site_that_did_not_approve_runs_nothing(
    cell: Path, trial: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    load: Callable[..., Any] = Frozen.write
    monkeypatch.setattr(Frozen, "write", lambda self, folder: (asked.append(folder), load(self, folder)))
    found, heard = deployed(cell, trial, tmp_path / "out", ("a", "c"))
    assert [site["status"] for site in found["sites"]] == ["answered", "refused", "answered"]
    assert found["sites"][1]["why"].startswith("this site has not approved the request")
    assert str(tmp_path) not in str(wire.config_of(heard[1].content)["refused"])
    assert len([folder for folder in asked if "bench-frozen-" in folder.name]) == 2
    assert {row["sites"] for row in found["pooled"] if row["metric"] == "accuracy"} == {2}
    with pytest.raises(UserError, match="no site answered: site 0: this site has not approved"):
        deployed(cell, create(tmp_path / "other", "o", "h", 1, ["a", "b", "c"]), tmp_path / "out2", ())


def test_another_model_than_the_request_s_is_refused(cell: Path, trial: Consortium, tmp_path: Path) -> None:
    request, frozen, _ = request_of(Asked(cell, consortium=trial.folder, rehearse=True, fewest=5))
    write_request(tmp_path / "out", request, replace(frozen, about=frozen.about + b" "))
    with pytest.raises(UserError, match="the model that came is not the one of the request"):
        simulated_with(request, tmp_path / "out")


def simulated_with(request: Request, folder: Path) -> dict[str, Any]:
    from bench.data.registry import load
    from federated.evaluation.ask import simulated
    from federated.evaluation.request import MODEL

    assert request.rehearsal is not None
    return simulated(request, Frozen.read(folder / MODEL), load("phantom-brain", request.rehearsal.protocol))


def test_a_small_site_tells_nothing(cell: Path) -> None:
    request, frozen, table = request_of(Asked(cell, fewest=1000))
    with pytest.raises(UserError, match="client 1: this site holds fewer than 1000 images"):
        in_simulation(request, frozen, table, None)


def test_the_commands(cell: Path, trial: Consortium, tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(cli, ["fed", "evaluate", str(cell), "--clients", "2", "--fewest", "5", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {row["metric"] for row in found["pooled"]} >= {"accuracy", "overconfidence", "brier"}
    assert sum(site["images"] for site in found["sites"]) == len(
        Run.open(cell.parents[1]).cells()[0].predictions().to_pandas()
    )
    more = str(min(site["images"] for site in found["sites"]) + 1)
    refused = runner.invoke(cli, ["fed", "evaluate", str(cell), "--clients", "2", "--fewest", more])
    assert (refused.exit_code, f"holds fewer than {more} images" in refused.output) == (1, True)
    words = ["fed", "evaluate", str(cell), "--consortium", str(trial.folder), "--rehearse", "--prepare"]
    prepared = runner.invoke(cli, [*words, "--out", str(tmp_path / "asked")])
    assert prepared.exit_code == 0, prepared.output
    signed = runner.invoke(cli, ["fed", "approve", str(tmp_path / "asked" / "request.json"), str(trial.site("b"))])
    assert signed.exit_code == 0, signed.output
    check(read_request(tmp_path / "asked" / "request.json"), trial.site("b"))
