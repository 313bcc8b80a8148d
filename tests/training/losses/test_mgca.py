"""The three losses of guided attention."""

from __future__ import annotations

import math

import pytest
import torch

from tests.training.losses.cases import (
    HEADS,
    KEY_GUIDANCE,
    KEY_MASK,
    PATCHES,
    QUERY_GUIDANCE,
    QUERY_MASK,
    ROWS,
    SCORES,
    TOKENS,
    normal,
)
from training.losses import mgca_bias_loss, mgca_distill_loss, mgca_supervise_loss

SOME = torch.tensor([1, 0, 1, 1, 0, 1]).bool()
MASKS = {"query_mask": QUERY_MASK, "key_mask": KEY_MASK}


def full_masks(rows, queries, keys):
    return {"query_mask": torch.ones(rows, queries).bool(), "key_mask": torch.ones(rows, keys).bool()}


def distill_reference(scores, beta):
    total = 0.0
    for b in range(ROWS):
        row, cells = 0.0, 0
        keys = [k for k in range(PATCHES) if KEY_MASK[b, k]]
        for head in range(HEADS):
            for q in range(TOKENS):
                if not (SOME[b] and QUERY_MASK[b, q]):
                    continue
                s = [float(scores[b, head, q, k]) for k in keys]
                t = [x + beta * float(KEY_GUIDANCE[b, k]) for x, k in zip(s, keys, strict=True)]
                a, g = ([math.exp(x) / sum(map(math.exp, v)) for x in v] for v in (s, t))
                row += sum(gk * math.log(gk / ak) for gk, ak in zip(g, a, strict=True))
                cells += 1
        total += row / cells if cells else 0.0
    return total / int(SOME.sum())


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_distill_is_the_formula(beta):
    loss = mgca_distill_loss(SCORES, KEY_GUIDANCE, **MASKS, row_mask=SOME, beta=beta)
    assert loss.item() == pytest.approx(distill_reference(SCORES, beta))


def test_distill_of_uniform_attention():
    # Of 8 equal keys 2 are guided: their share rises from 2/8 to 2e / (2e + 6) with e = exp(beta).
    guidance, e = (torch.arange(8) < 2)[None], math.exp(1.5)
    loss = mgca_distill_loss(torch.zeros(1, 3, 5, 8).double(), guidance, **full_masks(1, 5, 8), beta=1.5)
    share = 2 * e / (2 * e + 6)
    assert loss.item() == pytest.approx(
        share * math.log(share / 0.25) + (1 - share) * math.log((1 - share) / 0.75)
    )


def test_distill_pulls_attention_towards_the_guided_one():
    scores = normal(1, 1, 1, 6, seed=1).requires_grad_()
    guidance = (torch.arange(6) == 4)[None]
    mgca_distill_loss(scores, guidance, **full_masks(1, 1, 6), beta=2.0).backward()
    with torch.no_grad():
        guided = (scores + 2.0 * guidance).softmax(3)
        torch.testing.assert_close(scores.grad, scores.softmax(3) - guided)


