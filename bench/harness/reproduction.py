"""The paper's tables 1 to 4 as one plan: which cells, in which order, at which scale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from bench.core.config import Protocol, load_protocol
from bench.core.errors import UserError
from bench.data import registry as datasets
from bench.data.table import Table
from bench.harness.plan import Plan, Request, make_plan, together

FULL_MODEL = "deepmedix"
VARIANTS = "deepmedix*"
# A stated reduction that two CPU cores end overnight; everything else is the paper's own (section 4; reading row 7).
LAPTOP = ("image_size=96", "epochs=12", "timing_batch_size=8")
SCALES: dict[str, tuple[str, ...]] = {"laptop": LAPTOP, "gpu": ()}


@dataclass(frozen=True)
class Step:
    """Cells that are run together.

    Attributes:
        models: patterns.
        seeds: as `--seeds` takes them.
    """

    dataset: str
    split: str
    models: str = FULL_MODEL
    seeds: str = "0,"


def steps(scale: str) -> list[Step]:
    """What the paper's tables need, best first, so that a run that is stopped has said what it could.

    One seed of the full model on every dataset under both splits, then the ablation, then further seeds of the full
    model. At the scale `gpu` every model has three seeds from the start.

    Raises:
        UserError: an unknown scale.
    """
    if scale not in SCALES:
        raise UserError(f"no scale is called {scale!r}; there are {', '.join(SCALES)}")
    first = list(_first())
    ablation = [Step("figshare-brain", "grouped", VARIANTS), Step("brain-kaggle", "official", VARIANTS)]
    others = [Step("br35h", "image", VARIANTS), Step("ham10000-mel-balanced", "grouped", VARIANTS)]
    if scale == "gpu":
        return [replace(each, seeds="3") for each in (*first, *ablation, *others)]
    return [*first, *ablation, *(replace(each, seeds="1,2") for each in first)]


def _first() -> Iterator[Step]:
    """The full model: by the split that the paper most likely used, and by one that keeps patients whole."""
    yield Step("figshare-brain", "grouped")
    yield Step("figshare-brain", "image")
    yield Step("brain-kaggle", "official")
    yield Step("br35h", "image")
    yield Step("ham10000-mel-balanced", "grouped")
    yield Step("ham10000-mel-balanced", "image")
    yield Step("brain-kaggle", "image")
    yield Step("br35h", "grouped")
    yield Step("ham10000-mel-oversampled", "image")
    yield Step("ham10000", "grouped")
    yield Step("ham10000", "image")
    yield Step("isic2019", "grouped")
    yield Step("isic2019", "image")


def reproduction_protocol(scale: str, weights: str | None, overrides: list[str]) -> Protocol:
    """The paper's protocol at a scale, with other initial weights or single fields where they are asked for.

    Args:
        scale: a key of `SCALES`.
        weights: of the protocol; None: as the scale says.
        overrides: "field=value" of the protocol.
    """
    chosen = [] if weights is None else [f"weights={json.dumps(weights)}"]
    return load_protocol("paper", [*SCALES[scale], *chosen, *overrides])


def reproduction_plan(scale: str, weights: str | None = None, overrides: list[str] | None = None) -> Plan:
    """One plan of all steps whose dataset is available; the others are named with the command that brings them.

    Args:
        scale: a key of `SCALES`.
        weights: of the protocol; None: as the scale says.
        overrides: "field=value" of the protocol.

    Raises:
        UserError: an unknown scale or field, weights that cannot be had, or no dataset of the paper at all.
    """
    wanted = steps(scale)
    protocol = reproduction_protocol(scale, weights, overrides or [])
    available = set(datasets.available())
    absent = {
        each.dataset: datasets.DATASETS.get(each.dataset).hint for each in wanted if each.dataset not in available
    }
    tables: dict[str, Table] = {}
    plans = [make_plan(_request(each, protocol), tables) for each in wanted if each.dataset in available]
    if not plans:
        raise UserError(f"none of the paper's datasets is available; {next(iter(absent.values()))}")
    return replace(together(*plans), absent=absent)


def _request(step: Step, protocol: Protocol) -> Request:
    asked: dict[str, Any] = {"models": step.models, "datasets": step.dataset, "split": step.split, "seeds": step.seeds}
    return Request(protocol=protocol, regimes="centralized", **asked)
