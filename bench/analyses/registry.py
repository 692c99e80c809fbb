"""The registry of analyses, and what each one is asked and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bench.core.registry import Registry, imported

Need = Literal["predictions", "predictor", "images"]


class Settings(BaseModel):
    """An analysis' settings: a frozen model with a default for every field; its values belong to the answer's key."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval; a bound that is not known is None."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Answer:
    """What an analysis found.

    Attributes:
        columns: metrics that may enter tables, by column name; each name starts with the analysis' own.
        tables: larger results, each a list of rows of plain JSON values.
        files: files that the analysis wrote into its folder (pictures, arrays), by what they show.
        notes: what a reader must know, a sentence each.
    """

    columns: dict[str, Estimate] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


Ask = Callable[[Any, Any, Path], Answer]
"""(finished cell or whole run, settings, folder for files) -> answer."""
Scope = Literal["cell", "run"]


@dataclass(frozen=True)
class AnalysisSpec:
    """A registered analysis.

    Attributes:
        title: its heading in a report.
        summary: one line for the listing: the question that it answers.
        ask: the function, or "module:function", imported when it is first needed.
        needs: what it takes from the cell: stored predictions alone, the predictor, or the images as well.
        settings: the type of its settings.
        of: what it is put to: each finished cell, or all of a run's together.
        version: raised when the same settings would give another answer than before.
    """

    name: str
    title: str
    summary: str
    ask: Ask | str
    needs: frozenset[Need] = frozenset({"predictions"})
    settings: type[Settings] = Settings
    of: Scope = "cell"
    version: int = 1

    def load(self) -> Ask:
        """The function itself."""
        return imported(self.ask)

    def configured(self, values: Mapping[str, Any]) -> Settings:
        """The settings from plain values. Raises pydantic.ValidationError for an unknown field or a wrong value."""
        return self.settings.model_validate(dict(values))


ANALYSES: Registry[AnalysisSpec] = Registry(
    "analysis", "bench.analyses", listing="bench analyze list", kind=AnalysisSpec
)
