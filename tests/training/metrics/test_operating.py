from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.metrics.cases import some
from training.metrics.calibration import p_fake
from training.metrics.deep import evaluate_deeply
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
    found = operating_points(p, fake, p > 0.5, [])
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
    for point in operating_points(p, fake, p > 0.5, []).values():
        if point["threshold"] is not None:
            assert rates(p, fake, np.float32(point["threshold"])) == pytest.approx(
                (point["fpr"], point["tpr"])
            )


def test_a_perfect_model_finds_all_without_alarms():
    fake = np.array([False, False, True, True, True])
    found = operating_points(np.array([0.1, 0.2, 0.8, 0.9, 0.95], np.float32), fake, fake, [])
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
    fake, called = np.array([True, False, False]), np.array([True, True, False])
    found = operating_points(np.array([1.0, 1.0, 0.5], np.float32), fake, called, notes)
    assert found["fpr_1"] == {"threshold": None, "fpr": 0, "tpr": 0, "precision": 0, "f1": 0, "acc": 2 / 3}
    assert any(note.startswith("fpr_1: ") for note in notes)


@pytest.mark.parametrize("fake", [np.ones(3, bool), np.zeros(3, bool), np.zeros(0, bool)])
def test_a_missing_class_leaves_the_points_empty(fake):
    notes: list[str] = []
    found = operating_points(np.full(len(fake), 0.7, np.float32), fake, fake, notes)
    assert set(found) == NAMES and all(value is None for point in found.values() for value in point.values())
    assert len(notes) == 1


def verdict_of(logits, fake_cls):
    """Return the argmax point and the notes of rows with these logits of fake less real."""
    margins = np.asarray(logits, np.float64)
    predictions = replace(
        some(len(margins)),
        fake_cls=np.array(fake_cls),
        logits_binary=np.stack([np.zeros_like(margins), margins], axis=1),
    )
    found = evaluate_deeply(predictions, np.arange(len(margins)), 0)
    assert found["operating_points"]["argmax"]["acc"] == found["acc"]
    notes = [note for note in found["notes"] if note.startswith("argmax: ")]
    return found["operating_points"]["argmax"], notes


def test_the_verdict_is_that_of_the_logits_and_its_threshold_gives_it_again():
    point, notes = verdict_of([2.0, -1.0, 0.5, -0.2], ["face_swap", "orig", "orig", "text_swap"])
    assert (point["tpr"], point["fpr"]) == (0.5, 0.5) and notes == []
    assert point["threshold"] == pytest.approx(1 / (1 + np.exp(-0.5)))


def test_ties_are_called_real_so_nothing_is_flagged_and_there_is_no_threshold():
    point, notes = verdict_of([0.0, 0.0, 0.0], ["face_swap", "orig", "orig"])
    assert point == {"threshold": None, "fpr": 0, "tpr": 0, "precision": 0, "f1": 0, "acc": 2 / 3}
    assert notes == ["argmax: no row is called fake; there is no threshold"]


def test_margins_that_single_precision_rounds_away_still_count_and_are_told():
    point, notes = verdict_of([1e-9, -1e-9, 1.0], ["face_swap", "orig", "face_swap"])
    assert (point["threshold"], point["tpr"], point["fpr"], point["acc"]) == (0.5, 1, 0, 1)
    assert len(notes) == 1 and notes[0].startswith("argmax: 1 rows are called real by a margin")
