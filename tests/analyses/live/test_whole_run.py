"""Questions to a whole run: what choosing on the test set would seem to gain, and what a data set can tell apart."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f_oneway
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from bench.analyses.selection.discrimination import Measured, discrimination, paired_spread, spread
from bench.analyses.selection.optimism import Candidate, Choice, mean_optimism, selection_optimism


def candidates(*pairs):
    return tuple(Candidate(f"epoch {number}", *pair) for number, pair in enumerate(pairs))


def test_optimism_is_the_tests_best_minus_validations_choice():
    assert selection_optimism(candidates((0.7, 0.65), (0.8, 0.72), (0.75, 0.78))) == pytest.approx(0.06)
    assert selection_optimism(candidates((0.8, 0.72), (0.8, 0.9))) == pytest.approx(0.18)  # the first of equals
    assert selection_optimism(candidates((0.7, 0.65), (0.8, 0.72))) == 0
    assert selection_optimism(candidates((0.7, 0.65))) is None
    assert selection_optimism(candidates((0.7, 0.65), (float("nan"), 0.9))) is None


def test_the_mean_optimism_has_students_interval_cut_at_zero():
    gains = (0.02, 0.05, 0.0, 0.03)
    choices = [Choice(f"seed {n}", candidates((0.9, 0.8), (0.8, 0.8 + gain))) for n, gain in enumerate(gains)]
    found = mean_optimism(choices, "epoch")
    estimate = found.columns["optimism_of_epoch"]
    assert estimate.value == pytest.approx(0.025)
    assert estimate.low == 0
    assert estimate.high == pytest.approx(0.025 + 3.182446305284263 * np.std(gains, ddof=1) / 2)
    assert found.tables["choices"][1] == {"choice": "seed 1", "candidates": 2, "optimism": pytest.approx(0.05),
                                          "by_validation": "epoch 0", "by_test": "epoch 1"}  # fmt: skip


def test_too_few_choices_have_no_interval_and_none_no_metric():
    one = mean_optimism(
        [Choice("seed 0", candidates((0.9, 0.8), (0.8, 0.9))), Choice("seed 1", candidates((0.9, 0.8)))], "epoch"
    )
    assert one.columns["optimism_of_epoch"].low is None
    assert one.notes == ["no epoch chosen among two that have both values: seed 1",
                         "1 choices (epoch): three or more are needed for an interval"]  # fmt: skip
    none = mean_optimism([], "epoch")
    assert none.columns["optimism_of_epoch"].value is None
    assert none.notes == ["no epoch was chosen"]


def drawn(seed, between, within, models=6, seeds=5, shared=0.0):
    generator = np.random.default_rng(seed)
    luck = generator.normal(0, shared, seeds)
    means = 0.8 + generator.normal(0, between, models)
    return means[:, None] + luck + generator.normal(0, within, (models, seeds))


def test_one_way_spread_is_scipys_f():
    values = drawn(0, 0.03, 0.02)
    found, reference = spread(list(values)), f_oneway(*values)
    assert found.p == pytest.approx(reference.pvalue, rel=1e-9)
    assert found.ratio.value == pytest.approx(np.sqrt((reference.statistic - 1) / 5))
    assert found.seeds == pytest.approx(np.sqrt(values.var(axis=1, ddof=1).mean()))
    assert found.models == pytest.approx(found.ratio.value * found.seeds)


def test_paired_spread_is_statsmodels_two_way_table():
    values = drawn(1, 0.02, 0.02, shared=0.05)
    long = pd.DataFrame([(m, s, values[m, s]) for m in range(6) for s in range(5)], columns=["m", "s", "y"])
    table = anova_lm(ols("y ~ C(m) + C(s)", long).fit())
    found = paired_spread(values)
    assert found.p == pytest.approx(table.loc["C(m)", "PR(>F)"], rel=1e-9)
    assert found.seeds == pytest.approx(np.sqrt(table.loc["Residual", "mean_sq"]), rel=1e-9)
    assert found.seeds < spread(list(values)).seeds


def test_the_interval_covers_the_true_ratio():
    covered = 0
    for seed in range(300):
        found = spread(list(drawn(seed, 0.03, 0.02))).ratio
        covered += found.low <= 1.5 <= found.high
    assert 0.92 <= covered / 300 <= 0.98


def measured(values):
    return [Measured(f"m{m}", s, float(values[m, s])) for m in range(len(values)) for s in range(values.shape[1])]


def test_a_data_set_at_its_ceiling_cannot_tell_models_apart_and_the_sentence_says_so():
    poor = discrimination("Br35H", measured(drawn(3, 0.0, 0.002)))
    assert poor.columns["discrimination_power_paired"].low == 0
    assert poor.notes[-1].startswith("Br35H cannot tell these models apart: accuracy spreads by 0.00")
    rich = discrimination("figshare", measured(drawn(3, 0.05, 0.01)))
    assert rich.columns["discrimination_power"].low > 0
    assert rich.notes[-1].startswith("figshare tells these models apart")


def test_unequal_seeds_have_no_paired_metric_and_lone_ones_are_left_out():
    values = measured(drawn(4, 0.05, 0.01))
    found = discrimination("d", [*values[:-1], Measured("lone", 0, 0.5)])
    assert found.columns["discrimination_power_paired"].value is None
    assert found.columns["discrimination_power"].value > 0
    assert "one seed only, left out: lone" in found.notes
    assert len(found.tables["models"]) == 6


@pytest.mark.parametrize(
    ("values", "reason"),
    [(np.full((3, 3), 0.9), "seeds do not differ"), (np.array([[0.8, 0.9]]), "two models with two seeds each"),
     (np.empty((0, 2)), "two models with two seeds each")],
)  # fmt: skip
def test_degenerate_runs_have_no_metric(values, reason):
    found = discrimination("d", measured(values))
    assert {estimate.value for estimate in found.columns.values()} == {None}
    assert reason in found.notes[-1]
