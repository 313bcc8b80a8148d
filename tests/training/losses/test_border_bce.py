from __future__ import annotations

import math

import pytest
import torch

from tests.training.losses.cases import bits, normal
from training.losses import border_bce_loss, border_labels


def picture(text):
    """Return (1, P) bool, True at x."""
    return torch.tensor([[c == "x" for c in "".join(text.split())]])


def drawn(labels, columns):
    signs = ["#.?"[{1: 0, 0: 1, -1: 2}[int(x)]] for x in labels[0]]
    return ["".join(signs[i : i + columns]) for i in range(0, len(signs), columns)]


def test_the_border_is_the_four_neighbours_and_does_not_wrap():
    labels = border_labels(picture("oooo xooo oooo"), (3, 4))
    assert labels.dtype == torch.int8
    assert drawn(labels, 4) == [".???", "#.??", ".???"]
    assert drawn(border_labels(picture("oooo oxxo oooo"), (3, 4)), 4) == ["?..?", ".##.", "?..?"]
    assert drawn(border_labels(picture("ooox oooo oooo"), (3, 4)), 4) == ["??.#", "???.", "????"]


def test_the_grid_may_be_one_line_or_one_patch():
    assert drawn(border_labels(picture("oxooo"), (1, 5)), 5) == [".#.??"]
    assert drawn(border_labels(picture("oxooo"), (5, 1)), 1) == [".", "#", ".", "?", "?"]
    assert drawn(border_labels(picture("x"), (1, 1)), 1) == ["#"]


def test_no_region_is_ignored_and_a_full_one_has_no_border():
    assert (border_labels(torch.zeros(2, 12).bool(), (3, 4)) == -1).all()
    assert (border_labels(torch.ones(2, 12).bool(), (3, 4)) == 1).all()


def test_labels_are_the_definition():
    region = bits(5, 12, seed=1, share=0.2)
    labels = border_labels(region, (3, 4))
    for b in range(5):
        for i in range(3):
            for j in range(4):
                near = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
                near = [region[b, y * 4 + x] for y, x in near if 0 <= y < 3 and 0 <= x < 4]
                expected = 1 if region[b, i * 4 + j] else 0 if any(near) else -1
                assert labels[b, i * 4 + j] == expected


def test_it_is_the_mean_over_labelled_patches():
    region, logits = bits(5, 12, seed=1, share=0.2), normal(5, 12, seed=2)
    labels = border_labels(region, (3, 4))
    mask, total, patches = torch.tensor([1, 1, 0, 1, 1]).bool(), 0.0, 0
    for b in range(5):
        for p in range(12):
            if mask[b] and labels[b, p] >= 0:
                probability = 1 / (1 + math.exp(-float(logits[b, p])))
                total -= math.log(probability if labels[b, p] else 1 - probability)
                patches += 1
    assert border_bce_loss(logits, region, (3, 4), row_mask=mask).item() == pytest.approx(total / patches)
    assert border_bce_loss(logits, region, (3, 4), row_mask=mask, count=7).item() == pytest.approx(total / 7)


def test_ignored_patches_change_neither_the_mean_nor_get_a_gradient():
    region = picture("oooo xooo oooo")
    logits = torch.full((1, 12), math.nan).double()
    logits[border_labels(region, (3, 4)) >= 0] = 0
    logits.requires_grad_()
    loss = border_bce_loss(logits, region, (3, 4))
    loss.backward()
    # The released code would give ln 2 whatever is predicted, and a gradient 3 times smaller.
    assert loss.item() == pytest.approx(math.log(2))
    assert sorted(set(logits.grad[0].tolist())) == pytest.approx([-0.125, 0, 0.125])


@pytest.mark.parametrize("value", [False, True], ids=["no region anywhere", "region everywhere"])
def test_extreme_regions_are_finite(value):
    logits = normal(2, 12).requires_grad_()
    loss = border_bce_loss(logits, torch.full((2, 12), value), (3, 4))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
    assert (loss > 0) == value and logits.grad.any() == value
