"""The page for administrators, docs/deployment.md, followed line by line in an empty folder: sites, nginx, TLS."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.torch import load_file

from bench.core.config import load_protocol
from bench.data.registry import load as load_dataset
from federated.deployment.keys import site_key
from federated.deployment.task import Task

pytestmark = [pytest.mark.deployment, pytest.mark.long, pytest.mark.timeout(3000)]
PAGE = (Path(__file__).parents[3] / "docs" / "deployment.md").read_text()
STEPS = dict(re.findall(r"^# step: ([\w -]+)\n((?:(?!# step:|```).*\n)+)", PAGE, re.MULTILINE))
SITES = ("a", "b", "c")
PATIENCE = 900.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Machine:
    """An empty folder in which the page's lines are typed, with free ports in the place of the page's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.running = folder, {}  # type: ignore[var-annotated]
        self.ports = {"8443": str(free_port()), "18443": str(free_port())}
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
        own = {"BENCH_HOME": str(folder / "home"), "BENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        self.environment = {**os.environ, **own, "PATH": programs, "PYTHONPATH": str(Path(__file__).parents[3])}

    def lines(self, step: str) -> str:
        return re.sub(r"\b(18443|8443)\b", lambda found: self.ports[found[1]], STEPS[step])

    def type(self, step: str) -> str:
        """Run a step to its end; what it said."""
        return self.run(self.lines(step), step)

    def run(self, lines: str, name: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", lines],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        (self.folder / f"{name}.log").write_text(done.stdout + done.stderr)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def leave_running(self, step: str, lines: str = "") -> None:
        """Start a step that goes on, as a service manager does."""
        with (self.folder / f"{step}.log").open("ab") as log:
            self.running[step] = subprocess.Popen(
                ["bash", "-c", f"exec {(lines or self.lines(step)).strip()}"],
                cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def log(self, step: str) -> str:
        path = self.folder / f"{step}.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def await_words(self, step: str, words: str, seconds: float = PATIENCE, after: int = 0) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.log(step)[after:]:
            assert time.monotonic() < deadline, f"{step} did not say {words!r}: {self.log(step)[-3000:]}"
            time.sleep(0.5)

    def end(self, step: str) -> int:
        """SIGTERM, as a service manager stops it."""
        process = self.running.pop(step)
        process.terminate()
        return int(process.wait(timeout=60))

    def clear(self) -> None:
        """End whatever was started here; Flower's programs start theirs in sessions of their own."""
        for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
            told = " ".join(process.info["cmdline"] or [])
            if str(self.folder) in told or process.info["cwd"] == str(self.folder):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    if shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("Debian's nginx is not installed")
    made = Machine(tmp_path / "elsewhere")
    made.folder.mkdir()
    yield made
    made.clear()


def tapped(machine: Machine) -> Path:
    """Let nginx keep what it passes on: the bodies of the sites' requests, and a line of sizes for each."""
    wire = machine.folder / "wire"
    wire.mkdir()
    path = machine.folder / "server-machine" / "server" / "nginx.conf"
    kept = f"client_body_in_file_only on; client_body_temp_path {wire};"
    text = path.read_text().replace("proxy_request_buffering off;", kept)
    counted = f"log_format sizes '$uri $request_length $bytes_sent'; access_log {machine.folder}/sizes.log sizes;"
    path.write_text("user root;\n" + text.replace("http {", f"http {{ {counted}"))
    return wire


def sizes(machine: Machine) -> dict[str, int]:
    """Bytes up and down through TLS' end, heartbeats and polls included."""
    rows = [line.split() for line in (machine.folder / "sizes.log").read_text().splitlines()]
    return {"requests": len(rows), "up": sum(int(row[1]) for row in rows), "down": sum(int(row[2]) for row in rows)}


def rehearsed_task(machine: Machine) -> Task:
    fields = re.findall(r"--set (\S+)", machine.lines("train"))
    asked = Task(
        "phantom-brain", "squeezenet1_1", "fedavg", load_protocol("demo", fields), ("rim", "diffuse", "midline"), 3,
        rehearsal=True,
    )  # fmt: skip
    return asked.with_statistics("phantom-brain")


def test_the_page_leads_to_a_consortium_that_works(
    machine: Machine, simulate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.type("make")
    machine.type("hand over")
    shutil.move(machine.folder / "trial", machine.folder / "away")  # nothing may look where it was made
    wire = tapped(machine)
    machine.leave_running("proxy")
    machine.leave_running("site hospital-a")  # before its server
    machine.await_words("site hospital-a", "does not answer")
    machine.leave_running("server")
    machine.await_words("server", "bench: ready")
    assert "has no authentication: whoever has an account on this machine" in machine.log("server")
    looked = machine.type("look")
    assert "FAILED" not in looked
    refuse_a_stranger(machine)
    for name in ("a", "b"):
        machine.leave_running(f"site hospital-{name}")

    before = sizes(machine)
    machine.leave_running("train")
    machine.await_words("train", "run ")
    machine.leave_running("site hospital-c")  # late
    machine.await_words("train", "weights: ")
    assert machine.running.pop("train").wait(timeout=60) == 0
    measured(machine, before, capsys)
    nothing_of_a_site_was_sent(machine, wire)
    task = rehearsed_task(machine)
    monkeypatch.setenv("BENCH_CACHE", str(machine.folder / "simulation"))
    expected = simulate(task).best
    found = load_file(machine.folder / "first" / "best.safetensors")
    # The masks cancel in whole numbers, so both quantise alike.
    assert max(float((found[name] - expected[name]).abs().max()) for name in found) < 1e-4

    no_key_in_a_log(machine)


def test_a_revoked_site_stops_and_a_renewed_certificate_lets_the_others_back_in(machine: Machine) -> None:
    for step in ("make", "hand over"):
        machine.type(step)
    for step in ("proxy", "server", "site hospital-a", "site hospital-b"):
        machine.leave_running(step)
    for name in ("a", "b"):
        machine.await_words(f"site hospital-{name}", "SuperNode ID")
    revoke_and_renew(machine)
    no_key_in_a_log(machine)


def refuse_a_stranger(machine: Machine) -> None:
    """A site whose key nobody registered is told so, on both sides; the control path is closed to it."""
    shutil.copytree(machine.folder / "site-a" / "site", machine.folder / "stranger")
    (machine.folder / "stranger" / "site.key").write_bytes(site_key()[0])
    said = machine.run("bench fed check stranger --data phantom-brain", "stranger")
    assert "membership: localhost" in said
    assert "does not take this site's key: it is not registered there or was revoked" in said
    machine.await_words("server", "bench: a site was refused: its key is not registered here or was revoked", 60)
    for path, status in (("/v1/control/list-nodes", "404"), ("/v1/fleet/pull-messages", "401")):
        url = f"https://localhost:{machine.ports['8443']}{path}"
        curl = f"curl -s -o /dev/null -w '%{{http_code}}' --cacert site-a/site/ca.crt -X POST {url}"
        assert machine.run(curl, "curl").strip() in (status, "415" if status == "401" else status)


def measured(machine: Machine, before: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    """Say bytes and seconds of the round; the sites' own count of the vectors must be within what passed."""
    now = sizes(machine)
    moved = {name: now[name] - before[name] for name in now}
    (row,) = json.loads((machine.folder / "first" / "status.json").read_text())["history"]
    with capsys.disabled():
        print(f"\none round with SecAgg+ over TLS: {moved}, history {row}")
    assert moved["up"] > row["up_mb"] * 1e6 * 0.99
    assert (row["clients_asked"], row["clients_answered"]) == (3, 3)


def nothing_of_a_site_was_sent(machine: Machine, wire: Path) -> None:
    bodies = b"".join(path.read_bytes() for path in sorted(wire.rglob("*")) if path.is_file())
    assert len(bodies) > 50_000
    table = load_dataset("phantom-brain", rehearsed_task(machine).protocol)
    images = [np.ascontiguousarray(table.images.read(row)).tobytes()[:400] for row in range(0, len(table), 5)]
    labels = [table.labels[:20].astype(kind).tobytes() for kind in (np.int64, np.int32, np.int8)]
    names = [str(machine.folder).encode(), b"phantom", *(str(one).encode() for one in table.ids[:5]), b"diffuse"]
    keys = [(machine.folder / f"site-{name}" / "site" / "site.key").read_bytes()[40:100] for name in SITES]
    found = [secret for secret in [*images, *labels, *names, *keys] if secret in bodies]
    assert found == []


def revoke_and_renew(machine: Machine) -> None:
    machine.type("revoke")
    process = machine.running.pop("site hospital-b")
    assert process.wait(timeout=PATIENCE) == 2
    assert "does not take this site's key" in machine.log("site hospital-b").splitlines()[-1]
    machine.type("renew")
    seen = len(machine.log("site hospital-a"))
    assert machine.end("server") == 128 + signal.SIGTERM
    machine.end("proxy")
    machine.leave_running("proxy")
    machine.leave_running("server")
    machine.await_words("site hospital-a", "SuperNode ID", after=seen)


def no_key_in_a_log(machine: Machine) -> None:
    keys = [path for path in machine.folder.rglob("*.key") if path.is_file()]
    assert len(keys) >= 6
    secrets = [line for key in keys for line in key.read_bytes().splitlines() if len(line) > 60]
    for log in machine.folder.glob("*.log"):
        text = log.read_bytes()
        assert not [secret for secret in secrets if secret in text], log
