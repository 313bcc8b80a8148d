from __future__ import annotations

import numpy as np
import pytest

from tests.training.metrics.cases import golden
from training.metrics.boxes import box_metrics, clamped_iou, published_iou


def slow_iou(predicted, true):
    def corners(box):
        x, y, w, h = (float(value) for value in box)
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2

    a, b = corners(predicted), corners(true)
    if b[0] == 0 and all(value < 1e-4 for value in a):
        return 1.0
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def boxes(*rows):
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


def measure(predicted, true, face):
    notes: list[str] = []
    return box_metrics(predicted, true, np.asarray(face, dtype=bool), notes), notes


def test_published_iou_equals_a_loop():
    predictions, _ = golden()
    pair = predictions.box_pred_cxcywh, predictions.box_true_cxcywh
    slow = [slow_iou(*rows) for rows in zip(*pair, strict=True)]
    np.testing.assert_allclose(published_iou(*pair), slow, atol=1e-5)


def test_a_constant_zero_box_scores_the_share_of_rows_without_one_but_nothing_on_faces():
    predictions, _ = golden()
    true = predictions.box_true_cxcywh
    at_border = true[:, 0] == true[:, 2] / 2
    found, _ = measure(np.zeros_like(true), true, predictions.face_edited)
    assert found["iou_mean"] == found["iou50"] == found["iou95"] == pytest.approx(at_border.mean())
    assert found["iou_face_mean"] == 0


def test_a_real_box_at_the_left_border_counts_as_found_by_a_zero_box_only_as_published():
    true = boxes([0.25, 0.5, 0.5, 0.5])
    found, _ = measure(boxes([0, 0, 0, 0]), true, [True])
    assert found["iou_mean"] == 1 and found["iou_face_mean"] == 0


def test_a_nearly_zero_box_counts_as_none():
    true = boxes([0, 0, 0, 0], [0, 0, 0, 0])
    assert published_iou(boxes([4e-5] * 4, [2e-4] * 4), true).tolist() == [1, 0]


def test_thresholds_are_exclusive():
    true = boxes([0.5, 0.5, 0.5, 0.5])
    found, _ = measure(boxes([0.5, 0.5, 0.5, 0.25]), true, [True])
    assert found["iou_mean"] == 0.5 and found["iou50"] == 0 and found["iou_face50"] == 0


def test_faces_are_compared_inside_the_image():
    predicted, true = boxes([0.0, 0.5, 1.0, 1.0]), boxes([0.25, 0.5, 0.5, 1.0])
    assert published_iou(predicted, true)[0] == pytest.approx(0.5)
    assert clamped_iou(predicted, true)[0] == pytest.approx(1)


def test_which_rows_count_and_what_of_a_box_counts_are_corrected_one_at_a_time():
    # The first box sticks out to the left by half; the second row has no face and gets no box.
    predicted = boxes([0.0, 0.5, 1.0, 1.0], [0, 0, 0, 0])
    true = boxes([0.25, 0.5, 0.5, 1.0], [0, 0, 0, 0])
    found, notes = measure(predicted, true, [True, False])
    assert found["iou_mean"] == pytest.approx(0.75) and found["iou_mean_clamped"] == pytest.approx(1)
    assert found["iou_face_mean_unclamped"] == pytest.approx(0.5)
    assert found["iou_face_mean"] == pytest.approx(1) and notes == []


def test_clamping_alone_keeps_the_published_rule_and_makes_no_box_an_empty_one():
    at_border, beyond = [0.25, 0.5, 0.5, 0.5], [0.1, 0.5, 0.5, 0.5]
    found, _ = measure(boxes([0] * 4, [0] * 4), boxes(at_border, beyond), [True, True])
    assert found["iou_mean"] == found["iou_mean_clamped"] == 0.5
    assert found["iou_face_mean"] == found["iou_face_mean_unclamped"] == 0


@pytest.mark.parametrize("side", [0.0, -0.4])
def test_boxes_without_area_score_0_never_nan(side):
    predicted, true = boxes([0.5, 0.5, side, side]), boxes([0.5, 0.5, 0, 0])
    assert published_iou(predicted, true).tolist() == [0] == clamped_iou(predicted, true).tolist()
    assert clamped_iou(predicted, boxes([0.5, 0.5, 0.5, 0.5])).tolist() == [0]


def test_face_edited_rows_without_a_true_box_are_left_out_with_a_note():
    box = [0.5, 0.5, 0.4, 0.4]
    found, notes = measure(boxes(box, box), boxes(box, [0] * 4), [True, True])
    assert found["iou_face_mean"] == pytest.approx(1)
    assert notes == ["1 face-edited rows have no true box: left out of the iou_face figures"]


def test_no_face_edited_row_and_no_rows_give_zeros_with_a_note():
    none = boxes([0, 0, 0, 0])
    found, notes = measure(none, none, [False])
    assert found["iou_mean"] == found["iou_mean_clamped"] == 1
    assert found["iou_face_mean"] == found["iou_face75"] == found["iou_face_mean_unclamped"] == 0
    assert notes == ["no face-edited row: the iou_face figures are set to 0"]
    found, notes = measure(boxes(), boxes(), [])
    assert set(found.values()) == {0} and len(notes) == 1
