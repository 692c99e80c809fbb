"""Weights & Biases: one W&B run a cell, sent while it runs or afterwards; losing W&B never fails a cell.

What was sent is kept in the cell's folder (`wandb.json`), so that a resumed cell goes on under the same W&B id after
the last epoch that was sent, and a run that is sent again sends only what is new.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from bench.core.atomic import write_json
from bench.core.errors import UserError
from bench.core.identity import digest
from bench.core.schema import read_json
from bench.store.cells import StoredCell
from bench.store.layout import TRACKING
from bench.store.run import Run
from reports.load.source import Source, load
from reports.wandb.content import send_result
from reports.wandb.dashboard import dashboard
from reports.wandb.network import settled_mode

PROJECT = "deepmedix-bench"
MODES = ("offline", "online")

log = logging.getLogger(__name__)


@with_config(ConfigDict(extra="allow"))
class _Sent(TypedDict):
    """wandb.json: the last step and the digest of the result that were sent."""

    sent: NotRequired[int]
    result: NotRequired[str]


class CellTracker:
    """One cell's W&B run. Every call is safe: the first failure is told, and the rest of the cell goes untracked."""

    def __init__(self, run: Run, key: str, spec: dict[str, Any], mode: str, environment: dict[str, Any]) -> None:
        self._folder = run.folder(key)
        self._state = read_state(self._folder)
        self._run: Any = None
        self._lost = False
        self._attempt(lambda: self._open(run, key, spec, mode, environment))

    def row(self, row: dict[str, Any]) -> None:
        """Log an epoch or a round, unless it was sent before."""
        step = step_of(row)
        if step is not None and step > self._state.get("sent", -1):
            self._attempt(lambda: self._log(row, step))

    def end(self, source: Source | None, cell: StoredCell) -> None:
        """Send the result, the predictions and the curves, and end the W&B run; a failed cell ends as failed."""
        if cell.result is not None and source is not None:
            self._attempt(lambda: self._conclude(source, cell))
        self._attempt(lambda: self._run.finish(exit_code=0 if cell.result is not None else 1))

    def leave(self) -> None:
        """End the W&B run of a cell that was interrupted."""
        self._attempt(lambda: self._run.finish(exit_code=255))

    def _open(self, *about: Any) -> None:
        self._run = _begin(*about)

    def _log(self, row: dict[str, Any], step: int) -> None:
        self._run.log({name: value for name, value in row.items() if _is_number(value)}, step=step)
        self._remember(sent=step)

    def _conclude(self, source: Source, cell: StoredCell) -> None:
        send_result(self._run, source, cell)
        self._remember(result=_result_digest(cell))

    def _remember(self, **changes: Any) -> None:
        self._state |= {"id": self._run.id, "project": PROJECT, **changes}
        write_json(self._folder / TRACKING, self._state)

    def _attempt(self, action: Callable[[], None]) -> None:
        if self._lost:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever W&B raises, the cell's own result must not be lost for it
            self._lost = True
            log.warning("W&B is lost for this cell (%s: %s); its results are kept", type(error).__name__, error)


class Tracker:
    """Hears of a run's cells and tells W&B."""

    def __init__(self, run: Run, mode: str) -> None:
        check_mode(mode)
        self._run, self._mode = run, settled_mode(mode, run.path)
        self._cells: dict[str, CellTracker] = {}

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        for tracker in self._cells.values():
            tracker.leave()

    def started(self, cell: Any, folder: Path) -> None:
        """A cell begins or goes on; after its worker was lost it goes on under the same W&B run."""
        if cell.key not in self._cells:
            environment = self._run.environment()
            self._cells[cell.key] = CellTracker(self._run, cell.key, cell.spec.as_dict(), self._mode, environment)

    def event(self, key: str, event: dict[str, Any]) -> None:
        """Log the rows of epochs and rounds; other events are for the display."""
        if event.get("event") == "epoch" and key in self._cells:
            self._cells[key].row(event)

    def finished(self, stored: StoredCell) -> None:
        """Send a cell's result."""
        tracker = self._cells.pop(stored.key, None)
        if tracker is None:
            return
        source = Source(self._run.path, [stored], self._run.environment(), {}) if stored.result else None
        tracker.end(source, stored)

    def waiting(self, count: int) -> None:
        """Nothing to tell."""


def send(path: Path, mode: str) -> dict[str, Any]:
    """Send an existing run's finished cells; those that were sent whole stay as they are.

    Returns:
        {"sent": [keys], "already": how many, "lost": [keys], "project", "dashboard"}.

    Raises:
        UserError: no run, or an unknown mode.
    """
    check_mode(mode)
    source, run = load(path), Run(path)
    mode = settled_mode(mode, run.path)
    sent: list[str] = []
    lost: list[str] = []
    already = 0
    for cell in source.done:
        if read_state(cell.folder).get("result") == _result_digest(cell):
            already += 1
            continue
        (sent if _send_cell(run, source, cell, mode) else lost).append(cell.key)

    made = dashboard(source, mode, PROJECT)
    return {"sent": sent, "already": already, "lost": lost, "project": PROJECT, "dashboard": made}


def _send_cell(run: Run, source: Source, cell: StoredCell, mode: str) -> bool:
    tracker = CellTracker(run, cell.key, cell.spec, mode, source.environment)
    for row in source.history(cell):
        tracker.row(row)
    tracker.end(source, cell)
    return read_state(cell.folder).get("result") == _result_digest(cell)


def check_mode(mode: str) -> None:
    """Refuse what W&B has not. Raises UserError."""
    if mode not in MODES:
        raise UserError(f"--wandb takes off, {' or '.join(MODES)}, not {mode!r}")


def step_of(row: dict[str, Any]) -> int | None:
    """The epoch or round of a history's row."""
    found = [row[name] for name in ("round", "epoch") if row.get(name) is not None]
    return int(found[0]) if found else None


def read_state(folder: Path) -> dict[str, Any]:
    """What was sent of a cell; empty when nothing was, or when the note is damaged (it is sent again then)."""
    try:
        return dict(read_json(folder / TRACKING, _Sent, "delete it to send the cell again"))
    except UserError:
        return {}


def run_id(run: Run, key: str) -> str:
    """The W&B id of a cell: the same whenever it is resumed or sent again."""
    return f"{key}-{digest(run.name, 6)}"


def _begin(run: Run, key: str, spec: dict[str, Any], mode: str, environment: dict[str, Any]) -> Any:
    import wandb

    model, dataset, regime = spec["model"], spec["dataset"], spec["regime"]
    return wandb.init(
        project=PROJECT,
        id=run_id(run, key),
        resume="allow" if mode == "online" else None,
        group=run.name,
        name=f"{model} · {dataset} · {spec['split']} · {regime} · seed {spec['seed']}",
        tags=[tag[:64] for tag in (model, dataset, regime)],
        job_type=regime,
        config={**spec, "key": key, "environment": environment},
        dir=str(run.path),
        mode="online" if mode == "online" else "offline",
        reinit="create_new",
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _result_digest(cell: StoredCell) -> str:
    return digest(cell.result) if cell.result is not None else ""
