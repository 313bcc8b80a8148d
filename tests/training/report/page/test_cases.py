from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tests.training.metrics.cases import some
from training.metrics.bootstrap import SEED
from training.metrics.by_type import by_type
from training.metrics.predictions import empty
from training.report.page.cards import MOST_WORDS, runs_of
from training.report.page.cases import MOST, PER_CLASS, choose, marks_of
from training.report.page.plots import all_plots
from training.report.page.scales import MOST_POINTS, Frame, ceiling, thinned
from training.report.page.type_intervals import intervals_by_type


def groups(predictions):
    return {group.name: group for group in choose(predictions, marks_of(predictions))}


def test_each_group_holds_what_it_says_and_no_row_twice():
    predictions = some(900)
    marks, found = marks_of(predictions), groups(predictions)
    assert list(found) == ["best", "missed", "alarms", "misplaced", "torn"]
    fake, classes = predictions.is_fake, predictions.fake_cls
    chosen = [row for group in found.values() for row in group.rows]
    assert len(chosen) == len(set(chosen))
    assert all(marks.right[row] and marks.guess[row] == classes[row] for row in found["best"].rows)
    assert len({classes[row] for row in found["best"].rows}) == len(found["best"].rows)
    assert all(fake[row] and marks.p[row] <= 0.5 for row in found["missed"].rows)
    assert all(not fake[row] and marks.p[row] > 0.5 for row in found["alarms"].rows)
    assert all(marks.right[row] and fake[row] for row in found["misplaced"].rows)
    assert all(
        min(own_iou(predictions, row), own_f1(predictions, row)) < 0.5 for row in found["misplaced"].rows
    )
    assert all((marks.p[row] > 0.5) != (marks.guess[row] != "orig") for row in found["torn"].rows)
    for group in list(found.values())[1:]:
        assert len(group.rows) == MOST
    for name in ("missed", "misplaced", "torn"):
        assert max(np.unique(classes[list(found[name].rows)], return_counts=True)[1]) <= PER_CLASS


def own_iou(predictions, row):
    """IoU of one row's boxes, from their corners; 1 where no face was edited."""
    if "face" not in predictions.fake_cls[row]:
        return 1.0
    sides = []
    for cx, cy, w, h in (predictions.box_pred_cxcywh[row], predictions.box_true_cxcywh[row]):
        sides.append([min(max(v, 0), 1) for v in (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)])
    (a1, b1, a2, b2), (c1, d1, c2, d2) = sides
    both = max(0, min(a2, c2) - max(a1, c1)) * max(0, min(b2, d2) - max(b1, d1))
    return both / ((a2 - a1) * (b2 - b1) + (c2 - c1) * (d2 - d1) - both)


def own_f1(predictions, row):
    """F1 of one row's words: a word is called when its surest token is; 1 where no word was manipulated."""
    true, called = set(), set()
    for place, word in enumerate(predictions.token_word[row]):
        if word >= 0:
            true |= {word} if predictions.token_label[row, place] == 1 else set()
            real, fake = predictions.logits_token[row, place]
            called |= {word} if fake > real else set()
    return 2 * len(true & called) / (len(true) + len(called)) if true else 1.0


def test_perfect_words_do_not_hide_a_box_in_the_wrong_place():
    joint = some(9)
    row = joint.fake_cls.tolist().index("face_swap&text_attribute")
    label = joint.token_label
    label[row, 1:3], joint.token_word[row, 1:3] = (1, 0), (0, 1)
    made = replace(
        joint,
        logits_binary=np.stack([~joint.is_fake, joint.is_fake], 1).astype(float),
        logits_multilabel=joint.types - 0.5,
        logits_token=np.stack([label != 1, label == 1], -1).astype(float),
        box_pred_cxcywh=np.where(
            np.arange(9)[:, None] == row, [0.02, 0.02, 0.01, 0.01], joint.box_true_cxcywh
        ),
    )
    assert own_f1(made, row) == 1 and own_iou(made, row) == 0
    assert groups(made)["misplaced"].rows == (row,)


