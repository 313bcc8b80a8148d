from __future__ import annotations

import numpy as np
import pytest

from pipeline.costs.estimate import LEVEL, per_row
from pipeline.costs.intervals import added, certain, measured_once, rounded, scaled
from pipeline.costs.pilot import batches


def test_sums_and_multiples_keep_estimate_and_order():
    one, other = {"estimate": 10.0, "low": 7.0, "high": 14.0}, {"estimate": 20.0, "low": 16.0, "high": 23.0}
    assert added(one, other) == {"estimate": 30.0, "low": 25.0, "high": 35.0}
    assert added(one, certain(5.0)) == {"estimate": 15.0, "low": 12.0, "high": 19.0}
    assert scaled(one, 2) == {"estimate": 20.0, "low": 14.0, "high": 28.0}
    assert rounded(scaled(one, 1 / 3)) == {"estimate": 3, "low": 2, "high": 5}
    assert measured_once(8.0) == {"estimate": 8.0, "low": 4.0, "high": 16.0}


@pytest.mark.parametrize("count", [4, 7, 25])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(count):
    draw = np.random.default_rng(count)
    truth, hits, trials = 0.25, 0, 300
    for trial in range(trials):
        rows = draw.integers(20, 40, count)
        # A batch's time is its rows', with a spread of a third.
        seconds = rows * truth * draw.gamma(9, 1 / 9, count)
        found = per_row(list(seconds), list(rows), seed=trial)
        hits += found["low"] <= truth <= found["high"]
    assert abs(hits / trials - LEVEL) < 0.06


def test_the_estimate_is_the_ratio_of_sums_and_the_same_in_every_run():
    first = per_row([1.0, 5.0, 3.0], [10, 30, 20], seed=1)
    assert first["estimate"] == pytest.approx(9 / 60)
    assert 0 <= first["low"] < first["estimate"] < first["high"]
    assert first == per_row([1.0, 5.0, 3.0], [10, 30, 20], seed=1)
    assert per_row([3.0], [10], seed=0) == measured_once(0.3)


def test_results_that_come_together_are_one_batch():
    arrived = [0.5, 0.5, 0.5002, 1.25, 1.25, 1.5]
    assert batches(arrived, most=40) == [(3, 0.5002), (2, pytest.approx(0.7498)), (1, 0.25)]


def test_results_that_come_one_by_one_are_taken_together():
    arrived = list(np.arange(1, 1001) * 0.01)
    found = batches(arrived, most=40)
    assert len(found) == 40 and {count for count, _ in found} == {25}
    assert sum(seconds for _, seconds in found) == pytest.approx(10.0)
    assert sum(count for count, _ in batches(arrived[:7], most=40)) == 7
