from __future__ import annotations

import math

import pytest
import torch

from tests.training.losses.cases import PATCHES, POSITION, REGION, ROWS, WIDTH, normal, unit
from training.losses import pmm, pmm_loss

ONLINE, KEYS = unit(ROWS, PATCHES, WIDTH, seed=51), unit(ROWS, PATCHES, WIDTH, seed=52)
SETTINGS = {"k": 4, "temperature": 0.2, "hard": True, "anchors": 3, "seed": 7}


def loss_of(patches=ONLINE, keys=KEYS, region=REGION, pool=KEYS, negative=~REGION, rows=None, **changed):
    rows = POSITION[: len(patches)] if rows is None else rows
    return pmm_loss(patches, keys, region, pool, negative, position=rows, **{**SETTINGS, **changed})


def reference(region, negatives, *, k, temperature, anchors):
    """Mean over rows with a region, hard negatives, from the formula."""
    total, rows = 0.0, 0
    for b in range(len(region)):
        inside = [p for p in range(region.shape[1]) if region[b, p]]
        n = len(inside)
        if not n:
            continue
        rows += 1
        ranks = range(n) if n <= anchors else [(2 * a + 1) * n // (2 * anchors) for a in range(anchors)]
        row = 0.0
        for i in (inside[r] for r in ranks):
            similar = sorted((float(ONLINE[b, i] @ z) for z in negatives), reverse=True)[:k]
            rivals = sum(math.exp(s / temperature) for s in similar)
            positives = [p for p in inside if p != i] or [i]
            for p in positives:
                own = math.exp(float(ONLINE[b, i] @ KEYS[b, p]) / temperature)
                row -= math.log(own / (own + rivals)) / len(positives)
        total += row / len(ranks)
    return total / rows


@pytest.mark.parametrize("k", [1, 4, 1000])
@pytest.mark.parametrize("anchors", [1, 3, 16])
def test_it_is_the_formula(k, anchors):
    expected = reference(REGION, KEYS[~REGION], k=k, temperature=0.2, anchors=anchors)
    assert loss_of(k=k, anchors=anchors).item() == pytest.approx(expected)


def test_equal_patches_give_the_log_of_one_more_than_the_negatives():
    same = torch.nn.functional.one_hot(torch.zeros(2, 9, dtype=torch.int64), 3).double()
    region = torch.arange(9).expand(2, 9) < 4
    for hard in (True, False):
        loss = loss_of(same, same, region, same, ~region, hard=hard, k=6)
        assert loss.item() == pytest.approx(math.log(7))


def test_the_chunk_size_changes_nothing(monkeypatch):
    found = {hard: loss_of(hard=hard) for hard in (True, False)}
    monkeypatch.setattr(pmm, "CHUNK_CELLS", 70)
    for hard, expected in found.items():
        torch.testing.assert_close(loss_of(hard=hard), expected)


def test_hard_negatives_cost_at_least_as_much_as_random_ones():
    hard = loss_of(hard=True)
    assert all(loss_of(hard=False, seed=seed) < hard for seed in range(5))


def test_random_negatives_follow_the_seed_and_not_the_cut_into_processes():
    whole = loss_of(hard=False, count=1)
    assert torch.equal(loss_of(hard=False, count=1), whole)
    assert loss_of(hard=False, count=1, seed=8) != whole
    rows = [
        loss_of(ONLINE[part], KEYS[part], REGION[part], rows=POSITION[part], hard=False, count=1)
        for part in (slice(0, 1), slice(1, 5), slice(5, 6))
    ]
    torch.testing.assert_close(sum(rows), whole)


def test_a_random_choice_is_distinct_and_reaches_every_negative_alike():
    chosen = pmm._random_choice(rows=200, anchors=50, negatives=10, k=4, seed=3)
    assert chosen.shape == (200, 50, 4)
    assert (chosen.sort(2).values.diff(dim=2) > 0).all()
    assert chosen.flatten().bincount().float().div(40000).sub(0.1).abs().max() < 0.01


@pytest.mark.parametrize("hard", [True, False])
def test_a_region_of_one_patch_meets_its_own_momentum_patch(hard):
    region = torch.zeros(1, PATCHES).bool()
    region[0, 4] = True
    loss = loss_of(ONLINE[:1], KEYS[:1], region, KEYS[:1], ~region, k=100, hard=hard)
    own = float(ONLINE[0, 4] @ KEYS[0, 4]) / 0.2
    rivals = sum(math.exp(float(ONLINE[0, 4] @ KEYS[0, p]) / 0.2) for p in range(PATCHES) if p != 4)
    assert loss.item() == pytest.approx(math.log(math.exp(own) + rivals) - own)


def test_an_anchor_of_a_larger_region_does_not_meet_its_own_momentum_patch():
    region = (torch.arange(PATCHES) < 2)[None]
    moved = KEYS[:1].clone()
    moved[0, 0] = unit(WIDTH, seed=77)
    one = {"region": region, "pool": KEYS[1:2], "negative": torch.ones(1, PATCHES).bool()}
    found = []
    for keys in (KEYS[:1], moved):
        patches = ONLINE[:1].clone().requires_grad_()
        loss_of(patches, keys, **one).backward()
        found.append(patches.grad[0])
    torch.testing.assert_close(found[0][0], found[1][0])
    assert not torch.allclose(found[0][1], found[1][1])


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize(
    ("region", "negative"),
    [
        (torch.ones(ROWS, PATCHES).bool(), torch.zeros(ROWS, PATCHES).bool()),
        (torch.zeros(ROWS, PATCHES).bool(), torch.ones(ROWS, PATCHES).bool()),
        (torch.zeros(ROWS, PATCHES).bool(), torch.zeros(ROWS, PATCHES).bool()),
    ],
    ids=["region everywhere, so no negatives", "no region anywhere", "neither"],
)
def test_without_regions_or_negatives_the_loss_is_zero_and_attached(region, negative, hard):
    patches = ONLINE.clone().requires_grad_()
    loss = loss_of(patches, region=region, negative=negative, hard=hard)
    loss.backward()
    assert loss == 0 and not patches.grad.any()


def test_a_region_on_the_whole_image_takes_its_negatives_from_other_rows():
    region = torch.zeros(2, PATCHES).bool()
    region[0] = True
    patches = ONLINE[:2].clone().requires_grad_()
    loss = loss_of(patches, KEYS[:2], region, KEYS[:2], ~region)
    loss.backward()
    assert loss > 0 and patches.grad[0].any() and not patches.grad[1].any()


def test_anchors_are_spread_over_the_region():
    region = torch.zeros(3, 30).bool()
    region[0, 5:25] = True
    region[1, 28:] = True
    slots, used = pmm._spread(region, 4)
    assert slots[0].tolist() == [7, 12, 17, 22] and used[0].all()
    assert slots[1][used[1]].tolist() == [28, 29]
    assert not used[2].any()


def test_only_anchors_learn():
    patches, keys, pool = (x.clone().requires_grad_() for x in (ONLINE, KEYS, KEYS))
    temperature = torch.tensor([0.2]).double().requires_grad_()
    keys.data[1] = torch.nan  # the row without a region
    loss_of(patches, keys, pool=pool, temperature=temperature).backward()
    assert keys.grad is None and pool.grad is None and temperature.grad.isfinite().all()
    slots, used = pmm._spread(REGION, 3)
    learns = torch.zeros_like(REGION).scatter(1, slots, used)
    assert torch.equal(patches.grad.any(2), learns & REGION)


def test_the_loss_falls_as_the_region_moves_together_and_away_from_the_rest():
    region = (torch.arange(PATCHES) < 3).expand(ROWS, PATCHES)
    apart = torch.nn.functional.one_hot(region.long(), WIDTH).double()
    together = loss_of(apart, apart, region, apart, ~region)
    assert together < 0.1 < loss_of(region=region, negative=~region)
    assert together.item() == pytest.approx(math.log(1 + 4 * math.exp(-5)))


def test_equal_copies_in_the_pool_all_count():
    pool = normal(1, 1, WIDTH).expand(1, 6, WIDTH)
    loss = loss_of(ONLINE[2:3], KEYS[2:3], REGION[2:3], pool, torch.ones(1, 6).bool(), rows=torch.tensor([0]))
    own, other = (float(ONLINE[2, 4] @ z) / 0.2 for z in (KEYS[2, 4], pool[0, 0]))
    assert loss.item() == pytest.approx(math.log(math.exp(own) + 4 * math.exp(other)) - own)
