"""The sites' metrics together: random effects, on the logit where a metric is a share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.measure.columns import column
from bench.measure.statistics.meta import FEWEST_STUDIES, Summary, random_effects
from federated.evaluation.answer import OVERCONFIDENCE

LOGIT, PLAIN = "logit", "as it is"


def pooled(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a metric that two sites or more know with an error.

    A share (accuracy, recall, area under the curve) is pooled on the logit scale, where its error is the site's
    divided by v (1 - v); the others as they are. A share of 0 or 1 has no logit: half an independent group is added to
    the right ones and to the wrong ones.

    Args:
        answers: what `answer_of` made at each site.

    Returns:
        Rows with `metric`, `scale`, `sites`, `value`, `low`, `high`, `predicted_low`, `predicted_high` (all back on the
        metric's own scale), `tau2` and `error` (on `scale`), `i2`, `q`, `p`.
    """
    rows = []
    for name in dict.fromkeys(name for answer in answers for name in answer["metrics"]):
        scale = LOGIT if _is_share(name) else PLAIN
        known = [_effect(answer["metrics"].get(name), scale, answer["groups"]) for answer in answers]
        told = [effect for effect in known if effect is not None]
        if len(told) >= FEWEST_STUDIES:
            effects, variances = zip(*told, strict=True)
            rows.append(_row(name, scale, random_effects(effects, variances)))
    return rows


def _is_share(name: str) -> bool:
    """An expected calibration error lies between 0 and 1 too, but is a mean distance and counts no trials."""
    return name not in ("ece", OVERCONFIDENCE) and column(name).limits == (0.0, 1.0)


def _effect(row: Mapping[str, float | None] | None, scale: str, groups: int) -> tuple[float, float] | None:
    """Effect and variance on the scale; None where the site does not know them."""
    if row is None or row["value"] is None:
        return None
    value, error = row["value"], row["error"]
    if scale == LOGIT and value in (0.0, 1.0):
        right, wrong = value * groups + 0.5, (1 - value) * groups + 0.5
        return math.log(right / wrong), 1 / right + 1 / wrong
    if not error:
        return None
    if scale == PLAIN:
        return value, error**2
    return math.log(value / (1 - value)), (error / (value * (1 - value))) ** 2


def _row(name: str, scale: str, found: Summary) -> dict[str, Any]:
    back = _expit if scale == LOGIT else float
    ends = {"value": found.value, "low": found.low, "high": found.high}
    ends |= dict(zip(("predicted_low", "predicted_high"), found.predicted, strict=True))
    values = {key: back(value) if math.isfinite(value) else None for key, value in ends.items()}
    rest = {"tau2": found.tau2, "error": found.error, "i2": found.i2, "q": found.q, "p": found.p}
    return {"metric": name, "scale": scale, "sites": found.studies, **values, **rest}


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value))
