from __future__ import annotations

import numpy as np
import pytest

from tests.training.metrics.cases import some
from training.metrics.calibration import p_fake
from training.metrics.operating import operating_points

NAMES = {"fpr_1", "fpr_5", "fpr_10", "tpr_95", "best_f1", "argmax"}


def case(rows: int, seed: int, digits: int | None = None):
    predictions = some(rows, seed=seed)
    p = p_fake(predictions)
    return (p if digits is None else p.round(digits)), predictions.is_fake


def rates(p, fake, threshold):
    flagged = p >= threshold
    return (flagged & ~fake).sum() / (~fake).sum(), (flagged & fake).sum() / fake.sum()


@pytest.mark.parametrize(("rows", "digits"), [(900, None), (900, 1), (40, None)])
def test_every_point_is_the_best_of_all_thresholds(rows, digits):
    p, fake = case(rows, 2, digits)
    found = operating_points(p, fake, [])
    assert set(found) == NAMES
    ladder = [(*rates(p, fake, value), value) for value in np.append(np.unique(p), 2.0)]
    for name, rate in (("fpr_1", 0.01), ("fpr_5", 0.05), ("fpr_10", 0.10)):
        assert found[name]["tpr"] == pytest.approx(max(tpr for fpr, tpr, _ in ladder if fpr <= rate)), name
        assert found[name]["fpr"] <= rate
    assert found["tpr_95"]["fpr"] == pytest.approx(min(fpr for fpr, tpr, _ in ladder if tpr >= 0.95))
    f1 = [2 * (h := tpr * fake.sum()) / (h + fpr * (~fake).sum() + fake.sum()) for fpr, tpr, _ in ladder]
    assert found["best_f1"]["f1"] == pytest.approx(max(f1))


def test_rates_are_met_again_by_the_thresholds():
    p, fake = case(900, 4)
    for name, point in operating_points(p, fake, []).items():
        if point["threshold"] is not None and name != "argmax":
            assert rates(p, fake, np.float32(point["threshold"])) == pytest.approx(
                (point["fpr"], point["tpr"])
            )


def test_a_perfect_model_finds_all_without_alarms():
    fake = np.array([False, False, True, True, True])
    found = operating_points(np.array([0.1, 0.2, 0.8, 0.9, 0.95], np.float32), fake, [])
    for name in NAMES - {"tpr_95"}:
        assert (found[name]["tpr"], found[name]["fpr"], found[name]["f1"], found[name]["acc"]) == (
            1,
            0,
            1,
            1,
        ), name
    assert found["best_f1"]["threshold"] == pytest.approx(0.8)


def test_a_rate_that_cannot_be_met_flags_nothing_and_says_so():
    notes: list[str] = []
    found = operating_points(np.array([1.0, 1.0, 0.5], np.float32), np.array([True, False, False]), notes)
    assert found["fpr_1"] == {"threshold": None, "fpr": 0, "tpr": 0, "precision": 0, "f1": 0, "acc": 2 / 3}
    assert any(note.startswith("fpr_1: ") for note in notes)


@pytest.mark.parametrize("fake", [np.ones(3, bool), np.zeros(3, bool), np.zeros(0, bool)])
def test_a_missing_class_leaves_the_points_empty(fake):
    notes: list[str] = []
    found = operating_points(np.full(len(fake), 0.7, np.float32), fake, notes)
    assert set(found) == NAMES and all(value is None for point in found.values() for value in point.values())
    assert len(notes) == 1
