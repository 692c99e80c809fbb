"""Batch times by part: a backbone is timed once for all heads on it, a head by itself, and both are reused by key.

A network's time is the sum of its parts'. Parts of all models of a run are timed in interleaved rounds, and what was
measured lies in the run's folder as `timing/KEY.json`, where every cell that it describes finds it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
import torch
from filelock import FileLock
from pydantic import ConfigDict, Field, FiniteFloat, with_config
from typing_extensions import TypedDict

from bench.core.atomic import write_json
from bench.core.config import Protocol, TimingMode
from bench.core.errors import UserError
from bench.core.identity import digest
from bench.core.schema import read_json
from bench.harness.networks import tf32
from bench.harness.timing.parts import Asked, Timed
from bench.harness.timing.workbench import Workbench
from bench.measure.rounds import Effort, in_rounds, median_interval
from bench.measure.steps import own_random_state
from bench.measure.timing import description
from bench.store.files import now
from models.registry import ModelSpec

FOLDER = "timing"
BUSY = 0.1
"""Above this share of the machine's cores in other hands its times are said to be of a busy machine."""
OnEvent = Callable[[dict[str, Any]], None]

# Parameters of the networks that are held at once; an optimizer keeps up to four numbers for each.
_MOST_PARAMETERS = 250e6
_MODES: dict[TimingMode, int] = {"off": 0, "quick": 1, "full": 2}
_Samples = Annotated[list[Annotated[FiniteFloat, Field(ge=0)]], Field(min_length=1)]


class _Times(TypedDict):
    infer: _Samples
    train: NotRequired[_Samples]


class _Energy(TypedDict):
    infer: FiniteFloat | None
    train: NotRequired[FiniteFloat | None]


@with_config(ConfigDict(extra="allow"))
class _File(TypedDict):
    mode: TimingMode
    busy: Annotated[FiniteFloat, Field(ge=0)]
    ms: _Times
    energy_j: _Energy
    peak_memory_mb: FiniteFloat | None


_known: dict[str, dict[str, Any]] = {}


def effort(mode: TimingMode, protocol: Protocol) -> Effort:
    """How long is measured; the protocol's numbers of batches are bounds."""
    if mode == "quick":
        return Effort(5, min(10, protocol.timing_batches), min(2, protocol.timing_warmup), 0.05)
    return Effort(10, protocol.timing_batches, protocol.timing_warmup, 0.02)


def measure_all(wanted: Sequence[Asked], folder: Path | None, mode: TimingMode, on_event: OnEvent) -> None:
    """Measure what is not measured yet, all parts of one device and protocol in turns.

    Args:
        wanted: networks and how each is timed.
        folder: where measurements are kept; None: in this process alone.
        mode: "full" measures again what was measured quickly.
        on_event: hears what is being measured.
    """
    for _ in measured_groups(wanted, folder, mode, on_event):
        pass


def measured_groups(
    wanted: Sequence[Asked], folder: Path | None, mode: TimingMode, on_event: OnEvent
) -> Iterator[list[Asked]]:
    """What `measure_all` does, with a stop after each group of parts that are held in memory at once.

    Args:
        wanted: networks and how each is timed.
        folder: where measurements are kept; None: in this process alone.
        mode: "off", "quick" or "full".
        on_event: hears what is being measured.

    Yields:
        The networks of which all parts are known by now and were not at the stop before.
    """
    left = list(wanted)
    if mode == "off":
        yield left
        return
    missing = {part.key: part for asked in wanted for part in asked.parts if not _is_known(part, folder, mode)}
    for group in [[], *_groups(list(missing.values()))]:
        with _locked(folder):
            # Another process may have measured some of them meanwhile.
            unknown = [part for part in group if not _is_known(part, folder, mode)]
            if unknown:
                _measure(unknown, folder, mode, on_event)
        known = [asked for asked in left if all(_is_known(part, folder, mode) for part in asked.parts)]
        left = [asked for asked in left if asked not in known]
        yield known


