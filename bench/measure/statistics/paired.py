"""Paired statistics of two systems on the same images.

Images of one patient are not independent, so whole groups are what is drawn or flipped wherever groups are known
(`bench.measure.statistics.clusters`). With one image a group every test here is its textbook form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.measure.quality import scores
from bench.measure.statistics.clusters import clusters
from bench.measure.statistics.jackknife import freedom
from bench.measure.statistics.methods import TOO_NARROW
from bench.measure.statistics.student import student_quantile, student_tail

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Z95 = 1.959963984540054
# Six discordant images all in one direction are the fewest that an exact test calls significant: 2 / 2**6 = 0.031.
FEWEST_DISCORDANT = 6
EXACT_BELOW = 25
FLIPS = "exact sign flips of groups, jackknife interval"


@dataclass(frozen=True)
class Difference:
    """A minus B of one metric, with its 95 % interval, standard error and two-sided p value.

    Attributes:
        method: how it was found; of the `narrow` ones it says so.
        freedom: degrees of freedom behind the error; infinite for a normal one.
    """

    value: float
    low: float
    high: float
    error: float
    p: float
    method: str
    freedom: float = math.inf

    @property
    def narrow(self) -> bool:
        """Whether single images stood in for groups, so that the interval is too narrow."""
        return TOO_NARROW in self.method


@dataclass(frozen=True)
class Mcnemar:
    """McNemar's test: images that only A (`only_a`) or only B decides rightly."""

    only_a: int
    only_b: int
    p: float
    exact: bool


def mcnemar(right_a: ArrayLike, right_b: ArrayLike) -> Mcnemar:
    """McNemar's test of two [N] vectors of right/wrong: exact below 25 discordant images, else with continuity
    correction (Edwards 1948). Two-sided; p is 1 when nothing is discordant.
    """
    first, second = np.asarray(right_a, dtype=bool), np.asarray(right_b, dtype=bool)
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    exact = only_a + only_b < EXACT_BELOW
    if only_a + only_b == 0:
        return Mcnemar(0, 0, 1.0, exact)
    return Mcnemar(only_a, only_b, _binomial_p(only_a, only_b) if exact else _edwards_p(only_a, only_b), exact)


def _binomial_p(only_a: int, only_b: int) -> float:
    """Two-sided p of as uneven a number of heads among fair coins."""
    coins = only_a + only_b
    tail = sum(math.comb(coins, heads) for heads in range(min(only_a, only_b) + 1))
    return float(min(1.0, 2 * tail / 2**coins))


def _edwards_p(only_a: int, only_b: int) -> float:
    """The chi-square test with Edwards' continuity correction."""
    from scipy.special import chdtrc

    return float(chdtrc(1, (abs(only_a - only_b) - 1) ** 2 / (only_a + only_b)))


def sign_flip(sums: ArrayLike) -> tuple[float, float]:
    """The exact sign-flip test of whole-number differences, one a group: (two-sided p, p of "A is not worse").

    Under the null each group's difference is as likely to have the other sign. The distribution of the total is the
    product of the polynomials (x^d + x^-d) / 2, multiplied out. Groups of one image give McNemar's exact test.
    """
    steps = np.abs(np.asarray(sums, dtype=np.int64))
    steps, observed = steps[steps > 0], int(np.asarray(sums, dtype=np.int64).sum())
    reach = int(steps.sum())
    chances = np.zeros(2 * reach + 1)
    chances[reach] = 1.0
    for step in steps:
        up, down = np.zeros_like(chances), np.zeros_like(chances)
        up[step:], down[:-step] = chances[:-step], chances[step:]
        chances = (up + down) / 2
    totals = np.arange(-reach, reach + 1)
    both = float(chances[np.abs(totals) >= abs(observed)].sum())
    return min(1.0, both), min(1.0, float(chances[totals <= observed].sum()))


def accuracy_difference(right_a: ArrayLike, right_b: ArrayLike, groups: ArrayLike) -> Difference:
    """Accuracy of A minus B on the same images [N], its p by `sign_flip` over groups.

    Several seeds are pooled by concatenation: one patient's images stay one group over all of them.

    Args:
        right_a, right_b: whether each model is right, bool [N].
        groups: the patient or lesion of each image [N].
    """
    steps = np.asarray(right_a, dtype=np.float64) - np.asarray(right_b, dtype=np.float64)
    codes, _ = clusters(groups)
    sums = group_sums(steps, codes)
    members = np.bincount(codes).astype(np.float64)
    p, _ = sign_flip(np.rint(sums).astype(np.int64))
    spread = clustered_error(sums, members)
    return replace(normal_difference(float(steps.mean()), spread, FLIPS, freedom(members)), p=p)


def group_sums(values: Floats, codes: Ints) -> Floats:
    """Sums of values [N] by cluster number [N]: [clusters]."""
    return np.bincount(codes, weights=values).astype(np.float64)