def test_intervals_by_type_are_those_of_figures_over_copied_rows():
    rounded = np.round(some(180).logits_binary)
    for made in (some(180), some(180, logits_binary=rounded)):
        clusters, draws = np.arange(180) // 2, 60
        found = intervals_by_type(made, clusters, draws)
        random, drawn = np.random.default_rng(SEED), []
        for _ in range(draws):
            rows = [np.flatnonzero(clusters == k) for k in random.integers(0, 90, 90)]
            drawn.append(by_type(made.take(np.concatenate(rows))))
        for kind, name, figure in itertools.product(
            ("groups",), ("text_only", "image_only", "joint"), ("auc", "acc", "word_f1", "iou_face_mean")
        ):
            values = [each[kind][name][figure] for each in drawn]
            if any(value is None for value in values):
                assert figure not in found[kind][name]
            else:
                assert found[kind][name][figure] == pytest.approx(np.quantile(values, [0.025, 0.975]))
    assert intervals_by_type(made, clusters, 0) == {"groups": {}, "classes": {}}


def test_the_worst_are_the_surest_of_the_wrong():
    predictions = some(90)
    marks, found = marks_of(predictions), groups(predictions)
    wrong = np.flatnonzero(~predictions.is_fake & ~marks.right)
    assert found["alarms"].rows[0] == wrong[np.argmax(marks.p[wrong])]


def test_a_perfect_model_has_only_best_cases():
    made = some(90)
    label = made.token_label
    perfect = replace(
        made,
        logits_binary=np.stack([~made.is_fake, made.is_fake], 1).astype(float),
        logits_multilabel=made.types - 0.5,
        box_pred_cxcywh=made.box_true_cxcywh,
        logits_token=np.stack([label != 1, label == 1], -1).astype(float),
    )
    found = groups(perfect)
    assert list(found) == ["best"] and len(found["best"].rows) == 9


@pytest.mark.parametrize("predictions", [empty(), some(1), replace(some(9), token_word=None)])
def test_odd_predictions_give_no_error(predictions):
    groups(predictions)


def test_words_are_marked_as_found_missed_and_wrongly_called():
    words = ["a", "b", "c", "d", "e"]
    found = [tuple(run) for run in runs_of(words, {1, 2}, {2, 3})]
    assert found == [("a", ""), ("b", "lost"), ("c", "hit"), ("d", "alarm"), ("e", "")]
    long = runs_of(["w"] * (MOST_WORDS + 1), set(), set())
    assert long[-1].text == "… (1 more words)"


def test_a_thinned_curve_stays_close_to_the_curve():
    xs = np.linspace(0, 1, 50_000)
    ys = np.minimum(1, 20 * xs)
    keep = thinned(xs, ys)
    assert len(keep) <= MOST_POINTS and keep[0] == 0 and keep[-1] == len(xs) - 1
    assert np.abs(np.interp(xs, xs[keep], ys[keep]) - ys).max() < 0.01


@pytest.mark.parametrize(("value", "top"), [(0.0, 0.001), (0.031, 0.035), (0.27, 0.3), (1.0, 1.0)])
def test_the_top_of_an_axis_is_round_and_not_below_the_value(value, top):
    assert ceiling(value) == pytest.approx(top, abs=0.01) and ceiling(value) >= value
    assert 3 <= len(Frame(ceiling(max(value, 0.03))).y_ticks()) <= 8


def test_plots_that_need_other_rows_are_left_out():
    calibration = {"bins": [{"rows": 1, "p": 0.5, "fake": 1.0}], "ece": 0.5, "brier": 0.25, "brier_base": 0.0}
    metrics = {"calibration": calibration, "operating_points": {}, "auc": 0.5}
    assert set(all_plots(some(9).take(np.array([3])), metrics)) == {"reliability"}
    assert all_plots(empty(), metrics) == {}
