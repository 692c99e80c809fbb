"""Runs a generated invocation in this process and says what was wrong with how it ended."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.generators import GENERATORS
from tests.fuzz.generators.nonsense import MODELS, Invocation, Small

SECONDS = 60
LONGEST_SENTENCE = 2000


class Hung(BaseException):
    """Sixty seconds are over; no code catches it as it may catch an error."""


@dataclass(frozen=True)
class Case:
    """An invocation and how it ended; `problem` is "" when it ended as it should."""

    seed: int
    generator: str
    words: list[str]
    status: int
    problem: str
    seconds: float


def prepare(folder: Path) -> Small:
    """A finished run of four cells, which the generators harm copies of, and a folder for more; made where missing."""
    _build_the_program_once()
    _wait_a_second_for_silent_trials()
    found = Small(folder / "run", folder / "made")
    if found.made.is_dir():
        return found
    small = ["image_size=32", "epochs=1", "synthetic_images=60", "timing_batch_size=2", "bootstrap_resamples=100"]
    settings = [part for setting in small for part in ("--set", setting)]
    line = ["run", "--models", ",".join(MODELS), "--datasets", "phantom-brain", "--regimes",
            "centralized,fedavg", "--seeds", "1", "--protocol", "demo", "--progress", "none", "--timing", "quick",
            "--with", "calibration", *settings, "--out", str(folder / "run")]  # fmt: skip
    status, problem = invoke(Invocation(line), limit=600)
    assert status == 0, problem
    found.made.mkdir()
    return found


def _build_the_program_once() -> None:
    """Typer builds its commands anew at each call, which takes longer than most of them run."""
    from typer.main import get_command

    import bench.cli.app as program

    if not hasattr(program.app, "commands"):
        program.app = get_command(program.app)  # type: ignore[assignment]


def _wait_a_second_for_silent_trials() -> None:
    """A sweep waits five minutes, and says so, for a trial whose process may live on another machine."""
    from sweeps.ledger import SILENT_SECONDS, Ledger

    defaults = Ledger.__init__.__defaults__ or ()
    Ledger.__init__.__defaults__ = tuple(1.0 if each == SILENT_SECONDS else each for each in defaults)  # type: ignore[misc]


def one(seed: int, small: Small, among: Sequence[str] = tuple(GENERATORS), apart: bool = False) -> Case:
    """Generate and run the invocation of a seed.

    Args:
        among: names of the generators that are drawn from.
        apart: run it in a process of its own, where it is a command line.
    """
    stream = random.Random(seed)
    (name,) = stream.choices(list(among), [GENERATORS[each][1] for each in among])
    with tempfile.TemporaryDirectory() as made:
        folder = Path(os.path.realpath(made))
        invocation = GENERATORS[name][0](stream, folder, small)
        began = time.perf_counter()
        status, problem = (
            in_a_process(invocation) if apart and isinstance(invocation.what, list) else invoke(invocation)
        )
        seconds = time.perf_counter() - began
    words = invocation.what if isinstance(invocation.what, list) else [str(invocation.what)]
    return Case(seed, name, words, status, problem, seconds)


def invoke(invocation: Invocation, limit: int = SECONDS) -> tuple[int, str]:
    """The exit status of an invocation and what is wrong with its end ("" when nothing is)."""
    told = io.StringIO()
    try:
        with _around(invocation, limit), contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            _called(invocation)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Hung:
        return -1, f"hung for {limit} s\n{traceback.format_exc()}"
    except BaseException:  # noqa: BLE001 - whatever comes out is the finding
        return -1, traceback.format_exc()
    return status, judged(invocation, status, told.getvalue())


def _called(invocation: Invocation) -> None:
    if callable(invocation.what):
        from bench.cli.door import sentence
        from bench.core.errors import UserError

        try:
            invocation.what()
        except UserError as error:
            print(f"bench: {sentence(str(error))}")
            sys.exit(2)
        return
    from bench.cli.app import main

    main()


def judged(invocation: Invocation, status: int, told: str) -> str:
    """What is wrong with an end, "" when nothing is."""
    if status not in invocation.ends:
        return f"ended with {status}, not one of {invocation.ends}: {told[-400:]}"
    if "Traceback (most recent call last)" in told:
        return told
    # `bench check` says by the same status that it could not compare, in its own table.
    if status != 2 or "Usage: " in told or "? not comparable" in told:
        return ""
    _, begun, sentence = told.rpartition("bench: ")
    if not begun or not sentence.strip():
        return f"refused without a word: {told[-400:]}"
    if len(sentence) > LONGEST_SENTENCE:
        return f"refused in {len(sentence)} characters: {sentence[:400]}"
    return f"not refused in one line: {sentence}" if "\n" in sentence.strip() else ""


def in_a_process(invocation: Invocation) -> tuple[int, str]:
    """As `invoke`, by the program itself, whose output takes Latin letters alone."""
    assert isinstance(invocation.what, list)
    if any("\0" in each for each in invocation.what):
        return 2, ""
    program = [sys.executable, "-c", "from bench.cli.app import main; main()", *invocation.what]
    env = {**os.environ, **invocation.env, "PYTHONIOENCODING": "latin-1", "COLUMNS": "1000"}
    try:
        done = subprocess.run(program, capture_output=True, env=env, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return -1, f"hung for {SECONDS} s"
    return done.returncode, judged(invocation, done.returncode, (done.stdout + done.stderr).decode("latin-1"))


@contextlib.contextmanager
def _around(invocation: Invocation, seconds: int) -> Iterator[None]:
    """Arguments, environment, working folder and alarm of an invocation; all are put back.

    Who computes on a busy machine is let go on: hung is what waited, or computed, for as long as the limit.
    """
    spent = [time.process_time(), time.process_time()]

    def stop(*_: Any) -> None:
        now = time.process_time()
        if now - spent[1] < 0.001 * seconds or now - spent[0] > seconds:
            raise Hung
        spent[1] = now
        signal.alarm(seconds)

    arguments, folder, env, keyboard = sys.argv, Path.cwd(), dict(os.environ), sys.stdin
    sys.stdin = io.StringIO()
    if isinstance(invocation.what, list):
        sys.argv = ["bench", *invocation.what]
    os.environ.update(invocation.env)
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        sys.argv, sys.stdin = arguments, keyboard
        os.environ.clear()
        os.environ.update(env)
        os.chdir(folder)
