from __future__ import annotations

import math

import pytest
import torch

from tests.training.losses.cases import FAKE, POSITION, ROWS, WIDTH, bank, unit
from training.losses import info_nce, mac_loss
from training.losses.bank import Bank

IMAGE, TEXT = unit(ROWS, WIDTH, seed=31), unit(ROWS, WIDTH, seed=32)
ALL, NONE = torch.ones(ROWS, dtype=torch.bool), torch.zeros(ROWS, dtype=torch.bool)


def mac(real=~FAKE, alpha=0.4, image=IMAGE, text=TEXT, **more):
    banks = bank(33), bank(34)
    return mac_loss(image, text, *banks, position=POSITION, real=real, temperature=0.2, alpha=alpha, **more)


def reference(real, alpha):
    """Mean over the four directions and the rows, from the formula."""
    images, texts = bank(33), bank(34)
    total = 0.0
    for query, own, keys in (
        (IMAGE, images, texts),
        (TEXT, texts, images),
        (IMAGE, images, images),
        (TEXT, texts, texts),
    ):
        for b in range(ROWS):
            used = [
                j
                for j in range(len(keys.ids))
                if j == b or (bool(keys.valid[j]) and int(keys.ids[j]) != int(keys.ids[b]))
            ]
            online = [math.exp(float(query[b] @ keys.features[j]) / 0.2) for j in used]
            momentum = [math.exp(float(own.features[b] @ keys.features[j]) / 0.2) for j in used]
            for j, e, m in zip(used, online, momentum, strict=True):
                if own is keys:
                    target = float(j == b)
                else:
                    target = (1 - alpha) * float(j == b and bool(real[b])) + alpha * m / sum(momentum)
                total -= target * math.log(e / sum(online))
    return total / (4 * ROWS)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
@pytest.mark.parametrize("real", [~FAKE, ALL, NONE], ids=["some manipulated", "none", "all"])
def test_it_is_the_formula(real, alpha):
    assert mac(real, alpha).item() == pytest.approx(reference(real, alpha))


def test_equal_features_give_the_log_of_the_number_of_keys():
    same = torch.nn.functional.one_hot(torch.zeros(5, dtype=torch.int64), 3).double()
    keys = Bank(same, torch.arange(5), torch.ones(5, dtype=torch.bool))
    # Within a modality a manipulated row has its positive all the same.
    for real, share in ((torch.ones(5).bool(), 1.0), (torch.zeros(5).bool(), (0.4 + 1) / 2)):
        loss = mac_loss(
            same, same, keys, keys, position=torch.arange(5), real=real, temperature=0.07, alpha=0.4
        )
        assert loss.item() == pytest.approx(share * math.log(5))


def test_a_manipulated_pair_is_not_pulled_together():
    image, images, texts = IMAGE.clone().requires_grad_(), bank(33), bank(34)
    arguments = {"position": POSITION, "temperature": 0.2}
    found = mac_loss(image, TEXT, images, texts, real=~FAKE, alpha=0.0, **arguments)
    (gradient,) = torch.autograd.grad(found, image)
    (within,) = torch.autograd.grad(info_nce(image, images, **arguments) / 4, image)
    torch.testing.assert_close(gradient[FAKE], within[FAKE])
    assert (gradient - within)[~FAKE].any(1).all()


def test_all_rows_manipulated_without_distillation_leaves_the_terms_within_a_modality():
    arguments = {"position": POSITION, "temperature": 0.2}
    within = info_nce(IMAGE, bank(33), **arguments) + info_nce(TEXT, bank(34), **arguments)
    torch.testing.assert_close(mac(NONE, alpha=0.0), within / 4)


def test_without_a_valid_place_in_the_queue_it_is_the_loss_of_the_batch():
    found = []
    for queue in (0, 4):
        banks = []
        for seed in (33, 34):
            keys = bank(seed, queue=0)
            banks.append(
                Bank(
                    torch.cat([keys.features, unit(queue, WIDTH, seed=99)]),
                    torch.cat([keys.ids, 100 + torch.arange(queue)]),
                    torch.cat([keys.valid, torch.zeros(queue, dtype=torch.bool)]),
                )
            )
        found.append(mac_loss(IMAGE, TEXT, *banks, position=POSITION, real=~FAKE, temperature=0.2, alpha=0.4))
    torch.testing.assert_close(*found)


def test_both_modalities_and_the_temperature_learn_but_no_key_does():
    image, text = IMAGE.clone().requires_grad_(), TEXT.clone().requires_grad_()
    banks = bank(33), bank(34)
    for keys in banks:
        keys.features.requires_grad_()
    temperature = torch.tensor(0.2).double().requires_grad_()
    mac_loss(
        image, text, *banks, position=POSITION, real=~FAKE, temperature=temperature, alpha=0.4
    ).backward()
    assert image.grad.any() and text.grad.any() and temperature.grad != 0
    assert all(keys.features.grad is None for keys in banks)


def test_masked_rows_are_no_queries_but_stay_keys():
    mask = torch.tensor([1, 1, 1, 0, 0, 0]).bool()
    images, texts = bank(33), bank(34)
    pairs = ((IMAGE, texts), (TEXT, images), (IMAGE, images), (TEXT, texts))
    expected = [
        info_nce(query[:3], keys, position=POSITION[:3], temperature=0.2, hard=None if within else ~FAKE[:3])
        for (query, keys), within in zip(pairs, (False, False, True, True), strict=True)
    ]
    torch.testing.assert_close(mac(alpha=0.0, row_mask=mask), torch.stack(expected).mean())
