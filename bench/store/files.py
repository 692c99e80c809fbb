"""What stands in a run folder's JSON files: the types that `bench.core.schema` holds them to, and how to read them.

Fields that are not named here may stand beside the others: a later version adds some, and old files lack them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, FiniteFloat, with_config
from typing_extensions import TypedDict

from bench.core import schema
from bench.core.atomic import replacing
from bench.measure.columns import COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

AGAIN = "delete it and run again"
# A key names a folder: nothing in it may lead elsewhere.
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Number = FiniteFloat | None
Bounds = Annotated[list[Number], Field(min_length=2, max_length=2)]
_OPEN = ConfigDict(extra="allow")


@with_config(_OPEN)
class ProtocolFile(TypedDict):
    """A protocol as it was stored; versions differ in their fields."""

    federated: NotRequired[dict[str, Any]]
    weights: NotRequired[str]


@with_config(_OPEN)
class SpecFile(TypedDict):
    """What a cell is."""

    model: str
    dataset: str
    split: str
    regime: str
    seed: int
    protocol: ProtocolFile


@with_config(_OPEN)
class CellFile(SpecFile):
    """cell.json."""

    key: Key


class PlannedFile(TypedDict):
    """A cell of plan.json."""

    key: Key
    cell: SpecFile


@with_config(_OPEN)
class PlanFile(TypedDict):
    """plan.json."""

    schema: int
    command: NotRequired[str]
    written: NotRequired[str]
    cells: list[PlannedFile]


@with_config(_OPEN)
class CostFile(TypedDict):
    """A result's cost."""

    params_m: NotRequired[Number]
    macs_m: NotRequired[Number]
    flops_m: NotRequired[Number]
    activations_m: NotRequired[Number]
    image_size: NotRequired[int | None]
    uncounted: NotRequired[dict[str, int]]


@with_config(_OPEN)
class TimingFile(TypedDict):
    """A result's times."""

    train_batch_ms: NotRequired[Number]
    train_batch_ms_p95: NotRequired[Number]
    infer_batch_ms: NotRequired[Number]
    infer_batch_ms_p95: NotRequired[Number]
    peak_memory_mb: NotRequired[Number]
    energy_j: NotRequired[Number]
    device: NotRequired[str]
    device_kind: NotRequired[str]
    batch_size: NotRequired[int]
    threads: NotRequired[int]


@with_config(_OPEN)
class DataFile(TypedDict):
    """What a result says of its images."""

    classes: Annotated[list[str], Field(min_length=2)]
    images: NotRequired[int]
    expected: NotRequired[int | None]
    n_train: NotRequired[int]
    n_val: NotRequired[int]
    n_test: NotRequired[int]
    groups_test: NotRequired[int]
    synthetic: NotRequired[bool]
    fingerprint: NotRequired[Annotated[str, Field(pattern=r"^[A-Za-z0-9]{0,64}$")]]
    test_fingerprint: NotRequired[str]
    paper_name: NotRequired[str]
    audit: NotRequired[str | None]
    notes: NotRequired[list[str]]
    majority: NotRequired[str]


@with_config(_OPEN)
class ResultFile(TypedDict):
    """result.json."""

    schema: int
    key: Key
    cell: SpecFile
    metrics: dict[str, Number]
    intervals: dict[str, Bounds]
    cost: CostFile
    timing: TimingFile
    data: DataFile
    notes: list[str]
    seconds: FiniteFloat
    interval_method: NotRequired[str]
    machine: NotRequired[dict[str, Any]]


@with_config(_OPEN)
class FailureFile(TypedDict):
    """failure.json."""

    error: NotRequired[str]
    traceback: NotRequired[str]


@with_config(_OPEN)
class EnvironmentFile(TypedDict):
    """environment.json."""

    packages: NotRequired[dict[str, str | None]]
    cores: NotRequired[int | None]
    gpus: NotRequired[list[Any]]
    digest: NotRequired[str]


@with_config(_OPEN)
class TrialFile(TypedDict):
    """trial.json: the metrics of a sweep's trial."""

    key: Key
    columns: dict[str, Number]
    notes: list[str]


def read_plan(path: Path) -> dict[str, Any]:
    """plan.json. Raises UserError when it is not what a plan is."""
    return dict(schema.read_json(path, PlanFile, AGAIN))


def read_cell(path: Path) -> dict[str, Any]:
    """cell.json. Raises UserError when it is not what a cell is."""
    return dict(schema.read_json(path, CellFile, AGAIN))


def read_result(path: Path) -> dict[str, Any]:
    """result.json. Raises UserError when it is not what a result is."""
    found = dict(schema.read_json(path, ResultFile, AGAIN))
    for part in ("cost", "timing"):
        _check_metrics(path, part, found[part])
    return found


def _check_metrics(path: Path, part: str, values: Any) -> None:
    """Hold what the list of columns knows to numbers; versions and plugins differ in their columns."""
    metrics = {name: value for name, value in values.items() if re.sub(r"_(low|high|p95)$", "", name) in COLUMNS}
    schema.validated(path, {part: metrics}, dict[str, dict[str, Number]], AGAIN)


def read_failure(path: Path) -> dict[str, Any]:
    """failure.json. Raises UserError when it is not what a failure is."""
    return dict(schema.read_json(path, FailureFile, AGAIN))


def read_environment(path: Path) -> dict[str, Any]:
    """environment.json. Raises UserError when it is not what an environment is."""
    return dict(schema.read_json(path, EnvironmentFile, AGAIN))


def read_trial(path: Path) -> dict[str, Any]:
    """trial.json. Raises UserError when it is not what a trial is."""
    return dict(schema.read_json(path, TrialFile, AGAIN))


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically."""
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        pq.write_table(table, temporary)