def timing_row(asked: Asked, folder: Path | None, mode: TimingMode, on_event: OnEvent) -> dict[str, Any]:
    """The columns of a network's batch times, measured now unless they are known.

    Args:
        asked: the network and how it is timed.
        folder: where measurements are kept; None: in this process alone.
        mode: "off", "quick" or "full".
        on_event: hears what is being measured.

    Returns:
        infer_batch_ms: images in, answer out, BatchNorm folded: what a user will run. train_batch_ms: a training step
        on images, None where the head alone is tuned. head_train_batch_ms: there, a step of the head on stored maps,
        which is what was trained. Each with _p95, and _low and _high: the 95 % interval of the median. energy_j of a
        training step and peak_memory_mb (with `full`) where they can be told; machine_busy: the share of the machine
        that other processes took meanwhile, with `timed_while_busy` where that was more than a tenth. Empty where mode
        is "off".
    """
    if mode == "off":
        return {}
    measure_all([asked], folder, mode, on_event)
    backbone, head = (_record(part, folder) for part in asked.parts)
    protocol = asked.protocol
    row = description(torch.empty(1, device=asked.device), 0, protocol.timing_warmup, protocol.precision)
    row |= {"batch_size": protocol.timing_batch_size, "timing": mode, "tf32": tf32(asked.device)}
    row["engine"] = protocol.engine
    row |= _columns("infer", backbone["ms"]["infer"], head["ms"]["infer"])
    if protocol.tuning == "head":
        row |= _columns("head_train", head["ms"]["train"])
    else:
        row |= _columns("train", backbone["ms"]["train"], head["ms"]["train"])
    row |= {"infer_energy_j": _sum([backbone["energy_j"]["infer"], head["energy_j"]["infer"]])}
    trained = [head] if protocol.tuning == "head" else [backbone, head]
    energy = _sum([record["energy_j"]["train"] for record in trained])
    row["train_energy_j"] = None if protocol.tuning == "head" else energy
    busy = max(backbone["busy"], head["busy"])
    return row | {
        "batches": min(len(samples) for record in (backbone, head) for samples in record["ms"].values()),
        "energy_j": energy,
        "peak_memory_mb": head["peak_memory_mb"],
        "machine_busy": round(busy, 3),
        "timed_while_busy": busy > BUSY,
        "timing_keys": [part.key for part in asked.parts],
    }


def _sum(joules: Sequence[float | None]) -> float | None:
    """The sum; None where one part's energy is not known."""
    known = [value for value in joules if value is not None]
    return sum(known) if len(known) == len(joules) else None


def _columns(name: str, *parts: list[float]) -> dict[str, float]:
    """Median, p95 and the median's interval of the sum of parts that were measured by themselves."""
    sums = functools.reduce(lambda left, right: np.add.outer(left, right).ravel(), map(np.asarray, parts))
    bounds = [(float(np.median(part)), *median_interval(part)) for part in parts]
    middle = float(np.median(sums))
    below = float(np.sqrt(sum((median - low) ** 2 for median, low, _ in bounds)))
    above = float(np.sqrt(sum((high - median) ** 2 for median, _, high in bounds)))
    return {
        f"{name}_batch_ms": middle,
        f"{name}_batch_ms_p95": float(np.percentile(sums, 95)),
        f"{name}_batch_ms_low": middle - below,
        f"{name}_batch_ms_high": middle + above,
    }


@contextmanager
def _locked(folder: Path | None) -> Iterator[None]:
    """One process at a time measures for a run: two would time each other."""
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        yield


def _is_known(part: Timed, folder: Path | None, mode: TimingMode) -> bool:
    found = _find(part, folder)
    return found is not None and _MODES[found["mode"]] >= _MODES[mode]


