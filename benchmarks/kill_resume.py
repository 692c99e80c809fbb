"""Kill commands at random moments with SIGKILL, start them again each time, and compare with undisturbed ones.

    python benchmarks/kill_resume.py --kinds full,head --kills 20 --out /tmp/kill_resume

A kind's command is killed until so many kills have met a living process. When it ends before its kill, what it left is
compared, and it starts anew in an empty folder. Everything but clocks must be equal bit for bit: predictions, chosen
weights, histories, metrics, intervals, costs, tables, answers.

Most commands run in a process that is forked from one which has imported the packages already (`forkserver`), so that
kills meet work and not imports; every tenth, and each of a command that starts processes of its own, is a new
interpreter.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from kill_kinds import ROOT, Kind, filled, kinds, prepare

sys.path.insert(0, str(ROOT))
from tools.postgres import Postgres

PRELOADED = [
    *("bench.cli.app", "torch", "pytorch_lightning", "sklearn.metrics", "statsmodels.api", "pyarrow.parquet"),
    *("bench.executors.run", "bench.executors.show", "bench.analyses.run", "federated.simulation.cell"),
    *("sweeps.sweep", "reports.write", "bench.data.audit.audit"),
]
# Ray ends workers where other programs fill the machine's memory, which is no part of what is looked at.
_RAY = {"RAY_memory_monitor_refresh_ms": "0"}
LONGEST = 0.6  # of the undisturbed command's time, in which a kill falls


@dataclass
class Tally:
    """What became of a kind's kills.

    Attributes:
        alive: kills that met a living process; `missed`, that came after its end.
        compared: finished commands that were compared, of which `equal` were.
        seconds: of the undisturbed command.
    """

    kind: str
    alive: int = 0
    missed: int = 0
    compared: int = 0
    equal: int = 0
    seconds: float = 0.0


class Forked:
    """A command in a forked process, seen as subprocess.Popen shows one."""

    def __init__(self, words: list[str], environment: dict[str, str], log: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process = context.Process(target=_work, args=(words, environment, log))
        self._process.start()

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit status; None when it lives on after `timeout` seconds."""
        self._process.join(timeout)
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


class Fresh:
    """A command in an interpreter and a session of its own."""

    def __init__(self, words: list[str], environment: dict[str, str], log: Path) -> None:
        command = [sys.executable, "-m", "bench", *words]
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                command, env=environment, start_new_session=True, stdout=said, stderr=subprocess.STDOUT
            )

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit status; None when it lives on after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """SIGKILL, which meets the driver and not the processes that it started."""
        self._process.kill()


def _work(words: list[str], environment: dict[str, str], log: Path) -> None:
    from bench.cli.app import main

    os.environ.update(environment)
    sys.argv = ["bench", *words]
    with log.open("wb") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    main()


class Victim:
    """A kind of command in its folders: `whole` is never disturbed, `killed` is, `base` is what both begin with."""

    def __init__(self, kind: Kind, out: Path, storage: str, forks: bool = True) -> None:
        self.kind, self.root, self._storage, self._forks = kind, out / kind.name, storage, forks

    def environment(self, folder: Path) -> dict[str, str]:
        """One thread, home and cache of the folder's own."""
        own = {"BENCH_HOME": str(folder / "home"), "BENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        return {**os.environ, **own, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", **_RAY}

    def begin(self, name: str) -> Path:
        """An empty folder, or one with what the kind begins with."""
        folder, base = self.root / name, self.root / "base"
        if not base.is_dir():
            base.mkdir(parents=True)
            for words in self.kind.before:
                self.finish(base, filled(words, base))
        for old in folder.iterdir() if folder.is_dir() else []:  # the folder itself may be a mount
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        shutil.copytree(base, folder, dirs_exist_ok=True)
        if self._storage and self._storage in self.kind.words:
            _empty(self._storage)
        return folder

    def start(self, folder: Path, fresh: bool, words: list[str] | None = None) -> Forked | Fresh:
        """Start the kind's command, or another one, in a folder."""
        make = Fresh if fresh or self.kind.fresh or not self._forks else Forked
        return make(words or self.kind.command(folder), self.environment(folder), self.root / "last.log")

    def finish(self, folder: Path, words: list[str] | None = None) -> None:
        """Let the command end by itself. Raises RuntimeError when it fails."""
        status = self.start(folder, fresh=False, words=words).wait()
        if status != 0:
            raise RuntimeError(f"{self.kind.name} ended with status {status} in {folder}")


def _empty(storage: str) -> None:
    from sqlalchemy import create_engine, text

    with create_engine(storage).begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))


def torment(victim: Victim, kills: int, seed: int) -> Tally:
    """Kill a kind's command until so many kills met it alive; let it end, and compare."""
    draw, tally = random.Random(f"{seed} {victim.kind.name}"), Tally(victim.kind.name)
    whole = victim.begin("whole")
    clock = time.monotonic()
    victim.finish(whole)
    tally.seconds = time.monotonic() - clock
    expected = victim.kind.contents(whole)
    folder = victim.begin("killed")
    while tally.alive < kills:
        status = kill_once(victim, folder, draw.uniform(0, LONGEST * tally.seconds), fresh=draw.random() < 0.1)
        if status == -signal.SIGKILL:
            tally.alive += 1
        elif status == 0:
            tally.missed += 1
            _compare(victim, folder, expected, tally)
            folder = victim.begin("killed")
        else:
            raise RuntimeError(f"{victim.kind.name} ended with status {status} after {tally.alive} kills in {folder}")
    victim.finish(folder)
    _compare(victim, folder, expected, tally)
    return tally


def kill_once(victim: Victim, folder: Path, moment: float, fresh: bool) -> int:
    """Start, and kill after so many seconds; the exit status, which tells whether the kill met a living process."""
    process = victim.start(folder, fresh)
    if process.wait(moment) is None:
        process.kill()
    status = process.wait()
    assert status is not None
    return status


def _compare(victim: Victim, folder: Path, expected: Any, tally: Tally) -> None:
    found = victim.kind.contents(folder)
    tally.compared += 1
    tally.equal += found == expected
    if found != expected:
        shutil.copytree(folder, folder.with_name(f"unequal-{tally.compared}"), dirs_exist_ok=True)
        print(f"{victim.kind.name}: unequal, kept as {folder.with_name(f'unequal-{tally.compared}')}", flush=True)


def main() -> int:
    """Print a line a kind; 0 when everything was equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="all", help="names, comma-separated")
    parser.add_argument("--kills", type=int, default=5, help="that meet a living process, a kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    out = asked.out.resolve()
    prepare(out)
    equal = True
    Forked(["--version"], {}, out / "warm.log").wait()  # the packages are imported before anything is timed
    with Postgres() as server:
        known = kinds(server.url)
        for name in list(known) if asked.kinds == "all" else asked.kinds.split(","):
            tally = torment(Victim(known[name], out, server.url), asked.kills, asked.seed)
            equal &= tally.equal == tally.compared
            print(json.dumps(asdict(tally)), flush=True)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
