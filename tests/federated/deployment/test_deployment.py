"""A deployment on loopback: TLS, keys, a killed site, a killed server, a resumed run, and the same bits in the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.core.config import Protocol, load_protocol
from bench.data.registry import load as load_dataset
from bench.store.layout import LAST
from federated.deployment import operate
from federated.deployment.consortium import Consortium, Site, create
from federated.deployment.keys import Authority, site_key
from federated.deployment.task import Task
from federated.evaluation.approval import approve
from federated.evaluation.ask import simulated
from federated.evaluation.pooling import pooled
from federated.evaluation.request import Frozen, Rehearsal, Request, write_request
from models.network import Normalization
from models.predictor import Card, NetworkPredictor
from models.recipes.batches import Preparation
from models.registry import MODELS

# Three minutes on two free cores: test_rehearsal.py holds the same equality without Flower's programs at every run.
pytestmark = [pytest.mark.deployment, pytest.mark.long, pytest.mark.timeout(900)]
SITES = ("a", "b", "c")
SETTINGS = {"gather-timeout": 200.0, "round-timeout": 200.0, "minimum-sites": 0}
OVERRIDES = [
    *("image_size=64", "synthetic_images=60", "batch_size=4", "feature_views=2"),
    *("federated.clients=3", "federated.rounds=3"),
]


class Programs:
    """Flower's programs, each in a session of its own, so that a kill takes its children too."""

    def __init__(self, logs: Path) -> None:
        self.logs, self.running = logs, {}  # type: ignore[var-annotated]

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.running[name] = process
        return process

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        for group in {process.pid, *children_sessions(process.pid)}:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        process.wait(timeout=20)

    def stop(self) -> None:
        for name in list(self.running):
            self.kill(name)


def children_sessions(root: int) -> set[int]:
    """Process groups of all descendants: Flower's programs start theirs in new sessions."""
    import psutil

    try:
        return {os.getpgid(child.pid) for child in psutil.Process(root).children(recursive=True)}
    except (psutil.NoSuchProcess, ProcessLookupError):
        return set()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = Programs(tmp_path)
    try:
        yield made
    finally:
        made.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, ready: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def start_server(programs: Programs, made: Consortium) -> None:
    programs.start("server", operate.server_command(made), operate.environment(made))

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", made.internal_port)) == 0

    wait_for("the server's port", answers, 60)
    wait_for("the registration", lambda: registered(made), 60)


def registered(made: Consortium) -> bool:
    try:
        operate.register(made)
    except Exception as error:  # noqa: BLE001 - the port may answer before the interface does
        print("not yet:", error)
        return False
    return True


def start_site(programs: Programs, made: Consortium, name: str) -> None:
    site = Site.open(made.site(name))
    (site.folder / "state").mkdir(exist_ok=True)
    programs.start(name, operate.site_command(site, "phantom-brain", free_port()), operate.environment(site))


def start_strangers(programs: Programs, made: Consortium, folder: Path) -> dict[str, subprocess.Popen[bytes]]:
    """Three sites that must be refused."""
    site = Site.open(made.site("a"))
    command = [*operate.site_command(site, "phantom-brain"), "--max-retries", "1", "--max-wait-time", "5"]
    (folder / "other-ca.crt").write_bytes(Authority.create("another").pem()[0])
    (folder / "stranger.key").write_bytes(site_key()[0])

    def changed(flag: str, value: Path) -> list[str]:
        position = command.index(flag)
        return [*command[: position + 1], str(value), *command[position + 2 :]]

    position = command.index("--root-certificates")
    commands = {
        "wrong-ca": changed("--root-certificates", folder / "other-ca.crt"),
        "unregistered": changed("--auth-supernode-private-key", folder / "stranger.key"),
        "plain-text": [*command[:position], "--insecure", *command[position + 2 :]],
    }
    started = {}
    for name, words in commands.items():
        words[words.index("--port") + 1] = str(free_port())
        started[name] = programs.start(name, words, operate.environment(site))
    return started


def returned(programs: Programs, made: Consortium, name: str) -> bool:
    """Whether a site has given up and was started again."""
    if name in programs.running and programs.running[name].poll() is None:
        return False
    start_site(programs, made, name)
    return True


def rounds_done(out: Path) -> int:
    path = out / "status.json"
    return int(json.loads(path.read_text())["round"]) if path.is_file() else 0