def clustered_error(sums: Floats, members: Floats) -> float:
    """The jackknife's standard error of a mean over images, of groups' sums and numbers of images [groups].

    Without a group the mean moves by its residual over what is left. NaN for a single group.
    """
    if sums.size < 2:
        return math.nan
    mean = sums.sum() / members.sum()
    moves = (sums - mean * members) / (members.sum() - members)
    return float(np.sqrt((moves**2).sum() * (sums.size - 1) / sums.size))


def auc(labels: ArrayLike, probabilities: ArrayLike) -> tuple[float, Floats]:
    """ROC-AUC, one class against the rest, macro over classes, with each image's share [N] in its deviation.

    The shares are DeLong's structural components (1988) from mid-ranks (Sun and Xu 2014: n log n), scaled so that the
    sum of their squares is DeLong's variance. Classes without images, or with nothing else, are left out.
    """
    truth, shares = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    values, parts = [], []
    for index in range(shares.shape[1]):
        positive = truth == index
        if 0 < positive.sum() < truth.size:
            value, part = _one_auc(positive, shares[:, index])
            values.append(value)
            parts.append(part)
    if not values:
        return float("nan"), np.full(truth.size, np.nan)
    return float(np.mean(values)), np.mean(parts, axis=0)


def _one_auc(positive: NDArray[np.bool_], score: Floats) -> tuple[float, Floats]:
    ranks = _mean_ranks(score)
    many, rest = int(positive.sum()), int((~positive).sum())
    components = np.empty(score.size)
    components[positive] = (ranks[positive] - _mean_ranks(score[positive])) / rest
    components[~positive] = 1 - (ranks[~positive] - _mean_ranks(score[~positive])) / many
    value = float(components[positive].mean())
    scale = np.where(positive, math.sqrt(many * max(many - 1, 1)), math.sqrt(rest * max(rest - 1, 1)))
    return value, (components - value) / scale


def _mean_ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = ((2 * last - counts + 1) / 2)[places]
    return ranks


def normal_difference(value: float, spread: float, method: str, free: float = math.inf) -> Difference:
    """A difference with a standard error and Student's t of `free` degrees of freedom; p is 1 where both are 0.

    Args:
        value: the difference.
        spread: its standard error.
        method: how it was tested, in words.
        free: degrees of freedom; infinite: a normal distribution.
    """
    if not math.isfinite(value) or not math.isfinite(spread):
        return Difference(value, math.nan, math.nan, math.nan, math.nan, method, free)
    p = 2 * student_tail(abs(value) / spread, free) if spread > 0 else float(value == 0)
    reach = student_quantile(0.975, free) * spread
    return Difference(value, value - reach, value + reach, spread, p, method, free)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979) over a family; NaN stays NaN and is no member of it."""
    values = np.asarray(p_values, dtype=np.float64)
    known, adjusted = np.isfinite(values), np.full(values.size, math.nan)
    if known.any():
        ordered = np.argsort(values[known], kind="stable")
        stepped = np.maximum.accumulate(values[known][ordered] * np.arange(len(ordered), 0, -1))
        family = np.empty(len(ordered))
        family[ordered] = np.minimum(stepped, 1.0)
        adjusted[known] = family
    return [float(p) for p in adjusted]


def smallest_difference(error: float, images: int, free: float = math.inf) -> float:
    """The true accuracy difference that a two-sided 5 % test on these images would find four times out of five.

    It is never below what the fewest significant discordant images make up.

    Args:
        error: the difference's standard error.
        images: on which it was measured.
        free: degrees of freedom.
    """
    return max((student_quantile(0.975, free) + student_quantile(0.8, free)) * error, FEWEST_DISCORDANT / images)


def same_images(ids_a: ArrayLike, ids_b: ArrayLike) -> tuple[Ints, Ints] | None:
    """Positions that bring two predictions into one order, None when their images differ."""
    first, second = np.asarray(ids_a).astype(str), np.asarray(ids_b).astype(str)
    order_a, order_b = np.argsort(first, kind="stable"), np.argsort(second, kind="stable")
    if first.size != second.size or not np.array_equal(first[order_a], second[order_b]):
        return None
    return order_a.astype(np.int64), order_b.astype(np.int64)


def drawn_groups(groups: ArrayLike, ids: ArrayLike) -> tuple[NDArray[np.str_], str]:
    """What counts as independent when seeds are pooled, and its unit, a key of `METHODS`.

    The groups, or each image where no second group is known. An image without a group stands for itself, under its own
    id in every seed.
    """
    names, unit = np.asarray(groups).astype(str), clusters(groups)[1]
    alone = np.char.add("\x01", np.asarray(ids).astype(str))
    return (np.where(names == "", alone, names) if unit == "group" else alone), unit


def right(labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each image's arg-max class is its label: [N].

    Args:
        labels: class numbers [N].
        probabilities: [N, k].
        classes: k names.
    """
    given = scores(labels, probabilities, classes)
    hits: NDArray[np.bool_] = given.decisions == given.labels
    return hits
