"""Runs as things: what lies in a folder, several made one, cells dropped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.core.atomic import write_json
from bench.core.cellspec import name_of
from bench.core.errors import UserError
from bench.store.cells import StoredCell, matching
from bench.store.files import read_plan
from bench.store.layout import CELL_LOCK, ENVIRONMENT, PLAN, PLAN_LOCK
from bench.store.predictions import read_predictions
from bench.store.run import Run

# What the two processes of one cell keep for themselves; no copy needs it.
_OWN = shutil.ignore_patterns(".*")


def runs_in(folder: Path) -> list[dict[str, Any]]:
    """One row a run that lies in a folder, by name; one of another version says so.

    Raises:
        UserError: no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name the one that holds your runs")
    return [_listed(path.parent) for path in sorted(folder.glob(f"*/{PLAN}"))]


def _listed(path: Path) -> dict[str, Any]:
    try:
        return summary(Run.open(path))
    except UserError as error:
        return {"run": path.name, "problem": str(error)}


def summary(run: Run) -> dict[str, Any]:
    """What a run holds: how many cells and in which state, of what, when it was planned last and by which command."""
    cells, plan = run.cells(), read_plan(run.path / PLAN)
    told = {
        f"{noun}s": sorted({str(cell.spec[noun]) for cell in cells})
        for noun in ("model", "dataset", "split", "regime", "seed")
    }
    protocols = {str(sorted(cell.spec["protocol"].items(), key=lambda item: item[0])) for cell in cells}
    return {
        "run": run.name, "cells": len(cells), "done": sum(cell.status == "done" for cell in cells),
        "failed": sum(cell.status in ("failed", "corrupt") for cell in cells), "protocols": len(protocols),
        "mb": round(sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file()) / 1e6, 1),
        "planned": plan.get("written", ""), **told, "command": plan.get("command", ""),
    }  # fmt: skip


def merge(runs: Sequence[Path], out: Path) -> dict[str, int]:
    """Copy the cells of several runs into one; a cell that several have is taken once, from the first that finished it.

    Args:
        out: a new folder, or a run that the cells are added to.

    Returns:
        {"cells": how many it now plans, "copied": how many folders were copied, "shared": how many several had}.

    Raises:
        UserError: no run, or two runs that finished a cell with different predictions.
    """
    sources = [Run.open(path) for path in runs]
    found: dict[str, list[StoredCell]] = {}
    for cell in (cell for source in sources for cell in source.cells()):
        found.setdefault(cell.key, []).append(cell)
    for cells in found.values():
        _refuse_two_results(cells)
    target, copied = Run.create(out), 0
    with _planning(target):
        for key, cells in found.items():
            best = next((cell for cell in cells if cell.status == "done"), cells[0])
            if best.folder.is_dir() and target.cell(key, best.spec).status != "done":
                _copy(best.folder, target.folder(key))
                copied += 1
        entries = [{"key": key, "cell": cells[0].spec} for key, cells in found.items()]
        target.write_plan(entries, f"bench runs merge {' '.join(map(str, runs))} --out {out}")
        if not target.environment():
            # The report shows one machine; each result names its own.
            write_json(target.path / ENVIRONMENT, {**sources[0].environment(), "merged": [run.name for run in sources]})
    shared = sum(len(cells) > 1 for cells in found.values())
    return {"cells": len(target.plan()), "copied": copied, "shared": shared}


def _copy(cell: Path, target: Path) -> None:
    try:
        shutil.copytree(cell, target, dirs_exist_ok=True, ignore=_OWN)
    except shutil.Error as error:
        ((source, _, why), *_) = error.args[0]
        raise UserError(f"{source} cannot be copied ({why}); remove it and merge again") from error


def _refuse_two_results(cells: Sequence[StoredCell]) -> None:
    done = [cell for cell in cells if cell.status == "done"]
    for other in done[1:]:
        one, two = read_predictions(done[0]), read_predictions(other)
        same = one.ids.tolist() == two.ids.tolist() and one.probabilities.tolist() == two.probabilities.tolist()
        if not same:
            raise UserError(
                f"{done[0].folder} and {other.folder} finished one cell ({name_of(other.spec)}) with different "
                "predictions (another processor rounds differently); drop it from one of them first"
            )


def drop(run: Path, pattern: str) -> list[str]:
    """Remove cells from a run, their folders and their lines in the plan; the names of those removed.

    Args:
        run: the run's folder.
        pattern: the beginning of a key, or a pattern on names.

    Raises:
        UserError: no such cell, or one that a process is running.
    """
    stored = Run.open(run)
    with _planning(stored), ExitStack() as stack:
        gone = matching(stored.cells(), pattern)
        if not gone:
            raise UserError(f"{run} has no cell {pattern!r}; cells read 'model · dataset · split · regime · seed 0'")
        for cell in gone:
            if cell.folder.is_dir():
                stack.enter_context(_held(cell.folder))
        stored.forget({cell.key for cell in gone})
        for cell in gone:
            shutil.rmtree(cell.folder, ignore_errors=True)
    return [name_of(cell.spec) for cell in gone]


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """A cell's lock. Raises UserError when a process has it."""
    try:
        with FileLock(folder / CELL_LOCK, timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"{folder} is being run by a process; stop it first") from error


@contextmanager
def _planning(run: Run) -> Iterator[None]:
    """The plan's lock. Raises UserError when another process keeps it."""
    try:
        with FileLock(run.path / PLAN_LOCK, timeout=30):
            yield
    except Timeout as error:
        raise UserError(f"{run.path} is locked by another process that does not let go; stop it first") from error
