"""What analyses of stored predictions ask of a cell's parts."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError


class Predicted(Protocol):
    """The predictions of one part by rising id: ids, groups, sites [N], labels [N], probabilities [N, k]."""

    @property
    def ids(self) -> NDArray[np.str_]:
        """Image ids."""

    @property
    def groups(self) -> NDArray[np.str_]:
        """Patients or lesions."""

    @property
    def sites(self) -> NDArray[np.str_]:
        """Hospitals or clients, "" where unknown."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class numbers."""

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """One column a class, rows sum to 1."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The k names."""


def tested_part(cell: Any) -> Predicted:
    """The predictions on the test set. Raises UserError where they are missing."""
    found: Predicted = cell.predictions("test")
    return found


def validation_part(cell: Any) -> tuple[Predicted | None, list[str]]:
    """The predictions on the validation part, or None with the reason as a note."""
    try:
        found: Predicted = cell.predictions("val")
    except UserError as error:
        return None, [f"no validation predictions: {error}"]
    if not len(found.labels):
        return None, ["the validation part is empty: nothing can be fitted or chosen on it"]
    return found, []


def present(part: Predicted) -> list[int]:
    """The numbers of the classes that a part holds, rising."""
    return [int(number) for number in np.unique(part.labels)]


def one_class_note(part: Predicted, name: str) -> list[str]:
    """A sentence where a set holds one class only, nothing otherwise."""
    found = present(part)
    return [] if len(found) > 1 else [f"the {name} set holds one class only ({part.classes[found[0]]})"]


def one_hot(numbers: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Numbers [N] of 0 ... size - 1 as rows of zeros with a one [N, size]."""
    table: NDArray[np.float64] = np.eye(size, dtype=np.float64)[numbers]
    return table
