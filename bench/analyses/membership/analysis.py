"""The analysis `membership`: cells of other seeds as shadow models of this one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analyses.membership.attacks import confidence, lira, rate_at
from bench.analyses.membership.settings import MembershipSettings
from bench.analyses.registry import Answer, Estimate
from bench.analyses.support.averages import auroc, columns_of, plain
from bench.analyses.support.intervals import estimates, proportion, unit_notes
from bench.core.errors import UserError
from bench.harness.finished import FinishedCell

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
RATES = {"1": 0.01, "01": 0.001}
_PARTS = ("train", "val", "test")


def membership(cell: Any, settings: MembershipSettings, folder: Path) -> Answer:  # noqa: ARG001
    """How well an attacker who has models of other seeds tells this cell's training images from the rest.

    Args:
        cell: a finished cell in a run with cells that differ from it in the seed alone.
        settings: how many shadow models an image needs.
        folder: nothing is written.

    Returns:
        Columns `membership_auc`, `membership_tpr_1`, `membership_tpr_01` (true positives at 1 and 0.1 % false ones) of
        LiRA, `membership_loss_auc` of the threshold on the loss alone, and `membership_gap`: training accuracy less
        that on the rest; table `attacks`.

    Raises:
        UserError: no other seed, or the same training part in all of them.
    """
    return attacked(cell, siblings(cell), settings)


def siblings(cell: Any) -> list[FinishedCell]:
    """The finished cells of the same run that differ in the seed alone. Raises UserError where there are none."""
    found: list[FinishedCell] = cell.beside("seed")
    if not found:
        raise UserError("membership needs shadow models: cells of other seeds; run again with --seeds 3 or more")
    return found


def attacked(cell: Any, shadows: Sequence[Any], settings: MembershipSettings) -> Answer:
    """The attack on one cell by some others.

    Args:
        cell: the finished cell.
        shadows: finished cells of the same model and dataset, whose parts are others.
        settings: of the analysis.
    """
    target, *others = [_known(each) for each in (cell, *shadows)]
    ids = sorted(set(target).intersection(*others))
    members = np.array([target[each].member for each in ids])
    table = np.array([[found[each].confidence for each in ids] for found in others])
    inside = np.array([[found[each].member for each in ids] for found in others])
    own = np.array([target[each].confidence for each in ids])
    scores = lira(own, table, inside, settings.fewest_shadows)
    kept = np.isfinite(scores)
    if not members[kept].any() or members[kept].all():
        raise UserError("membership: the seeds share one training part, so that no image is inside and outside; "
                        "use a split that the seed draws")  # fmt: skip
    groups = np.array([target[each].group for each in ids])[kept]
    found = {"lira": (scores[kept], members[kept]), "loss": (own[kept], members[kept])}
    rows = [{"attack": name, **_row(*given, groups, settings)} for name, given in found.items()]
    right = np.array([target[each].right for each in ids])[kept]
    columns = _columns(rows) | {"membership_gap": _gap(right, members[kept], groups, settings)}
    counts = f"{int(kept.sum())} of {len(ids)} images, {int(members[kept].sum())} of them training images"
    return Answer(columns, {"attacks": rows}, notes=[
        f"attacked by {len(others)} shadow models, {counts}", *_few(len(others)), *unit_notes(groups),
    ])  # fmt: skip


class _Image:
    """What a model says of one image."""

    def __init__(self, confidence: float, right: bool, group: str, member: bool) -> None:
        self.confidence, self.right, self.group, self.member = confidence, right, group, member


def _known(cell: Any) -> dict[str, _Image]:
    """Every image of a cell's three parts by id. Validation images, by which the epoch is chosen, are not members."""
    found: dict[str, _Image] = {}
    for part in _PARTS:
        given = cell.predictions(part)
        sure = confidence(given.labels, given.probabilities)
        hits = given.probabilities.argmax(axis=1) == given.labels
        rows = zip(given.ids.tolist(), sure.tolist(), hits.tolist(), given.groups.tolist(), strict=True)
        found |= {name: _Image(value, hit, group, part == "train") for name, value, hit, group in rows}
    return found


def _row(scores: Floats, members: Bools, groups: NDArray[np.str_], settings: MembershipSettings) -> dict[str, Any]:
    row = columns_of("auc", auroc(scores, members, groups, settings))
    for name, rate in RATES.items():
        threshold, caught = rate_at(scores, members, rate)
        row |= {f"threshold_{name}": plain(threshold)} | columns_of(f"tpr_{name}", proportion(caught, groups[members]))
    return row


def _gap(right: Bools, members: Bools, groups: NDArray[np.str_], settings: MembershipSettings) -> Estimate:
    hits, inside = right.astype(np.float64), members.astype(np.float64)

    def statistics(weights: Floats) -> dict[str, Floats]:
        found = []
        for chosen in (inside, 1 - inside):
            total = weights @ chosen
            found.append(np.divide(weights @ (hits * chosen), total, out=np.full(len(total), np.nan), where=total > 0))
        return {"gap": found[0] - found[1]}

    return estimates(statistics, groups, settings)["gap"]


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, Estimate]:
    lira_row, loss_row = rows

    def taken(row: dict[str, Any], name: str) -> Estimate:
        return Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"])

    columns = {"membership_auc": taken(lira_row, "auc"), "membership_loss_auc": taken(loss_row, "auc")}
    return columns | {f"membership_tpr_{name}": taken(lira_row, f"tpr_{name}") for name in RATES}


def _few(shadows: int) -> list[str]:
    if shadows >= 16:
        return []
    return [f"only {shadows} shadow models: the attack is a weak one, and its success a lower bound of what is leaked"]
