"""L_cap and L_exp have one form: two modalities, both directions."""

from __future__ import annotations

import math

import pytest
import torch

from tests.training.losses.cases import POSITION, ROWS, WIDTH, bank, normal, unit
from training.losses import Bank, cap_loss, exp_loss

BOTH = pytest.mark.parametrize("loss", [cap_loss, exp_loss])
A, B = unit(ROWS, WIDTH, seed=41), unit(ROWS, WIDTH, seed=42)
SOME = torch.tensor([1, 0, 1, 1, 0, 1]).bool()


def text_bank(mask, seed=44):
    keys = bank(seed)
    valid = keys.valid.clone()
    valid[:ROWS] &= mask
    return Bank(keys.features, torch.where(valid, keys.ids, -1), valid)


def reference(mask):
    anchors, texts = bank(43), text_bank(mask)
    total = 0.0
    for query, keys in ((A, texts), (B, anchors)):
        for b in range(ROWS):
            if not mask[b]:
                continue
            scores = []
            for j in range(len(keys.ids)):
                if j == b or (bool(keys.valid[j]) and int(keys.ids[j]) != int(keys.ids[b])):
                    scores.append(float(query[b] @ keys.features[j]) / 0.2)
            own = float(query[b] @ keys.features[b]) / 0.2
            total += math.log(sum(math.exp(s) for s in scores)) - own
    return total / (2 * int(mask.sum()))


@BOTH
@pytest.mark.parametrize("mask", [SOME, torch.ones(ROWS).bool(), POSITION == 4], ids=["some", "all", "one"])
def test_it_is_the_formula(loss, mask):
    found = loss(A, B, bank(43), text_bank(mask), position=POSITION, mask=mask, temperature=0.2)
    assert found.item() == pytest.approx(reference(mask))


@BOTH
def test_equal_keys_give_the_log_of_their_number(loss):
    same = torch.nn.functional.one_hot(torch.zeros(6, dtype=torch.int64), 3).double()
    anchors = Bank(same, torch.arange(6), torch.ones(6, dtype=torch.bool))
    texts = Bank(same, torch.arange(6), torch.arange(6) < 4)
    found = loss(
        same, same, anchors, texts, position=torch.arange(6), mask=texts.valid, temperature=0.07, count=1
    )
    assert found.item() == pytest.approx(4 * (math.log(4) + math.log(6)) / 2)


@BOTH
def test_rows_without_a_text_are_neither_queries_nor_keys(loss):
    a, b = A.clone().requires_grad_(), B.clone()
    b[~SOME] = torch.nan
    b.requires_grad_()
    texts = text_bank(SOME)
    found = loss(a, b, bank(43), texts, position=POSITION, mask=SOME, temperature=0.2)
    found.backward()
    assert not a.grad[~SOME].any() and not b.grad[~SOME].any()
    moved = texts.features.clone()
    moved[:ROWS][~SOME] = normal(int((~SOME).sum()), WIDTH, seed=45)
    again = loss(
        A, B, bank(43), Bank(moved, texts.ids, texts.valid), position=POSITION, mask=SOME, temperature=0.2
    )
    torch.testing.assert_close(again, found)


@BOTH
@pytest.mark.parametrize("count", [None, 0.0])
def test_a_batch_without_any_text_gives_an_exact_zero(loss, count):
    none = torch.zeros(ROWS, dtype=torch.bool)
    keys = text_bank(none)
    keys.valid[:] = False
    a, b = A.clone().requires_grad_(), torch.full_like(B, torch.nan).requires_grad_()
    temperature = torch.tensor([0.2]).double().requires_grad_()
    found = loss(a, b, bank(43), keys, position=POSITION, mask=none, temperature=temperature, count=count)
    found.backward()
    assert found == 0
    assert not a.grad.any() and not b.grad.any() and not temperature.grad.any()


@BOTH
def test_equal_texts_of_two_rows_are_no_negatives_of_each_other(loss):
    same = torch.nn.functional.one_hot(torch.zeros(4, dtype=torch.int64), 3).double()
    everywhere = torch.ones(4, dtype=torch.bool)
    ids = torch.tensor([7, 7, 8, 9])
    found = loss(
        same[:1],
        same[:1],
        Bank(same, ids, everywhere),
        Bank(same, ids, everywhere),
        position=torch.tensor([0]),
        mask=everywhere[:1],
        temperature=0.1,
    )
    assert found.item() == pytest.approx(math.log(3))


@BOTH
def test_keys_do_not_learn(loss):
    anchors, texts = bank(43), text_bank(SOME)
    anchors.features.requires_grad_()
    texts.features.requires_grad_()
    a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
    loss(a, b, anchors, texts, position=POSITION, mask=SOME, temperature=0.2).backward()
    assert anchors.features.grad is None and texts.features.grad is None
    assert a.grad[SOME].any(1).all() and b.grad[SOME].any(1).all()