def test_a_consortium_survives_a_lost_site_and_a_lost_server(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulate: Callable[..., Any]
) -> None:
    """The head trains on maps of augmented copies, from a random backbone whose statistics travel to the sites."""
    port = free_port()
    made = create(tmp_path / "trial", "trial", "127.0.0.1", port, list(SITES), port)
    protocol = load_protocol("demo", OVERRIDES)
    classes = ("rim", "diffuse", "midline")
    asked = Task("phantom-brain", "deepmedix", "fedavg", protocol, classes, 3, kind="brain", rehearsal=True)
    task = asked.with_statistics("phantom-brain").checked()
    out = tmp_path / "out"

    start_server(programs, made)
    strangers = start_strangers(programs, made, tmp_path)
    for name in SITES:
        start_site(programs, made, name)
    run = operate.start_run(made, task.to_json(), out, SETTINGS)

    wait_for("round 1", lambda: rounds_done(out) >= 1, 180)
    for name, process in strangers.items():
        assert process.poll() not in (None, 0), f"{name} was not refused"
    programs.kill("c")
    wait_for("round 2", lambda: rounds_done(out) >= 2, 180)
    programs.kill("server")

    start_server(programs, made)
    start_site(programs, made, "c")
    # A service manager starts a site again that gave up on the lost server.
    for name in ("a", "b"):
        wait_for(f"the return of {name}", partial(returned, programs, made, name), 120)
    run = operate.start_run(made, task.to_json(), out, SETTINGS)
    status = operate.follow(made, run, out, lambda row: None)
    assert status == "finished:completed", operate.run_log(made, run)[-3000:]

    status_file = json.loads((out / "status.json").read_text())
    answered = [{int(p) for p in row["answered"].split(",")} for row in status_file["history"]]
    assert len(answered) == 3
    assert answered[0] == answered[2] == {0, 1, 2}
    assert answered[1] == {0, 1}
    assert status_file["history"][0]["lost"] == status_file["history"][2]["lost"] == ""
    assert status_file["history"][1]["lost"].startswith("client 2 (train): the ")
    assert [note for note in status_file["notes"] if "client 2 in round 2: the" in note]
    torch.set_num_threads(1)
    # A cache of its own, or the simulation would be handed the sites' maps.
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "other-cache"))
    expected = simulate(asked, answered).progress
    with np.load(out / LAST) as file:
        assert np.array_equal(file["model.weights"], expected.model.weights)
        assert np.array_equal(file["model.buffers"], expected.model.buffers)
    assert (out / "best.safetensors").is_file()
    ask_for_an_evaluation(made, tmp_path)


def ask_for_an_evaluation(made: Consortium, folder: Path) -> None:
    """Over TLS the sites that approved a frozen model tell what their shares tell in a simulation; another refuses."""
    rehearsal = Rehearsal("all", "grouped", 3, "site", 3, 0.5, 2, 60, 64)
    table = load_dataset("phantom-brain", rehearsal.protocol)
    network = MODELS.get("squeezenet1_1").build(3)
    prepare = Preparation(Normalization((0.5,) * 3, (0.25,) * 3), None, torch.device("cpu"), False)
    card = Card.of(MODELS.get("squeezenet1_1"), table.classes, 64, prepare, Protocol())
    NetworkPredictor(card, network.eval(), torch.device("cpu")).save(folder / "predictor")
    frozen = Frozen.read(folder / "predictor")
    request = Request("a test", "squeezenet1_1", frozen.sha256, table.classes, 3, 5, rehearsal)
    out = folder / "asked"
    write_request(out, request, frozen)
    for name in ("a", "c"):
        approve(request, Site.open(made.site(name)), 1)
    run = operate.start_run(made, request.to_json(), out, SETTINGS)
    assert operate.follow(made, run, out, lambda row: None) == "finished:completed", operate.run_log(made, run)[-3000:]
    found = json.loads((out / "evaluation.json").read_text())
    expected = simulated(request, frozen, table)
    assert [site["status"] for site in found["sites"]] == ["answered", "refused", "answered"]
    assert found["sites"][1]["why"].startswith("this site has not approved the request")
    for number in (0, 2):
        assert {**found["sites"][number], "site": ""} == {**expected["sites"][number], "site": ""}
    assert found["pooled"] == pooled([expected["sites"][number] for number in (0, 2)])
