"""A run's folder: its plan, its environment and its cells; `bench/store/layout.py` says where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.atomic import write_json
from bench.core.errors import UserError
from bench.core.schema import refuse_links_out
from bench.store.cells import StoredCell, read_cell, row
from bench.store.files import now, read_environment, read_plan
from bench.store.layout import ENVIRONMENT, PLAN, SCHEMA, WANDB_FOLDER, cells_folder

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Run:
        """Make the folder, or take the one that is there if this version wrote it.

        Raises:
            UserError: the folder holds something else, or a run of another layout.
        """
        run = cls(path)
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; --out takes a folder for the run")
        # Hidden files are another process's lock and half-written plan: it began this run a moment ago.
        if not path.exists() or all(file.name.startswith(".") for file in path.iterdir()):
            path.mkdir(parents=True, exist_ok=True)
            return run
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """Take an existing run.

        Raises:
            UserError: no run there, or one of another layout.
        """
        plan = path / PLAN
        if not plan.is_file():
            raise UserError(f"{path} is no run: it has no {PLAN}; name a folder that `bench run --out` made")
        refuse_links_out(path, "remove it: what is written through it would land elsewhere", {WANDB_FOLDER})
        schema = read_plan(plan)["schema"]
        if schema != SCHEMA:
            raise UserError(
                f"{path} was made by another version (layout {schema}, this one writes {SCHEMA}); choose another --out"
            )
        return cls(path)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    def folder(self, key: str) -> Path:
        """A cell's folder."""
        return cells_folder(self.path) / key

    def write_plan(self, cells: list[dict[str, Any]], command: str) -> None:
        """Remember what was asked for; cells asked for earlier stay in the plan."""
        before: Any = read_plan(self.path / PLAN) if (self.path / PLAN).is_file() else {}
        known = {cell["key"]: cell for cell in before.get("cells", [])} | {cell["key"]: cell for cell in cells}
        if before.get("command") == command and before["cells"] == list(known.values()):
            return
        plan = {"schema": SCHEMA, "command": command, "written": now(), "cells": list(known.values())}
        write_json(self.path / PLAN, plan)

    def forget(self, keys: set[str]) -> None:
        """Take cells out of the plan."""
        stored = read_plan(self.path / PLAN)
        left = [entry for entry in stored["cells"] if entry["key"] not in keys]
        write_json(self.path / PLAN, {**stored, "written": now(), "cells": left})

    def plan(self) -> list[dict[str, Any]]:
        """The planned cells, each {"key", "cell"}; empty before the first plan."""
        if not (self.path / PLAN).is_file():
            return []
        cells: list[dict[str, Any]] = read_plan(self.path / PLAN)["cells"]
        return cells

    def environment(self) -> dict[str, Any]:
        """What the machine was; empty when it was not written."""
        path = self.path / ENVIRONMENT
        return read_environment(path) if path.is_file() else {}

    def cell(self, key: str, spec: dict[str, Any]) -> StoredCell:
        """Read one cell; whatever is wrong with its files becomes its status."""
        return read_cell(key, self.folder(key), spec)

    def cells(self) -> list[StoredCell]:
        """Every planned cell, in the plan's order."""
        return [self.cell(entry["key"], entry["cell"]) for entry in self.plan()]

    def frame(self) -> pd.DataFrame:
        """One row a planned cell: what it is, status and problem, every metric, interval, cost and timing."""
        import pandas as pd

        return pd.DataFrame([row(cell) for cell in self.cells()])
