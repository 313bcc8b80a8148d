from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from tests.training.metrics.cases import some
from training.metrics.calibration import calibration, p_fake, sigmoid


def test_bins_and_brier_score_are_those_of_scikit_learn():
    predictions = some(900)
    p, fake = p_fake(predictions), predictions.is_fake
    found = calibration(p, fake, [])
    shares, means = calibration_curve(fake, p, n_bins=10)
    filled = [one for one in found["bins"] if one["rows"]]
    np.testing.assert_allclose([one["fake"] for one in filled], shares)
    np.testing.assert_allclose([one["p"] for one in filled], means, rtol=1e-6)
    assert found["brier"] == pytest.approx(brier_score_loss(fake, p), rel=1e-6)
    assert sum(one["rows"] for one in found["bins"]) == 900


def test_the_error_is_the_gap_weighted_by_rows():
    p = np.array([0.05, 0.05, 0.05, 0.95])
    found = calibration(p, np.array([True, False, False, True]), [])
    assert found["ece"] == pytest.approx(0.75 * (1 / 3 - 0.05) + 0.25 * 0.05)
    assert found["brier_base"] == 0.25


def test_a_calibrated_model_has_almost_no_error():
    random = np.random.default_rng(0)
    p = random.random(50_000)
    found = calibration(p, random.random(50_000) < p, [])
    assert found["ece"] < 0.01
    assert found["brier"] == pytest.approx(1 / 6, abs=0.005)


def test_edges_belong_to_the_bin_above_and_1_to_the_last():
    found = calibration(np.array([0.0, 0.1, 0.5, 1.0]), np.zeros(4, dtype=bool), [])
    assert [one["rows"] for one in found["bins"]] == [1, 1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert found["bins"][2] == {"low": 0.2, "high": 0.30000000000000004, "rows": 0, "p": None, "fake": None}


def test_no_rows_give_0_and_a_note():
    notes: list[str] = []
    found = calibration(np.zeros(0), np.zeros(0, dtype=bool), notes)
    assert (found["ece"], found["brier"], found["brier_base"]) == (0, 0, 0) and len(notes) == 1


def test_large_margins_do_not_overflow():
    with np.errstate(all="raise"):
        assert sigmoid(np.array([-700.0, -1.0, 0.0, 1.0, 700.0])) == pytest.approx(
            [0, 0.26894, 0.5, 0.73106, 1], abs=1e-5
        )
