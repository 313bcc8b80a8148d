from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.training.metrics.cases import some
from training.ablation.statistics import difference, estimate
from training.metrics.bootstrap import draw_figures


def test_the_interval_of_a_mean_is_scipys():
    values = [0.71, 0.74, 0.69, 0.73, 0.75]
    found = estimate(values)
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert found.mean == pytest.approx(np.mean(values)) and found.sd == pytest.approx(np.std(values, ddof=1))


def test_two_values_have_the_interval_of_the_closed_form():
    # t of one degree of freedom is Cauchy's tan: the half width is tan(0.475 pi) * |a - b| / 2.
    found = estimate([0.5, 0.6])
    assert found.high - found.mean == pytest.approx(np.tan(0.475 * np.pi) * 0.05)


def test_one_value_has_no_interval():
    found = estimate([0.5])
    assert (found.mean, found.sd, found.low, found.high, found.n) == (0.5, None, None, None, 1)


def test_differences_are_paired_by_seed():
    one = {0: 0.80, 1: 0.60, 2: 0.91, 7: 0.1}
    other = {2: 0.88, 0: 0.78, 1: 0.57, 9: 0.9}
    found = difference(one, other)
    pairs = [[one[seed], other[seed]] for seed in (0, 1, 2)]
    wanted = stats.ttest_rel(*np.transpose(pairs)).confidence_interval(0.95)
    assert found.n == 3
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert found.over_seeds == 1 and found.over_rows == 0
    assert difference(other, one).over_seeds == -1
    assert difference({1: 0.5}, {2: 0.5}) is None


def test_what_all_draws_have_in_common_drops_out_of_the_difference():
    draws = np.random.default_rng(0).normal(0.5, 0.2, 400)
    found = difference(
        {0: 0.6, 1: 0.6}, {0: 0.5, 1: 0.5}, {0: draws + 0.1, 1: draws}, {0: draws, 1: draws - 0.1}
    )
    assert (found.rows_low, found.rows_high) == pytest.approx((0.1, 0.1))
    assert found.over_rows == 1


def test_undefined_draws_are_left_out_and_too_many_leave_no_interval():
    draws = np.linspace(0.0, 1.0, 101)
    some_missing, most_missing = draws.copy(), draws.copy()
    some_missing[:10], most_missing[:60] = np.nan, np.nan
    zero = {0: np.zeros(101)}
    found = difference({0: 1.0}, {0: 0.0}, {0: some_missing}, zero)
    assert found.rows_low == pytest.approx(np.quantile(draws[10:], 0.025))
    assert difference({0: 1.0}, {0: 0.0}, {0: most_missing}, zero).rows_low is None


def test_the_draws_of_two_models_are_paired():
    better = some(180, seed=3)
    worse = some(
        180, seed=3, logits_binary=better.logits_binary + np.random.default_rng(1).normal(size=(180, 2))
    )
    clusters = np.arange(180) // 3
    one, other = (draw_figures(each, clusters, 300)["acc"] for each in (better, worse))
    hits = [(each.logits_binary[:, 1] > each.logits_binary[:, 0]) == each.is_fake for each in (better, worse)]
    # The variance of a mean over drawn items is that of the items' means over their number.
    items = (hits[0].astype(float) - hits[1]).reshape(60, 3).mean(axis=1)
    assert np.std(one - other) == pytest.approx(items.std() / np.sqrt(60), rel=0.15)
    low, high = np.quantile(one - other, [0.025, 0.975])
    found = difference({0: hits[0].mean()}, {0: hits[1].mean()}, {0: one}, {0: other})
    assert (found.rows_low, found.rows_high) == pytest.approx((low, high))
    assert found.rows_low < found.mean < found.rows_high
