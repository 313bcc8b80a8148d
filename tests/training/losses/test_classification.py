"""BIC, IED, MLC and TMG: cross-entropies of heads."""

from __future__ import annotations

import math

import pytest
import torch

from tests.training.losses.cases import FAKE, LABELS, ROWS, TOKENS, TYPES, normal
from training.losses import bic_loss, ied_loss, mlc_loss, tmg_loss

SOME = torch.tensor([1, 0, 1, 1, 0, 1]).bool()


@pytest.mark.parametrize("fake", [FAKE, torch.zeros(ROWS).bool(), torch.ones(ROWS).bool()])
def test_bic_and_ied_are_the_formula(fake):
    logits = normal(ROWS, 2, seed=1)
    total = 0.0
    for b in range(ROWS):
        if SOME[b]:
            real, manipulated = logits[b].tolist()
            own = manipulated if fake[b] else real
            total += math.log(math.exp(real) + math.exp(manipulated)) - own
    assert bic_loss(logits, fake, row_mask=SOME).item() == pytest.approx(total / 4)
    assert ied_loss(logits, fake, mask=SOME).item() == pytest.approx(total / 4)
    assert ied_loss(logits, fake, mask=SOME, count=8).item() == pytest.approx(total / 8)


def test_undecided_heads_lose_log_two():
    half = pytest.approx(math.log(2))
    assert bic_loss(torch.zeros(5, 2), torch.arange(5) > 2).item() == half
    assert mlc_loss(torch.zeros(5, 4), torch.ones(5, 4)).item() == half
    assert tmg_loss(torch.zeros(2, 3, 2), torch.tensor([[0, 1, -100], [1, -100, -100]])).item() == half
    soft = torch.zeros(2, 3, 2)
    loss = tmg_loss(torch.zeros(2, 3, 2), torch.zeros(2, 3, dtype=torch.int64), soft=soft, alpha=0.4)
    assert loss.item() == half


def test_mlc_is_the_formula():
    logits, total = normal(ROWS, 4, seed=2), 0.0
    for b in range(ROWS):
        for t in range(4):
            p = 1 / (1 + math.exp(-float(logits[b, t])))
            total -= math.log(p if TYPES[b, t] else 1 - p) / 4
    assert mlc_loss(logits, TYPES).item() == pytest.approx(total / ROWS)


def test_mlc_takes_types_of_any_dtype():
    logits = normal(ROWS, 4, seed=2)
    assert torch.equal(mlc_loss(logits, TYPES.bool()), mlc_loss(logits, TYPES.float()))


def tmg_reference(logits, labels, soft, alpha, mask):
    total, tokens = 0.0, 0
    for b in range(ROWS):
        for t in range(TOKENS):
            if not mask[b] or labels[b, t] < 0:
                continue
            tokens += 1
            log_p = [float(x) for x in logits[b, t] - logits[b, t].exp().sum().log()]
            q = [float(x) for x in soft[b, t].exp() / soft[b, t].exp().sum()]
            total -= (1 - alpha) * log_p[int(labels[b, t])]
            total -= alpha * (q[0] * log_p[0] + q[1] * log_p[1])
    return total, tokens


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_tmg_is_the_formula_per_token(alpha):
    logits, soft = normal(ROWS, TOKENS, 2, seed=3), normal(ROWS, TOKENS, 2, seed=4)
    labels = LABELS.clone()
    labels[0, 1:] = -100
    total, tokens = tmg_reference(logits, labels, soft, alpha, SOME)
    found = tmg_loss(logits, labels, soft=soft, alpha=alpha, row_mask=SOME)
    assert found.item() == pytest.approx(total / tokens)
    found = tmg_loss(logits, labels, soft=soft, alpha=alpha, row_mask=SOME, count=5)
    assert found.item() == pytest.approx(total / 5)


def test_tmg_of_the_momentum_logits_themselves_is_their_entropy_and_a_minimum():
    logits = normal(ROWS, TOKENS, 2, seed=3).requires_grad_()
    loss = tmg_loss(logits, LABELS, soft=logits, alpha=1.0)
    loss.backward()
    p = logits.detach().softmax(2)[LABELS >= 0]
    torch.testing.assert_close(loss.detach(), -(p * p.log()).sum(1).mean())
    assert logits.grad.abs().max() < 1e-12


def test_tmg_does_not_train_the_momentum_model_and_ignores_its_nan_outside_labels():
    soft = normal(ROWS, TOKENS, 2, seed=4)
    soft[LABELS < 0] = torch.nan
    soft.requires_grad_()
    logits = normal(ROWS, TOKENS, 2, seed=3)
    logits[LABELS < 0] = torch.inf
    logits.requires_grad_()
    loss = tmg_loss(logits, LABELS, soft=soft, alpha=0.4)
    loss.backward()
    assert loss.isfinite() and soft.grad is None
    assert not logits.grad[LABELS < 0].any() and logits.grad[LABELS >= 0].all()


def test_tmg_without_any_labelled_token_is_zero_and_attached():
    logits = normal(ROWS, TOKENS, 2).requires_grad_()
    loss = tmg_loss(logits, torch.full((ROWS, TOKENS), -100))
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_tmg_alpha_counts_as_zero_without_soft_targets():
    logits = normal(ROWS, TOKENS, 2, seed=3)
    assert torch.equal(tmg_loss(logits, LABELS, alpha=0.4), tmg_loss(logits, LABELS))
