"""Times of two installations, measured in turns in one job, so that a busy machine slows both alike."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat

from bench.core.errors import UserError
from bench.core.schema import parsed_json
from bench.gate.margins import Margins
from bench.gate.verdict import ALPHA, Verdict
from bench.measure.columns import names_of
from bench.measure.statistics.across import slower
from bench.measure.statistics.paired import holm
from bench.store.run import Run

ROUNDS = 12
TIMES = names_of("time", level=1)

# What either interpreter runs: it builds the network that a line of JSON on standard input asks for, times a few
# batches, answers with a line of JSON, and waits for its next turn. Only public names of the package are used.
WORKER = """
import json, sys
import torch
from bench.measure.timing import timings
from models.registry import MODELS
built = {}
for line in sys.stdin:
    asked = json.loads(line)
    name = asked["model"]
    if name not in built:
        torch.manual_seed(0)
        built = {name: MODELS.get(name).build(asked["classes"])}
    batch = torch.zeros(asked["batch"], 3, asked["size"], asked["size"])
    found = timings(built[name], batch, asked["classes"], batches=asked["batches"], warmup=asked["warmup"])
    print(json.dumps({key: found[key] for key in ("train_batch_ms", "infer_batch_ms")}), flush=True)
"""


@dataclass(frozen=True)
class Asked:
    """One network to time: name, classes, image size, batch size."""

    model: str
    classes: int
    size: int
    batch: int


class Worker:
    """An interpreter that times when asked."""

    def __init__(self, python: str, process: subprocess.Popen[str]) -> None:
        self._python = python
        self._process = process

    def time(self, asked: Asked, batches: int, warmup: int) -> dict[str, float]:
        """Medians of a few batches, in ms.

        Args:
            asked: the model and how it is timed.
            batches: measured ones, after `warmup` unmeasured ones.

        Raises:
            UserError: the interpreter ended, with the last line that it said.
        """
        given, taken = self._process.stdin, self._process.stdout
        assert given is not None
        assert taken is not None
        line = json.dumps({**vars(asked), "batches": batches, "warmup": warmup})
        try:
            given.write(line + "\n")
            given.flush()
            answer = taken.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise UserError(f"{self._python} could not time {asked.model}: {self._last_words()}")
        return parsed_json(f"what {self._python} answered", answer, dict[str, FiniteFloat], "name another interpreter")

    def _last_words(self) -> str:
        self._process.kill()
        errors = self._process.stderr.read() if self._process.stderr else ""
        return errors.strip().splitlines()[-1] if errors.strip() else "it ended without a word"


@contextmanager
def worker(python: str) -> Iterator[Worker]:
    """Start an interpreter, and end it. Raises UserError when it cannot be started."""
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen([python, "-c", WORKER], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    except OSError as error:
        raise UserError(f"--time {python} cannot be started ({error.strerror}); name a Python interpreter") from error
    try:
        yield Worker(python, process)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def time_verdicts(
    run: Path, base_python: str, now_python: str, margins: Margins, rounds: int = ROUNDS
) -> list[Verdict]:
    """Time every model of a run under both interpreters in turns; Mann-Whitney over the rounds, Holm over the family.

    Args:
        run: whose models are timed.
        base_python, now_python: the interpreters of the two installations.
        margins: the rise in time that is accepted.
        rounds: turns of each interpreter.

    Raises:
        UserError: an interpreter cannot time a model.
    """
    asked = networks(run)
    with ExitStack() as stack:
        pair = stack.enter_context(worker(base_python)), stack.enter_context(worker(now_python))
        samples = {each: _in_turns(each, pair, rounds) for each in asked}
    found = [_verdict(each, column, samples[each]) for each in asked for column in _of_whole_networks(samples[each])]
    adjusted = holm([p for _, p, _ in found])
    return [_decided(verdict, p, ratio, margins) for (verdict, _, ratio), p in zip(found, adjusted, strict=True)]


def _of_whole_networks(samples: Sequence[Sequence[dict[str, float]]]) -> list[str]:
    """The times that both interpreters took: those of whole networks, not of a tuned head alone."""
    return [name for name in TIMES if all(name in sample for side in samples for sample in side)]


def networks(run: Path) -> list[Asked]:
    """What a run's cells timed, each network once. Raises UserError when the run has no finished cell."""
    found: dict[tuple[str, int, int], Asked] = {}
    for cell in Run.open(run).cells():
        if cell.result is not None:
            data, cost, timing = (cell.result[part] for part in ("data", "cost", "timing"))
            size, batch = cost.get("image_size"), timing.get("batch_size")
            if size and batch:
                # The width of the last layer is lost in the noise: one time a model, size and batch will do.
                asked = Asked(cell.spec["model"], len(data["classes"]), int(size), int(batch))
                found.setdefault((asked.model, asked.size, asked.batch), asked)
    if not found:
        raise UserError(f"{run} has no finished cell whose network could be timed")
    return list(found.values())


def _in_turns(asked: Asked, pair: Sequence[Worker], rounds: int) -> list[list[dict[str, float]]]:
    """Samples [base, now][round]; who goes first alternates, and the first round warms both up unmeasured."""
    samples: list[list[dict[str, float]]] = [[], []]
    for each in pair:
        each.time(asked, 2, 2)
    for turn in range(rounds):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            samples[side].append(pair[side].time(asked, 3, 1))
    return samples


def _verdict(asked: Asked, column: str, samples: Sequence[Sequence[dict[str, float]]]) -> tuple[Verdict, float, float]:
    base, now = ([sample[column] for sample in side] for side in samples)
    p, ratio = slower(now, base)
    medians = [sorted(side)[len(side) // 2] for side in (base, now)]
    name = f"{asked.model} · {asked.size} px · batch {asked.batch}"
    return Verdict(name, column, "same", medians[0], medians[1], p=p), p, ratio


def _decided(verdict: Verdict, p: float, ratio: float, margins: Margins) -> Verdict:
    from dataclasses import replace

    why = f"{100 * (ratio - 1):+.1f} % in turns, margin {100 * margins.time:.0f} %"
    changes: dict[str, Any] = {"p": p, "why": why, "margin": margins.time}
    if p < ALPHA and ratio > 1 + margins.time:
        return replace(verdict, outcome="worse", **changes)
    return replace(verdict, outcome="better" if ratio < 1 - margins.time and p > 1 - ALPHA else "same", **changes)
