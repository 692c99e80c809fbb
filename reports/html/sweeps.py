"""The sweeps of a run: what was searched, how it went, and what tuning brought on the test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, FiniteFloat, with_config
from typing_extensions import TypedDict

from bench.core.errors import UserError
from bench.core.schema import read_json
from bench.measure.columns import column
from bench.store.layout import study_records
from reports.compare.ablation import points, reach
from reports.compare.pairing import accuracy_contrast, match
from reports.compare.ranking import probability, with_interval
from reports.load.source import Source
from reports.tables.grid import Condition, Row
from reports.tables.markup import Entry, Grid, grid

SCHEMA = 1
_AGAIN = "run the sweep again to write it anew"
_Value = bool | int | FiniteFloat | str | None


class _Objective(TypedDict):
    column: str
    direction: Literal["min", "max"]


@with_config(ConfigDict(extra="allow"))
class _Range(TypedDict):
    low: FiniteFloat
    high: FiniteFloat
    log: bool


class _Choice(TypedDict):
    choices: Annotated[list[_Value], Field(min_length=1)]


@with_config(ConfigDict(extra="allow"))
class _Trial(TypedDict):
    number: int
    state: str
    params: dict[str, _Value]
    values: list[FiniteFloat] | None
    steps: NotRequired[list[list[int | FiniteFloat]]]
    seconds: NotRequired[FiniteFloat | None]


@with_config(ConfigDict(extra="allow"))
class _Record(TypedDict):
    schema: int
    study: str
    model: str
    dataset: str
    regime: str
    seed: int
    objectives: Annotated[list[_Objective], Field(min_length=1)]
    space: dict[str, _Range | _Choice]
    trials: list[_Trial]
    front: list[int]
    best: int | None
    cells: dict[str, list[str]]
    importances: NotRequired[list[dict[str, FiniteFloat]]]


@dataclass(frozen=True)
class SweepView:
    """One sweep as the page shows it.

    Attributes:
        drawn: what the page's script draws of the complete trials.
        brought: tuned against default on the test set; None before they were run.
    """

    title: str
    about: str
    tables: tuple[Grid, ...]
    drawn: dict[str, Any]
    brought: Grid | None


def sweep_views(source: Source) -> list[SweepView]:
    """Every sweep of a run; a record that cannot be read is named among the run's problems."""
    found = []
    for path in study_records(source.path):
        try:
            found.append(_view(source, _read(path)))
        except UserError as error:
            if str(error) not in source.problems:
                source.problems.append(str(error))
    return found


def _read(path: Path) -> dict[str, Any]:
    record = read_json(path, _Record, _AGAIN)
    numbers = {trial["number"] for trial in record["trials"]}
    complete = [trial["values"] or [] for trial in record["trials"] if trial["state"] == "complete"]
    known = numbers.issuperset([*record["front"], *_known(record["best"])])
    if record["schema"] != SCHEMA or not known or any(len(each) != len(record["objectives"]) for each in complete):
        raise UserError(f"{path} is no record of a sweep that this version reads; {_AGAIN}")
    return dict(record)


def _known(number: int | None) -> list[int]:
    return [] if number is None else [number]


def _view(source: Source, record: dict[str, Any]) -> SweepView:
    title = f"{record['model']} on {record['dataset']}, {record['regime']}"
    tables = (_best_table(record),) if record["best"] is not None else ()
    return SweepView(title, _about(record), tables, _drawn(record), brought(source, record))


def _drawn(record: dict[str, Any]) -> dict[str, Any]:
    complete = [
        {name: trial[name] for name in ("number", "params", "values")}
        for trial in record["trials"]
        if trial["state"] == "complete"
    ]
    plain = {name: record[name] for name in ("objectives", "space", "front")}
    return {**plain, "importances": record.get("importances", []), "trials": complete}


def _about(record: dict[str, Any]) -> str:
    states = [trial["state"] for trial in record["trials"]]
    kinds = (("complete", "complete"), ("pruned", "pruned"), ("fail", "failed"), ("running", "running"))
    ended = ", ".join(f"{states.count(kind)} {words}" for kind, words in kinds if kind in states)
    wanted = " and ".join(f"{one['column']} ({one['direction']})" for one in record["objectives"])
    return (
        f"{len(states)} trials ({ended}) for {wanted} on the validation part of seed {record['seed']}; no trial was "
        f"handed a test image. Study {record['study']}."
    )


def _best_table(record: dict[str, Any]) -> Grid:
    """The values of the best trial, or of every trial on the front."""
    trials = {trial["number"]: trial for trial in record["trials"]}
    columns = [one["column"] for one in record["objectives"]]
    names = list(record["space"])
    body = [_best_line(trials[number], columns, names) for number in record["front"] if number in trials]
    caption = "The best trial" if len(columns) == 1 else "The trials that none beats in everything"
    head = ["Trial", *(f"{column(name).title} (validation)" for name in columns), *names]
    return grid("sweep-best", caption, head, body)


def _best_line(trial: dict[str, Any], columns: list[str], names: list[str]) -> list[str]:
    values = [column(name).text(value) for name, value in zip(columns, trial["values"], strict=True)]
    return [str(trial["number"]), *values, *(_written(trial["params"].get(name)) for name in names)]


def _written(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def brought(source: Source, record: dict[str, Any]) -> Grid | None:
    """Tuned against default protocol on the same test images: over all seeds, and on the trials' own seed alone."""
    sides = {side: _row(source, record, side) for side in ("default", "tuned")}
    if not all(row.done for row in sides.values()):
        return None
    own = {side: _of_seed(row, record["seed"]) for side, row in sides.items()}
    lines = [_line(source, "all seeds", sides, record), _line(source, f"seed {record['seed']}", own, record)]
    extra = [name for name in _searched(record) if name != "accuracy"]
    head = ["Over", "Default accuracy", "Tuned accuracy", "Tuned − default", "95 %", "p"]
    head += [f"{side} {column(name).title}" for name in extra for side in ("Default", "Tuned")]
    notes = (
        "Accuracy in percent; differences in percentage points on the same test images, p by exact sign flips of "
        f"groups. The test images of seed {record['seed']} were in no trial's training or validation part; where a "
        "split is drawn anew for each seed, another seed's test set may hold images that trials were judged on.",
    )
    return grid("sweep", "What tuning brought on the test set", head, lines, notes=notes)


def _searched(record: dict[str, Any]) -> list[str]:
    return [one["column"] for one in record["objectives"]]


def _row(source: Source, record: dict[str, Any], side: str) -> Row:
    keys = set(record["cells"].get(side, ()))
    cells = tuple(cell for cell in source.cells if cell.key in keys)
    condition = Condition(record["dataset"], record.get("split", ""), record["regime"], side)
    return Row(record["model"], condition, cells)


def _of_seed(row: Row, seed: int) -> Row:
    return Row(row.model, row.condition, tuple(cell for cell in row.cells if cell.spec["seed"] == seed))


def _line(source: Source, over: str, sides: dict[str, Row], record: dict[str, Any]) -> Sequence[Entry | str]:
    default, tuned = sides["default"], sides["tuned"]
    step = accuracy_contrast(match(source, tuned, default))
    shown = [with_interval(row, "accuracy") for row in (default, tuned)]
    extra = [
        with_interval(row, name) for name in _searched(record) if name != "accuracy" for row in (default, tuned)
    ]  # fmt: skip
    if step is None:
        return [over, *shown, "–", "–", "–", *extra]
    value = Entry(points(step.value), bold=step.p < 0.05)
    return [over, *shown, value, reach(step), probability(step.p), *extra]
