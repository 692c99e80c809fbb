"""What is known of the people behind test images: site, age band, sex, anatomy, from the table or a CSV file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from bench.analyses.support.intervals import ResampledSettings
from bench.analyses.support.parts import Predicted
from bench.core.errors import UserError
from bench.data.sources.manifest import read_csv

Texts = NDArray[np.str_]
UNKNOWN = "unknown"
_NO_VALUE = {"", "nan", "none", "na", "n/a", "unknown"}


class CharacteristicsSettings(ResampledSettings):
    """Where the characteristics of test images come from.

    Attributes:
        by: names of metadata columns; the site of an image is always looked at.
        metadata: a CSV file with a row an image; without one, the columns that the table brings along.
        key: the file's column of image ids.
        age_edges: where age bands begin, in years, rising; the first band begins at 0.
    """

    by: tuple[str, ...] = ("age", "sex", "anatomy")
    metadata: str = ""
    key: str = "image_id"
    age_edges: tuple[Annotated[float, Field(gt=0, le=120)], ...] = (20, 40, 60, 80)

    @field_validator("age_edges")
    @classmethod
    def _rising(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if list(edges) != sorted(set(edges)):
            raise ValueError("age_edges must rise")
        return edges


def characteristics(
    cell: Any, test: Predicted, settings: CharacteristicsSettings
) -> tuple[dict[str, Texts], list[str]]:
    """The value of every test image [N] by characteristic, "unknown" where it has none, and notes.

    A characteristic with one value throughout is left out. `age` becomes bands.

    Args:
        cell: the finished cell.
        test: its test set.
        settings: name the characteristics.

    Raises:
        UserError: a metadata file that is missing, or lacks a named column.
    """
    if settings.metadata:
        columns, notes = _from_file(test, settings)
    else:
        columns, notes = _from_table(cell, test, settings)
    columns = {"site": np.asarray(test.sites).astype(str)} | columns
    cleaned = {name: _cleaned(name, values, settings) for name, values in columns.items()}
    return {name: values for name, values in cleaned.items() if len(np.unique(values)) > 1}, notes


def age_band(age: str, edges: tuple[float, ...]) -> str:
    """The band of an age in years, "40-59" for edges at 40 and 60; "unknown" for what is no age."""
    try:
        years = float(age)
    except ValueError:
        return UNKNOWN
    if not 0 <= years <= 130:
        return UNKNOWN
    starts = [0.0, *edges]
    band = max(index for index, start in enumerate(starts) if start <= years)
    low = f"{starts[band]:g}"
    return f"{low} and over" if band == len(edges) else f"{low}-{starts[band + 1] - 1:g}"


def _cleaned(name: str, values: Texts, settings: CharacteristicsSettings) -> Texts:
    known = [UNKNOWN if value.strip().lower() in _NO_VALUE else value.strip() for value in values.tolist()]
    if name == "age":
        known = [age_band(value, settings.age_edges) for value in known]
    return np.array(known, dtype=np.str_)


def _from_table(cell: Any, test: Predicted, settings: CharacteristicsSettings) -> tuple[dict[str, Texts], list[str]]:
    """Columns of `cell.table.metadata` (name -> text [rows of the table]) where the table brings some along."""
    try:
        table = cell.table
    except UserError as error:
        return {}, [f"age, sex and the like are not looked at: {error}"]
    metadata: Mapping[str, Texts] = getattr(table, "metadata", None) or {}
    rows = {str(name): row for row, name in enumerate(table.ids)} if metadata else {}
    columns = {
        name: np.array([_text(metadata[name], rows.get(str(key))) for key in test.ids], dtype=np.str_)
        for name in settings.by
        if name in metadata
    }
    lacking = [name for name in settings.by if name not in metadata]
    return columns, [f"the table has no column {', '.join(lacking)}"] if lacking else []


def _text(values: Texts, row: int | None) -> str:
    return "" if row is None else str(values[row])


def _from_file(test: Predicted, settings: CharacteristicsSettings) -> tuple[dict[str, Texts], list[str]]:
    path = Path(settings.metadata).expanduser()
    if not path.is_file():
        raise UserError(f"metadata file {settings.metadata!r} is not there; name a CSV file with a row an image")
    table = read_csv(path)
    lacking = [name for name in (settings.key, *settings.by) if name not in table.header]
    if lacking:
        raise UserError(f"{settings.metadata} lacks the columns {', '.join(lacking)}; "
                        f"it has {', '.join(table.header)}: set key and by")  # fmt: skip
    rows = {row[settings.key]: row for row in table.rows}
    columns = {
        name: np.array([(rows.get(str(key)) or {}).get(name) or "" for key in test.ids], dtype=np.str_)
        for name in settings.by
    }
    missing = sum(str(key) not in rows for key in test.ids)
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    notes = [f"characteristics are from a file with the checksum {content[:12]}"]
    return columns, notes + ([f"{missing} of {len(test.ids)} test images are not in it"] if missing else [])
