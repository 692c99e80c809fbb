"""A stored cell made alive again: from a run's folder and a key alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from bench.core.cellspec import CellSpec
from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.data import registry as datasets
from bench.data.images.cache import images as cached_images
from bench.data.splits import Split, split
from bench.data.table import Table
from bench.store.cells import StoredCell, matching, read_cell
from bench.store.layout import PLAN, PREDICTOR, RESULT, predictions_file
from bench.store.predictions import PartName, Predictions, read_history, read_predictions, write_predictions
from bench.store.run import Run
from models.predictor import Predictor, load
from models.recipes.batches import Preparation

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FinishedCell:
    """What an analysis, an export and a prediction on new images start from.

    Everything is read when it is first asked for; what needs no images works without the dataset.

    Attributes:
        device: what the predictor computes on.
    """

    stored: StoredCell
    device: torch.device

    @classmethod
    def open(cls, run: Path, name: str, device: torch.device | str = "cpu") -> FinishedCell:
        """Open the one cell of a run that a name stands for.

        Args:
            run: the run's folder, wherever it lies now.
            name: the beginning of its key, or a pattern on its name ("deepmedix · *").
            device: where its predictor computes.

        Raises:
            UserError: no such run, none or several such cells, or one that is not done.
        """
        found = matching(Run.open(run).cells(), name)
        if not found:
            raise UserError(f"{run} has no cell {name!r}; `bench report {run}` lists its cells with their keys")
        if len(found) > 1:
            keys = ", ".join(cell.key for cell in found[:3])
            raise UserError(f"{name!r} stands for {len(found)} cells of {run} ({keys} ...); give more of the key")
        return cls.of(found[0], device)

    @classmethod
    def at(cls, place: Path, device: torch.device | str = "cpu") -> FinishedCell:
        """Open the cell that is named as its folder, or as RUN/NAME with a name that `open` takes.

        Raises:
            UserError: as `open`.
        """
        if (place / RESULT).is_file():
            # Wherever the folder lies and whatever it is called now: its result says whose it is.
            stored = read_cell("", place, {})
            return cls.of(replace(stored, key=(stored.result or {}).get("key", "")), device)
        return cls.open(place.parent, place.name, device)

    @classmethod
    def of(cls, stored: StoredCell, device: torch.device | str = "cpu") -> FinishedCell:
        """A cell that was read before. Raises UserError when it is not done."""
        if stored.result is None:
            raise UserError(f"{stored.folder}: the cell is {stored.status} ({stored.problem or 'not run yet'}); run it")
        return cls(stored, torch.device(device))

    @property
    def key(self) -> str:
        """What it is stored under."""
        return self.stored.key

    @property
    def folder(self) -> Path:
        """Where it is stored."""
        return self.stored.folder

    @property
    def result(self) -> dict[str, Any]:
        """What `result.json` holds."""
        assert self.stored.result is not None
        return self.stored.result

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return tuple(str(name) for name in self.result["data"]["classes"])

    @cached_property
    def spec(self) -> CellSpec:
        """What the cell is. Raises UserError when its protocol is not one of this version's."""
        values = {**self.stored.spec}
        try:
            protocol = Protocol.model_validate(values.pop("protocol"))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UserError(f"{self.folder}: {where} of its protocol: {first['msg']}; run the cell again") from error
        return CellSpec(**values, protocol=protocol)

    @cached_property
    def table(self) -> Table:
        """The dataset, read again by its name. Raises UserError when it is not available or not the same any more."""
        table = datasets.load(self.spec.dataset, self.spec.protocol)
        about = self.result["data"]
        if table.fingerprint() == about["fingerprint"]:
            return table
        raise UserError(f"{self.spec.dataset} is not what this cell was run on: {difference(table, about)}")

    @cached_property
    def parts(self) -> Split:
        """The rows of the table that are its training, validation and test sets."""
        return split(self.table, self.spec.split, self.spec.data_seed)

    @cached_property
    def predictor(self) -> Predictor:
        """What was fitted. Raises UserError when it is damaged, or an earlier version kept weights alone."""
        if not (self.folder / PREDICTOR).is_dir():
            raise UserError(
                f"{self.folder} holds no predictor: an earlier version kept less than its answers need; run it again"
            )
        return load(self.folder / PREDICTOR, self.device)

    @property
    def prepare(self) -> Preparation:
        """Uint8 images [B, H, W, 3] to the predictor's normalized float32 [B, 3, H, W]."""
        return self.predictor.prepare

    def rows(self, part: PartName) -> NDArray[np.int64]:
        """A part's rows of the table, by rising id."""
        return np.sort(self.parts.parts()[part])

    def images(self, part: PartName = "test") -> NDArray[np.uint8]:
        """A part's images, uint8 [N, H, W, 3], in the order of `predictions(part)`."""
        pixels: NDArray[np.uint8] = cached_images(self.table, self.predictor.card.image_size)[self.rows(part)]
        return pixels

    def predictions(self, part: PartName = "test") -> Predictions:
        """A part's predictions by rising id: those of the test set as they were stored, others computed once.

        Raises:
            UserError: what they are made from is not there.
        """
        if part != "test" and not (self.folder / predictions_file(part)).is_file():
            self._predict(part)
        return read_predictions(self.stored, part)

    def beside(self, field: Literal["seed", "model"]) -> list[FinishedCell]:
        """The finished cells of the same run that differ from this one in a field alone; none outside of a run."""
        run = self.folder.resolve().parents[1]
        if not (run / PLAN).is_file():
            return []
        mine = {**self.spec.as_dict(), field: None}
        done = [each for each in Run.open(run).cells() if each.status == "done" and each.key != self.key]
        return [FinishedCell.of(each, self.device) for each in done if {**each.spec, field: None} == mine]

    def frame(self, part: PartName = "test") -> pd.DataFrame:
        """A part's predictions as a table: key, cell, image_id, group, site, label (as text), p_CLASS."""
        import pandas as pd

        found = self.predictions(part)
        about = {"key": self.key, "cell": self.spec.name, "image_id": found.ids, "group": found.groups}
        about |= {"site": found.sites, "label": np.asarray(found.classes)[found.labels]}
        shares = {f"p_{name}": found.probabilities[:, index] for index, name in enumerate(found.classes)}
        return pd.DataFrame({**about, **shares})

    def history(self) -> list[dict[str, Any]]:
        """A row an epoch or round. Raises UserError when it cannot be read."""
        return read_history(self.stored)

    def _predict(self, part: PartName) -> None:
        table, rows = self.table, self.rows(part)
        columns = {"image_id": table.ids, "group": table.groups, "site": table.sites, "label": table.labels}
        probabilities = self.predictor.of_images(self.images(part))
        taken = {name: values[rows] for name, values in columns.items()}
        write_predictions(self.folder, part, taken, probabilities, self.classes)


def difference(table: Table, about: dict[str, Any]) -> str:
    """What tells a table from the one that a result describes."""
    if list(table.classes) != about["classes"]:
        return f"its classes are {', '.join(table.classes)}, not {', '.join(about['classes'])}"
    if len(table) != about["images"]:
        return f"it has {len(table)} images, not {about['images']}"
    return "its ids, labels, groups or pictures changed"
