"""Starting Flower's own programs with the right options: the server, a site, a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import federated
from bench.core.atomic import write_text
from bench.core.errors import UserError
from bench.core.identity import derive_seed
from bench.core.schema import parsed_json
from federated.deployment.consortium import CELL, Consortium, Site
from federated.deployment.status import read_status

_READY_SECONDS, _POLL_SECONDS, _AGAIN_SECONDS = 60.0, 2.0, 10.0
_FIRST_PORT, _PORTS = 20000, 20000


def server_command(made: Consortium, bind: str = "127.0.0.1") -> list[str]:
    """The SuperLink: TLS and site authentication.

    Its own state is kept in memory on purpose. From a database a restarted SuperLink would hand out the messages of the
    run that died with it; what must outlive a server is the round's checkpoint, and keys are made known at each start.
    """
    return [
        _program("flower-superlink"),
        *("--host", bind, "--port", str(made.internal_port)),
        *("--ssl-certfile", str(made.server / "server.crt")),
        *("--ssl-keyfile", str(made.server / "server.key")),
        *("--ssl-ca-certfile", str(made.server / "ca.crt")),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]


def site_command(site: Site, dataset: str, port: int | None = None) -> list[str]:
    """The SuperNode. Each on one machine needs a port of its own for its children; it listens on loopback only.

    Args:
        site: the site's folder.
        dataset: its registered name on this machine.
        port: for the children, on loopback; None: one from the names of consortium and site.
    """
    own = port or _FIRST_PORT + derive_seed("port", site.consortium, site.name) % _PORTS
    state = site.folder / "state"
    config = {
        "partition-id": site.partition,
        "num-partitions": site.partitions,
        "data": json.dumps(dataset),
        "state": json.dumps(str(state)),
    }
    return [
        _program("flower-supernode"),
        *("--superlink", f"{site.host}:{site.port}"),
        *("--root-certificates", str(site.folder / "ca.crt")),
        *("--auth-supernode-private-key", str(site.folder / "site.key")),
        *("--node-config", " ".join(f"{name}={value}" for name, value in config.items())),
        *("--port", str(own)),
    ]


def serve(made: Consortium, bind: str = "127.0.0.1") -> int:
    """Run the SuperLink until it ends, and register the sites' keys once it is up; returns its exit status.

    Raises:
        UserError: when it does not come up, or a key is refused.
    """
    _end_on_sigterm()
    process = subprocess.Popen(server_command(made, bind), env=environment(made))
    try:
        _wait_until_up(made, process)
        register(made)
        return process.wait()
    finally:
        _stop(process)


def attend(site: Site, dataset: str, port: int | None = None) -> None:
    """Run the SuperNode until this process is told to end, and start it again whenever it gives up.

    A SuperNode leaves (with status 0) when its server was replaced and no longer knows it.

    Args:
        site: the site's folder.
        dataset: its registered name on this machine.
        port: for the children, on loopback; None: one from the names of consortium and site.
    """
    (site.folder / "state").mkdir(exist_ok=True)
    _end_on_sigterm()
    while True:
        process = subprocess.Popen(site_command(site, dataset, port), env=environment(site))
        try:
            status = process.wait()
        finally:
            _stop(process)
        print(f"the SuperNode ended with status {status}; it is started again in {_AGAIN_SECONDS:.0f} s", flush=True)
        time.sleep(_AGAIN_SECONDS)


def register(made: Consortium) -> None:
    """Make every site's public key known; one that is known already stays. Raises UserError for a refusal."""
    for name in made.sites:
        key = made.server / "sites" / f"{name}.pub"
        if not key.is_file():
            continue
        done = _flwr(made, "supernode", "register", str(key), CELL)
        text = done.stdout + done.stderr
        if done.returncode != 0 and "already" not in text.lower():
            raise UserError(f"the server did not take the key of {name}: {_last_line(text)}")


def start_run(made: Consortium, task: str, out: Path, settings: dict[str, float]) -> str:
    """Start a run of the consortium's app; returns its number. Raises UserError when the server will not.

    Args:
        made: the consortium.
        task: as `Task.to_json` writes it.
        out: the run's folder on the server.
        settings: of the app, by name.
    """
    lines = {"task": task, "out": str(out.resolve()), **settings}
    config = made.server / "run.toml"
    write_text(config, "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))
    done = _flwr(made, "run", str(made.server / "app"), CELL, "--run-config", str(config), "--format", "json")
    answer = _json_in(done.stdout)
    if done.returncode != 0 or not answer.get("run-id"):
        raise UserError(f"the server did not start the run: {_last_line(done.stdout + done.stderr)}")
    return str(answer["run-id"])


def run_status(made: Consortium, run: str) -> str:
    """A run's status in Flower's words ("running", "finished:completed", "finished:failed" ...); "" when unknown."""
    done = _flwr(made, "list", CELL, "--run-id", run, "--format", "json")
    runs = _json_in(done.stdout).get("runs", [])
    return str(runs[0].get("status", "")) if runs else ""


def run_log(made: Consortium, run: str) -> str:
    """What the run's server app has logged so far."""
    return _flwr(made, "log", run, CELL, "--show").stdout


def follow(made: Consortium, run: str, out: Path, tell: Callable[[dict[str, Any]], None]) -> str:
    """Tell of each round as it is saved, until the run ends; returns its last status.

    Args:
        made: the consortium.
        run: its number.
        out: the run's folder on the server.
        tell: hears of every round's row.
    """
    told = 0
    while True:
        status = run_status(made, run)
        path = out / "status.json"
        history = read_status(path)["history"] if path.is_file() else []
        for row in history[told:]:
            tell(row)
        told = max(told, len(history))
        if status.startswith("finished"):
            return status
        time.sleep(_POLL_SECONDS)


def environment(owner: Consortium | Site) -> dict[str, str]:
    """The programs' environment: no telemetry, Flower's own folder inside the owner's, this package importable."""
    home = owner.home if isinstance(owner, Consortium) else owner.folder / "flower"
    home.mkdir(parents=True, exist_ok=True)
    package = str(Path(federated.__file__).parent.parent)
    path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH", "")) if part)
    own = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_HOME": str(home)}
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, **own, "PYTHONPATH": path, "PATH": programs}


def _wait_until_up(made: Consortium, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"the SuperLink ended at once with status {process.returncode}; its words stand above")
        if _flwr(made, "list", CELL, "--format", "json").returncode == 0:
            return
        time.sleep(_POLL_SECONDS)
    raise UserError(f"the SuperLink did not answer within {_READY_SECONDS:.0f} s")


def _flwr(made: Consortium, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [_program("flwr"), *arguments]
    return subprocess.run(command, env=environment(made), capture_output=True, text=True, timeout=120, check=False)


def _program(name: str) -> str:
    """Flower's program beside this Python. Raises UserError when it is not there."""
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise UserError(f"{name} is not installed beside {sys.executable}; pip install 'flwr>=1.41,<1.43'")
    return str(path)


def _end_on_sigterm() -> None:
    """Let a service manager's SIGTERM unwind the stack, so that Flower's program does not outlive this one."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()


def _json_in(text: str) -> dict[str, Any]:
    """The JSON object in a program's output, which may say more around it."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0:
        return {}
    try:
        return parsed_json("a program's output", text[start : end + 1], dict[str, Any], "look at its log")
    except UserError:
        return {}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
