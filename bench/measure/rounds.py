"""Timing in interleaved rounds: every subject once a round, so that a machine that drifts slows all of them alike."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import psutil
import torch

from bench.measure.steps import Step, clock_of, energy_meter

SHORT_MS = 10.0
"""A step is repeated within a round until about this much was measured, so that short ones are not all start-up."""
MOST_REPEATS = 10
SETTLED = 0.1
"""A warm-up is over when a step takes no more than this share longer or shorter than the one before."""


@dataclass(frozen=True)
class Effort:
    """How long is measured.

    Attributes:
        least, most: samples of a subject.
        warmup: unmeasured steps at most.
        spread: measuring ends when the 95 % interval of the median is within plus and minus this share of it.
    """

    least: int
    most: int
    warmup: int
    spread: float


@dataclass(frozen=True)
class Subject:
    """Something that is timed.

    Attributes:
        step: what is timed once a sample.
        threads: of torch while it runs; None: as many as there are.
    """

    name: str
    step: Step
    threads: int | None = None


@dataclass
class Samples:
    """What was measured.

    Attributes:
        samples: milliseconds by subject, one of each round, in their order: of a short step, the median of the round's.
            Steps that follow each other at once are slow or fast together, and would tell nothing of the spread.
        energy_j: joules a step, where the device tells.
        busy: the share of the machine's cores that other processes used meanwhile, 0 to 1.
    """

    samples: dict[str, list[float]] = field(default_factory=dict)
    energy_j: dict[str, float | None] = field(default_factory=dict)
    busy: float = 0.0


def in_rounds(
    subjects: Sequence[Subject],
    device: torch.device,
    effort: Effort,
    on_round: Callable[[int], None] = lambda number: None,
) -> Samples:
    """Time subjects in turns until each one's median is known well enough.

    Args:
        subjects: what is timed, each with its steps.
        device: whose clock counts.
        effort: how many rounds, and when a median is known well enough.
        on_round: is told the round's number.
    """
    clock, meter = clock_of(device), energy_meter(device)
    found = Samples({subject.name: [] for subject in subjects}, {subject.name: None for subject in subjects})
    others = OtherProcesses()
    repeats = {subject.name: _warmed_up(subject, clock, effort) for subject in subjects}
    spent, taken = dict.fromkeys(found.samples, 0.0), dict.fromkeys(found.samples, 0)
    left, number = list(subjects), 0
    while left:
        on_round(number)
        for subject in left:
            start = meter() if meter else 0.0
            wanted = repeats[subject.name]
            found.samples[subject.name].append(float(np.median(_sampled(subject, clock, wanted))))
            spent[subject.name] += meter() - start if meter else 0.0
            taken[subject.name] += wanted + (wanted > 1)
        left = [subject for subject in left if not enough(found.samples[subject.name], effort)]
        number += 1
    if meter:
        found.energy_j = {name: spent[name] / taken[name] for name in found.samples}
    found.busy = others.share()
    return found


def enough(samples: Sequence[float], effort: Effort) -> bool:
    """Whether no more samples are needed, or allowed."""
    if len(samples) >= effort.most:
        return True
    if len(samples) < effort.least:
        return False
    low, high = median_interval(samples)
    return (high - low) / 2 <= effort.spread * float(np.median(samples))


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median by order statistics (binomial, normal approximation); all of few samples."""
    ordered, count = sorted(samples), len(samples)
    reach = 1.96 * math.sqrt(count) / 2
    low, high = math.floor(count / 2 - reach), math.ceil(count / 2 + reach)
    return ordered[max(low, 0)], ordered[min(high, count - 1)]


class OtherProcesses:
    """How much of the machine other processes use, from now on."""

    def __init__(self) -> None:
        self._wall, self._all, self._own = time.perf_counter(), _busy_seconds(), _own_seconds()

    def share(self) -> float:
        """The share of all cores, 0 to 1."""
        others = (_busy_seconds() - self._all) - (_own_seconds() - self._own)
        available = (time.perf_counter() - self._wall) * (psutil.cpu_count() or 1)
        return min(1.0, max(0.0, others / max(available, 1e-9)))


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    # A guest's time is counted as user time already.
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _warmed_up(subject: Subject, clock: Callable[[Step], float], effort: Effort) -> int:
    """Take unmeasured steps until they settle; how often the step is repeated in a round."""
    before, last = math.inf, SHORT_MS
    for _ in range(effort.warmup):
        before, last = last, _sampled(subject, clock, 1)[0]
        if abs(last - before) <= SETTLED * before and effort.least < effort.most:
            break
    return max(1, min(MOST_REPEATS, math.ceil(SHORT_MS / max(last, 1e-3))))


def _sampled(subject: Subject, clock: Callable[[Step], float], repeats: int) -> list[float]:
    before = torch.get_num_threads()
    if subject.threads is not None:
        torch.set_num_threads(subject.threads)
    try:
        if repeats > 1:
            # What ran in between took the caches; a short step would be timed filling them again.
            subject.step()
        return [clock(subject.step) for _ in range(repeats)]
    finally:
        if subject.threads is not None:
            torch.set_num_threads(before)
