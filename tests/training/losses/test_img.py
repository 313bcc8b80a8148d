from __future__ import annotations

import pytest
import torch

from tests.training.losses.cases import normal
from training.losses import img_giou_loss, img_l1_loss


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def giou(a, b):
    """1 - GIoU of two cxcywh boxes, from the definition."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.tolist(), b.tolist()
    left, right = (ax - aw / 2, bx - bw / 2), (ax + aw / 2, bx + bw / 2)
    top, bottom = (ay - ah / 2, by - bh / 2), (ay + ah / 2, by + bh / 2)
    inter = max(0, min(right) - max(left)) * max(0, min(bottom) - max(top))
    union = aw * ah + bw * bh - inter
    hull = (max(right) - min(left)) * (max(bottom) - min(top))
    return 1 - (inter / union - (hull - union) / hull)


def test_l1_sums_the_coordinates_and_averages_the_rows():
    pred = boxes([0.5, 0.5, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4], [9, 9, 9, 9])
    target = boxes([0.4, 0.6, 0.2, 0.5], [0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0])
    mask = torch.tensor([True, True, False])
    assert img_l1_loss(pred, target, row_mask=mask).item() == pytest.approx(0.5 / 2)
    assert img_l1_loss(pred, target, row_mask=mask, count=5).item() == pytest.approx(0.5 / 5)


def test_equal_boxes_cost_nothing():
    box = boxes([0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 1, 1], [0.1, 0.9, 0.2, 0.1])
    assert img_l1_loss(box, box) == 0
    assert img_giou_loss(box, box).item() == pytest.approx(0, abs=1e-5)


def test_giou_of_known_pairs():
    # Disjoint quarters at opposite corners: IoU 0, the hull is twice their union.
    far = img_giou_loss(boxes([0.25, 0.25, 0.5, 0.5]), boxes([0.75, 0.75, 0.5, 0.5]))
    assert far.item() == pytest.approx(1.5, abs=1e-5)
    # A quarter inside the whole image: IoU 1/4, the hull is the union.
    inside = img_giou_loss(boxes([0.25, 0.25, 0.5, 0.5]), boxes([0.5, 0.5, 1, 1]))
    assert inside.item() == pytest.approx(0.75, abs=1e-5)


def test_giou_is_the_definition():
    pred, target = normal(20, 4, seed=1).sigmoid(), normal(20, 4, seed=2).sigmoid()
    expected = sum(giou(a, b) for a, b in zip(pred, target, strict=True)) / 20
    assert img_giou_loss(pred, target).item() == pytest.approx(expected, abs=1e-5)


def test_giou_leaves_out_targets_without_an_area_but_counts_their_rows():
    pred = normal(4, 4, seed=1).sigmoid().requires_grad_()
    target = boxes([0.5, 0.5, 0.4, 0.4], [0, 0, 0, 0], [0.5, 0.5, 0, 0.4], [0.3, 0.3, 0.2, 0.2])
    loss = img_giou_loss(pred, target)
    loss.backward()
    expected = (giou(pred[0], target[0]) + giou(pred[3], target[3])) / 4
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    assert pred.grad[[0, 3]].any(1).all() and not pred.grad[[1, 2]].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_boxes_are_finite_on_either_side(dtype):
    zero, box = torch.zeros(1, 4, dtype=dtype), torch.tensor([[0.5, 0.5, 0.2, 0.2]], dtype=dtype)
    for pred, target in ((zero, zero), (zero, box), (box, zero)):
        pred = pred.clone().requires_grad_()
        (img_giou_loss(pred, target) + img_l1_loss(pred, target)).backward()
        assert pred.grad.isfinite().all()


def test_the_target_does_not_learn():
    pred, target = normal(3, 4, seed=1).sigmoid().requires_grad_(), normal(3, 4).sigmoid().requires_grad_()
    (img_giou_loss(pred, target) + img_l1_loss(pred, target)).backward()
    assert target.grad is None and pred.grad.any()