@pytest.mark.parametrize("value", [False, True], ids=["no guidance", "guidance on every key"])
def test_distill_has_nothing_to_teach_where_all_keys_are_alike(value):
    scores = SCORES.clone().requires_grad_()
    loss = mgca_distill_loss(scores, torch.full((ROWS, PATCHES), value), **MASKS, beta=2.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert scores.grad.abs().max() < 1e-12


def test_distill_ignores_what_padded_keys_hold():
    guidance = KEY_GUIDANCE | ~KEY_MASK
    found = [
        mgca_distill_loss(SCORES.masked_fill(~KEY_MASK[:, None, None], value), guidance, **MASKS, beta=2.0)
        for value in (-math.inf, 50.0, math.nan)
    ]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_distill_of_sharp_attention_is_finite():
    scores = torch.tensor([[[[1000.0, -1000.0, 0.0]]]]).requires_grad_()
    guidance = torch.tensor([[False, True, False]])
    loss = mgca_distill_loss(scores, guidance, **full_masks(1, 1, 3), beta=2.0)
    loss.backward()
    assert loss.isfinite() and scores.grad.isfinite().all()


@pytest.mark.parametrize("empty", ["query_mask", "key_mask"])
def test_a_row_without_valid_queries_or_keys_adds_nothing(empty):
    masks = {name: mask.clone() for name, mask in MASKS.items()}
    masks[empty][2] = False
    scores = SCORES.clone()
    if empty == "key_mask":
        scores[2] = -math.inf
    scores.requires_grad_()
    others = torch.arange(ROWS) != 2
    for loss in (
        lambda rows: mgca_distill_loss(scores, KEY_GUIDANCE, **masks, row_mask=rows, beta=2.0, count=1),
        lambda rows: mgca_supervise_loss(
            scores, QUERY_GUIDANCE, KEY_GUIDANCE, **masks, row_mask=rows, count=1
        ),
    ):
        with torch.autograd.set_detect_anomaly(True):  # no NaN on the way either
            value = loss(None)
            (gradient,) = torch.autograd.grad(value, scores)
        torch.testing.assert_close(value, loss(others))
        assert gradient.isfinite().all() and not gradient[2].any()


def test_supervise_is_the_formula():
    total = 0.0
    for b in range(ROWS):
        row, cells = 0.0, 0
        for q in range(TOKENS):
            for k in range(PATCHES):
                if not (SOME[b] and QUERY_MASK[b, q] and KEY_MASK[b, k]):
                    continue
                p = 1 / (1 + math.exp(-sum(float(SCORES[b, h, q, k]) for h in range(HEADS)) / HEADS))
                row -= math.log(p if QUERY_GUIDANCE[b, q] or KEY_GUIDANCE[b, k] else 1 - p)
                cells += 1
        total += row / cells if cells else 0.0
    loss = mgca_supervise_loss(SCORES, QUERY_GUIDANCE, KEY_GUIDANCE, **MASKS, row_mask=SOME)
    assert loss.item() == pytest.approx(total / 4)


def test_supervise_marks_only_the_own_rows_positions():
    # The second row's guidance must not reach the first: that is the released code's fault.
    scores = torch.full((2, 1, 3, 4), -20.0).double()
    queries, keys = torch.zeros(2, 3).bool(), torch.zeros(2, 4).bool()
    queries[1, 2] = keys[1, 0] = True
    scores[1, 0, 2, :] = scores[1, 0, :, 0] = 20
    loss = mgca_supervise_loss(scores, queries, keys, **full_masks(2, 3, 4))
    assert loss.item() < 1e-8


def test_bias_is_the_formula():
    logits, total = normal(ROWS, PATCHES, seed=5), 0.0
    for b in range(ROWS):
        valid = [k for k in range(PATCHES) if KEY_MASK[b, k]]
        for k in valid:
            p = 1 / (1 + math.exp(-float(logits[b, k])))
            total -= SOME[b] * math.log(p if KEY_GUIDANCE[b, k] else 1 - p) / len(valid)
    loss = mgca_bias_loss(logits, KEY_GUIDANCE, key_mask=KEY_MASK, row_mask=SOME)
    assert loss.item() == pytest.approx(float(total) / 4)


@pytest.mark.parametrize("value", [False, True])
def test_undecided_masks_lose_log_two_whatever_is_manipulated(value):
    half = pytest.approx(math.log(2))
    scores, keys = torch.zeros(ROWS, 1, TOKENS, PATCHES), torch.full((ROWS, PATCHES), value)
    queries = torch.full((ROWS, TOKENS), value)
    assert mgca_bias_loss(scores[:, 0, 0], keys, key_mask=KEY_MASK).item() == half
    assert mgca_supervise_loss(scores, queries, keys, **MASKS).item() == half
