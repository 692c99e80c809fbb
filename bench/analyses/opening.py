"""A stored cell made alive, as analyses ask it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.data import registry
from bench.data.table import Table
from bench.store.predictions import Predictions, read_history, read_predictions
from bench.store.run import StoredCell


def opened(cell: StoredCell) -> Any:
    """A finished cell."""
    return StoredPredictions(cell)


@dataclass(frozen=True)
class StoredPredictions:
    """A finished cell of which nothing but the stored predictions on its test set is asked."""

    stored: StoredCell

    @property
    def key(self) -> str:
        """Its identity."""
        return self.stored.key

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.stored.folder

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.predictions().classes

    def predictions(self, part: str = "test") -> Predictions:
        """The stored predictions. Raises UserError for another part than the test images."""
        if part != "test":
            raise UserError(f"the cell stores no predictions on its {part} part")
        return read_predictions(self.stored)

    def history(self) -> list[dict[str, Any]]:
        """A row an epoch or round."""
        return read_history(self.stored)

    @property
    def table(self) -> Table:
        """The dataset as it is now. Raises UserError where it is not available, or not the one that the cell saw."""
        fields = Protocol.model_validate(self.stored.spec["protocol"])
        table = registry.load(self.stored.spec["dataset"], fields)
        if table.fingerprint() != (self.stored.result or {})["data"]["fingerprint"]:
            raise UserError(f"the dataset {table.name!r} is not the one any more that the cell {self.key} was made of")
        return table
