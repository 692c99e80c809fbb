"""What a cell's validation and training images say of its answers: temperature, conformal thresholds, likeness."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from bench.analyses.support.calibrators import Temperature, fit_temperature
from bench.analyses.support.conformal_sets import lac_scores, prediction_sets, thresholds
from bench.analyses.support.likeness import Likeness, features_of
from bench.analyses.support.parts import one_class_note, validation_part
from bench.core.atomic import write_bytes
from bench.core.errors import UserError
from bench.core.schema import MOST_ARRAYS, read_bytes
from bench.store.layout import TRAINING_FEATURES

Floats = NDArray[np.float64]
MISS = 0.1
NEIGHBOURS = 5


@dataclass(frozen=True)
class Reference:
    """What new answers are held against; what is not known is None, and a note says why.

    Attributes:
        temperature: fitted on the validation part.
        limits: the conformal threshold of every class [k], for sets that miss a class's images in `MISS` of all cases.
        likeness: the training images' features.
    """

    temperature: Temperature | None
    limits: Floats | None
    likeness: Likeness | None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, cell: Any) -> Reference:
        """Of a finished cell, as far as its dataset is available and its predictor has a network."""
        val, notes = validation_part(cell)
        temperature = None if val is None else fit_temperature(val.labels, val.probabilities)
        if val is not None and temperature is None:
            notes = [*notes, "no temperature fits the validation part: probabilities are not calibrated"]
        limits = None
        if val is not None and not one_class_note(val, "validation"):
            limits = thresholds(val.labels, lac_scores(val.probabilities), MISS, per_class=True)
        try:
            return cls(temperature, limits, stored_likeness(cell), notes)
        except UserError as error:
            return cls(temperature, limits, None, [*notes, f"likeness to the training images is not known: {error}"])

    def sets(self, probabilities: Floats) -> NDArray[np.bool_] | None:
        """Which classes [N, k] cannot be ruled out."""
        return None if self.limits is None else prediction_sets(lac_scores(probabilities), self.limits)

    def distances(self, predictor: Any, images: NDArray[np.uint8]) -> Floats | None:
        """How far images lie from the training images [N]; see `Likeness`."""
        return None if self.likeness is None else self.likeness.distances(features_of(predictor, images))


def stored_likeness(cell: Any) -> Likeness:
    """The cell's `Likeness`, kept in its folder once it was computed. Raises UserError as `Likeness.of`."""
    path = cell.folder / TRAINING_FEATURES
    if path.is_file():
        try:
            found = load(read_bytes(path, "delete it and ask again", MOST_ARRAYS))
            return Likeness(found["features"].astype(np.float64), found["rows"], int(found["k"]), float(found["limit"]))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); delete it and ask again") from error
    made = Likeness.of(cell, NEIGHBOURS)
    arrays: dict[str, Any] = {"features": made.features.astype(np.float32), "rows": made.rows}
    write_bytes(path, save({**arrays, "k": np.array(made.k), "limit": np.array(made.limit)}))
    return made
