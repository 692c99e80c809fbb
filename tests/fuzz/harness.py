"""Runs a generated invocation in this process and says what was wrong with how it ended."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.generators import GENERATORS

SECONDS = 60


@dataclass(frozen=True)
class Finding:
    """An invocation that ended in a traceback, hung, or was refused without a sentence."""

    seed: int
    generator: str
    arguments: list[str]
    problem: str


def small_run(folder: Path) -> Path:
    """A finished run of two cells, which the generators harm copies of."""
    small = ["image_size=32", "epochs=1", "synthetic_images=60", "timing_batch_size=2", "bootstrap_resamples=100"]
    settings = [part for setting in small for part in ("--set", setting)]
    arguments = ["run", "--models", "deepmedix", "--datasets", "phantom-brain", "--regimes", "centralized,fedavg"]
    status, problem = invoke([*arguments, "--seeds", "1", "--protocol", "demo", "--progress", "none", *settings,
                              "--out", str(folder / "run")], limit=600)  # fmt: skip
    assert status == 0, problem
    return folder / "run"


def one(seed: int, run: Path) -> tuple[int, Finding | None]:
    """Generate and run the invocation of a seed; its exit status, and a finding unless it ended as it should."""
    stream = random.Random(seed)
    generator = stream.choice(GENERATORS)
    with tempfile.TemporaryDirectory() as name:
        arguments = generator(stream, Path(name), run)
        status, problem = invoke(arguments)
    if status in (0, 1, 2) and not problem:
        return status, None
    return status, Finding(seed, generator.__name__, arguments, problem)


def invoke(arguments: list[str], limit: int = SECONDS) -> tuple[int, str]:
    """The exit status of a command line and what is wrong with its end ("" when nothing is)."""
    from bench.cli.app import main

    told = io.StringIO()
    try:
        with _limited(limit), _arguments(arguments), contextlib.redirect_stdout(told), \
                contextlib.redirect_stderr(told):  # fmt: skip
            main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        silent = status == 2 and not told.getvalue().strip()
        return status, "refused without a word" if silent else ""
    except TimeoutError:
        return -1, f"hung for {limit} s\n{traceback.format_exc()}"
    except BaseException:  # noqa: BLE001 - whatever comes out is the finding
        return -1, traceback.format_exc()
    return 0, ""


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _arguments(arguments: list[str]) -> Iterator[None]:
    before, folder = sys.argv, Path.cwd()
    sys.argv = ["bench", *arguments]
    try:
        yield
    finally:
        sys.argv = before
        os.chdir(folder)