def _find(part: Timed, folder: Path | None) -> dict[str, Any] | None:
    """What is known of a part: by the run's folder, or by this process, which may have run another."""
    path = folder / f"{part.key}.json" if folder else None
    if path is not None and path.exists():
        # What cannot be read is timed anew; nothing is lost with it.
        with suppress(UserError):
            return dict(read_json(path, _File, "delete it to time anew"))
    found = _known.get(part.key)
    if found is not None and path is not None:
        write_json(path, found)
    return found


def _record(part: Timed, folder: Path | None) -> dict[str, Any]:
    found = _find(part, folder)
    assert found is not None
    return found


def _groups(parts: list[Timed]) -> Iterator[list[Timed]]:
    """Parts that can be held in memory together, all of one device and protocol."""
    sizes = {part.key: _parameters(part) for part in parts}
    left = sorted(parts, key=lambda part: (str(part.asked.device), digest(part.asked.protocol.model_dump(mode="json"))))
    group: list[Timed] = []
    for part in left:
        alike = not group or _settings(part) == _settings(group[0])
        if group and (not alike or sum(sizes[each.key] for each in [*group, part]) > _MOST_PARAMETERS):
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def _settings(part: Timed) -> tuple[torch.device, Protocol]:
    return part.asked.device, part.asked.protocol


@functools.lru_cache(maxsize=256)
def _parameters_of(model: ModelSpec, num_classes: int) -> tuple[int, int]:
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = model.build(num_classes)
    count = [sum(tensor.numel() for tensor in part.parameters()) for part in (network.backbone, network.head)]
    return count[0], count[1]


def _parameters(part: Timed) -> int:
    backbone, head = _parameters_of(part.asked.model, part.asked.num_classes)
    return backbone if part.part == "backbone" else head


def _measure(group: list[Timed], folder: Path | None, mode: TimingMode, on_event: OnEvent) -> None:
    """Time the parts of a group in turns and store each."""
    device, protocol = _settings(group[0])
    most = effort(mode, protocol)
    with own_random_state(device):
        workbench = Workbench()
        subjects = [subject for part in group for subject in workbench.subjects(part)]
        told = functools.partial(_tell, on_event, len(subjects), most.most)
        found = in_rounds(subjects, device, most, told)
        for part in group:
            kinds = [name for name in found.samples if name.startswith(f"{part.key}:")]
            record = {
                "key": part.key,
                "identity": part.identity,
                "mode": mode,
                "measured": now(),
                "subjects": len(subjects),
                "busy": found.busy,
                "ms": {name.partition(":")[2]: found.samples[name] for name in kinds},
                "energy_j": {name.partition(":")[2]: found.energy_j[name] for name in kinds},
                "peak_memory_mb": workbench.peak_memory(part) if mode == "full" and part.part == "head" else None,
            }
            _known[part.key] = record
            if folder is not None:
                write_json(folder / f"{part.key}.json", record)


def own_or_joint(
    asked: Asked, others: Sequence[Asked], folder: Path | None, mode: TimingMode, on_event: OnEvent
) -> dict[str, Any]:
    """The row of a network, timed in turns with others of its run; alone where one of those cannot be timed.

    What is wrong with another network is told by its own cell, and does not make this one fail.

    Args:
        asked: the network whose row it is.
        others: of the same run, timed along.
        folder: where measurements are kept; None: in this process alone.
        mode: "off", "quick" or "full".
        on_event: hears what is being measured.
    """
    problem = ""
    try:
        if mode != "off" and not all(_is_known(part, folder, mode) for part in asked.parts):
            measure_all([asked, *others], folder, mode, on_event)
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        problem = (str(error) or type(error).__name__).splitlines()[0]
    row = timing_row(asked, folder, mode, on_event)
    return row | {"timed_alone": problem} if problem else row


def _tell(on_event: OnEvent, subjects: int, most: int, number: int) -> None:
    on_event({"event": "timing", "subjects": subjects, "round": number + 1, "most": most})
