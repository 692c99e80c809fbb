"""Starting Flower's own programs with the right options: the server, a site, a run."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.core.atomic import write_text
from bench.core.errors import UserError
from federated.deployment import membership
from federated.deployment.consortium import CELL, Consortium, Site
from federated.deployment.members import Explained, register
from federated.deployment.programs import environment, flwr, json_in, last_line, program
from federated.deployment.status import read_status

_READY_SECONDS, _POLL_SECONDS, _AGAIN_SECONDS = 60.0, 2.0, 10.0
# A server that was started again registers keys within its first minute, and one that lost a site waits as long for it.
_REFUSED_SECONDS = 150.0


def server_command(made: Consortium, bind: str = "127.0.0.1") -> list[str]:
    """The SuperLink: TLS and site authentication.

    Its own state is kept in memory on purpose. From a database a restarted SuperLink would hand out the messages of the
    run that died with it; what must outlive a server is the round's checkpoint, and keys are made known at each start.
    """
    return [
        program("flower-superlink"),
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
        port: for the children, on loopback; None: one that is free.
    """
    own = port or _free_port()
    state = site.folder / "state"
    config = {
        "partition-id": site.partition,
        "num-partitions": site.partitions,
        "data": json.dumps(dataset),
        "state": json.dumps(str(state)),
    }
    return [
        program("flower-supernode"),
        *("--superlink", f"{site.host}:{site.port}"),
        *("--root-certificates", str(site.folder / "ca.crt")),
        *("--auth-supernode-private-key", str(site.folder / "site.key")),
        *("--node-config", " ".join(f"{name}={value}" for name, value in config.items())),
        *("--port", str(own)),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(made: Consortium, bind: str = "127.0.0.1") -> int:
    """Run the SuperLink until it ends, and register the sites' keys once it is up; returns its exit status.

    Its log passes through, with a sentence where a site was refused.

    Raises:
        UserError: when it does not come up, or a key is refused.
    """
    _end_on_sigterm()
    print(_exposure(made, bind), flush=True)
    process = subprocess.Popen(
        server_command(made, bind), env=environment(made), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    reader = threading.Thread(target=_pass_on, args=(process, Explained(made)), daemon=True)
    reader.start()
    try:
        _wait_until_up(made, process)
        register(made)
        print(
            f"bench: ready; the keys of {len(made.sites)} sites were looked for in {made.server / 'sites'}", flush=True
        )
        return process.wait()
    finally:
        _stop(process)
        reader.join(timeout=5)


def _exposure(made: Consortium, bind: str) -> str:
    """Who can start code at the sites, in words: Flower's free distribution has no authentication to switch on."""
    who = "whoever has an account on this machine"
    if bind not in ("127.0.0.1", "::1", "localhost"):
        who = f"whoever reaches port {made.internal_port} of {bind}"
    return (
        f"bench: Flower's control interface has no authentication: {who} can start code at every site; let nobody else "
        "in, and pass only /v1/fleet/ to the outside (nginx.conf)"
    )


def _pass_on(process: subprocess.Popen[str], explained: Explained) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        for words in explained(line.rstrip("\n")):
            print(words, flush=True)


def attend(site: Site, dataset: str, port: int | None = None) -> None:
    """Run the SuperNode until this process is told to end, and start it again whenever it gives up.

    A SuperNode leaves (with status 0) when its server was replaced or no longer knows it.

    Args:
        site: the site's folder.
        dataset: its registered name on this machine.
        port: for the children, on loopback; None: one that is free.

    Raises:
        UserError: the server refuses the key for two minutes and a half.
    """
    (site.folder / "state").mkdir(exist_ok=True)
    _end_on_sigterm()
    while True:
        await_admission(site)
        process = subprocess.Popen(site_command(site, dataset, port), env=environment(site))
        try:
            status = process.wait()
        finally:
            _stop(process)
        print(f"the SuperNode ended with status {status}; it is started again in {_AGAIN_SECONDS:.0f} s", flush=True)
        time.sleep(_AGAIN_SECONDS)


def await_admission(site: Site, patience: float = _REFUSED_SECONDS, pause: float = _AGAIN_SECONDS) -> None:
    """Wait until the server takes this site's key, and say what it waits for, each reason once.

    A server that is away is waited for without end.

    Args:
        site: the site's folder.
        patience: seconds of refusals in a row.
        pause: seconds between two questions.

    Raises:
        UserError: after so long, in the words of the refusal.
    """
    told, since = "", time.monotonic()
    while (answer := membership.ask(site)) != "taken":
        words = membership.sentence(site, answer)
        if answer == "away":
            since = time.monotonic()
        elif time.monotonic() - since >= patience:
            raise UserError(words)
        if answer != told:
            print(f"{words}; asked again every {pause:.0f} s", flush=True)
        told = answer
        time.sleep(pause)


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
    done = flwr(made, "run", str(made.server / "app"), CELL, "--run-config", str(config), "--format", "json")
    answer = json_in(done.stdout)
    if done.returncode != 0 or not answer.get("run-id"):
        raise UserError(f"the server did not start the run: {last_line(done.stdout + done.stderr)}")
    return str(answer["run-id"])


def run_status(made: Consortium, run: str) -> str:
    """A run's status in Flower's words ("running", "finished:completed", "finished:failed" ...); "" when unknown."""
    done = flwr(made, "list", CELL, "--run-id", run, "--format", "json")
    runs = json_in(done.stdout).get("runs", [])
    return str(runs[0].get("status", "")) if runs else ""


def run_log(made: Consortium, run: str) -> str:
    """What the run's server app has logged so far."""
    return flwr(made, "log", run, CELL, "--show").stdout


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


def _wait_until_up(made: Consortium, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"the SuperLink ended at once with status {process.returncode}; its words stand above")
        if flwr(made, "list", CELL, "--format", "json").returncode == 0:
            return
        time.sleep(_POLL_SECONDS)
    raise UserError(f"the SuperLink did not answer within {_READY_SECONDS:.0f} s")


def _end_on_sigterm() -> None:
    """Let a service manager's SIGTERM unwind the stack, so that Flower's program does not outlive this one."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def _stop(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
