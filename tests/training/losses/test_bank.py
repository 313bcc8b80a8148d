from __future__ import annotations

import math

import pytest
import torch

from tests.training.losses.cases import FAKE, POSITION, ROWS, WIDTH, bank, normal, unit
from training.losses import Bank, info_nce, soft_targets, usable_keys


def equal_bank(keys, *, ids=None, width=4):
    features = torch.zeros(keys, width, dtype=torch.float64)
    features[:, 0] = 1
    ids = torch.arange(keys) if ids is None else torch.tensor(ids)
    return Bank(features, ids, torch.ones(keys, dtype=torch.bool))


def reference(query, keys, position, temperature, hard, soft, alpha):
    """Sum over rows, from the formula, one key at a time."""
    total = 0.0
    for b, own in enumerate(position.tolist()):
        used = []
        for j in range(len(keys.ids)):
            copy = keys.ids[j] == keys.ids[own] and j != own
            if keys.valid[j] and not copy:
                used.append(j)
        e = {j: math.exp(float(query[b] @ keys.features[j]) / temperature) for j in used}
        for j in used:
            target = (1 - alpha) * float(j == own and bool(hard[b])) + alpha * float(soft[b, j])
            total -= target * math.log(e[j] / sum(e.values()))
    return total


def test_equal_keys_give_the_log_of_their_number():
    keys = equal_bank(7)
    loss = info_nce(unit(3, 4), keys, position=torch.tensor([0, 4, 6]), temperature=0.07)
    assert loss.item() == pytest.approx(math.log(7))


def test_own_key_against_orthogonal_ones():
    keys = Bank(torch.eye(4).double(), torch.arange(4), torch.ones(4, dtype=torch.bool))
    loss = info_nce(torch.eye(4).double(), keys, position=torch.arange(4), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(1 + 3 * math.exp(-2)))


def test_copies_of_the_own_content_are_no_negatives_wherever_they_stand():
    keys = equal_bank(6, ids=[8, 8, 2, 3, 8, 2])
    found = [
        info_nce(unit(1, 4), keys, position=torch.tensor([own]), temperature=0.1).item() for own in range(6)
    ]
    # Three copies of 8 leave 8 itself and three others, two copies of 2 leave one more.
    assert found == pytest.approx([math.log(n) for n in (4, 4, 5, 6, 4, 5)])


def test_the_own_key_stays_when_an_earlier_place_holds_the_same_content():
    usable = usable_keys(equal_bank(4, ids=[5, 5, 5, 1]), torch.tensor([1]))
    assert usable.tolist() == [[False, True, False, True]]


def test_places_of_the_queue_that_were_never_filled_change_nothing():
    query, filled = unit(ROWS, WIDTH, seed=1), bank(3, queue=0)
    junk = Bank(
        torch.cat([filled.features, 100 * normal(5, WIDTH)]),
        torch.cat([filled.ids, torch.full((5,), -1)]),
        torch.cat([filled.valid, torch.zeros(5, dtype=torch.bool)]),
    )
    without = info_nce(query, filled, position=POSITION, temperature=0.2)
    torch.testing.assert_close(info_nce(query, junk, position=POSITION, temperature=0.2), without)


def test_the_only_valid_key_is_the_own_one():
    keys = Bank(unit(4, 4), torch.arange(4), torch.arange(4) == 2)
    query = unit(1, 4, seed=2).requires_grad_()
    loss = info_nce(query, keys, position=torch.tensor([2]), temperature=0.1)
    loss.backward()
    assert loss == 0 and not query.grad.any()


@pytest.mark.parametrize("queue", [0, 3])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_it_is_the_formula(alpha, queue):
    query, keys = unit(ROWS, WIDTH, seed=1), bank(3, queue=queue)
    soft = normal(ROWS, ROWS + queue, seed=4).softmax(1)
    loss = info_nce(
        query, keys, position=POSITION, temperature=0.2, hard=~FAKE, soft=soft, alpha=alpha, count=10
    )
    assert loss.item() == pytest.approx(reference(query, keys, POSITION, 0.2, ~FAKE, soft, alpha) / 10)


def test_alpha_counts_as_zero_without_soft_targets():
    query, keys = unit(ROWS, WIDTH, seed=1), bank(3)
    plain = info_nce(query, keys, position=POSITION, temperature=0.2)
    assert torch.equal(info_nce(query, keys, position=POSITION, temperature=0.2, alpha=0.4), plain)


def test_a_row_whose_own_key_is_not_valid_is_no_query():
    keys = bank(3)
    keys.valid[2] = False
    query = unit(ROWS, WIDTH, seed=1).requires_grad_()
    loss = info_nce(query, keys, position=POSITION, temperature=0.2)
    loss.backward()
    others = POSITION != 2
    expected = info_nce(query[others], keys, position=POSITION[others], temperature=0.2)
    assert not query.grad[2].any()
    torch.testing.assert_close(loss, expected)


def test_only_query_and_temperature_have_a_gradient():
    keys = bank(3)
    keys.features.requires_grad_()
    query = unit(ROWS, WIDTH, seed=1).requires_grad_()
    temperature = torch.tensor([0.2]).double().requires_grad_()
    soft = normal(ROWS, ROWS + 3, seed=4).softmax(1).requires_grad_()
    loss = info_nce(query, keys, position=POSITION, temperature=temperature, soft=soft, alpha=0.4)
    assert loss.dim() == 0
    loss.backward()
    assert keys.features.grad is None and soft.grad is None
    assert query.grad.any() and temperature.grad.any()


def test_the_gradient_of_the_temperature_is_the_derivative_and_masked_rows_do_not_touch_it():
    query, keys, mask = unit(ROWS, WIDTH, seed=1), bank(3), torch.tensor([1, 1, 0, 1, 0, 1]).bool()
    query[~mask] = torch.nan

    def of_temperature(temperature):
        return info_nce(query, keys, position=POSITION, temperature=temperature, row_mask=mask)

    assert torch.autograd.gradcheck(of_temperature, torch.tensor(0.2).double().requires_grad_())


def test_soft_targets_are_a_softmax_over_the_usable_keys():
    keys = bank(3)
    temperature = torch.tensor(0.2).double().requires_grad_()
    found = soft_targets(keys.features[:ROWS], keys, position=POSITION, temperature=temperature)
    usable = usable_keys(keys, POSITION)
    assert not found.requires_grad
    assert torch.equal(found > 0, usable)
    for b in range(ROWS):
        scores = (keys.features[usable[b]] @ keys.features[b]) / 0.2
        torch.testing.assert_close(found[b, usable[b]], scores.exp() / scores.exp().sum())


def test_keys_that_share_any_of_several_contents_are_no_negatives():
    keys = equal_bank(4, ids=[[1, 10], [1, 11], [2, 10], [2, 11]])
    found = usable_keys(keys, torch.tensor([0]))
    assert found.tolist() == [[True, False, False, True]]
