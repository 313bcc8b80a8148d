from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from pipeline.config import GenerationConfig
from pipeline.engines.base import Request, Sampling
from pipeline.engines.sampling import row_samplers

CPU = torch.device("cpu")


def draw(config, rows, logits, steps):
    """Sample ``steps`` tokens per row from fixed logits [vocabulary]."""
    processors = row_samplers(config, rows, CPU)
    scores = logits.expand(len(rows), -1)
    tokens = [
        processors(torch.zeros(len(rows), 0, dtype=torch.long), scores).argmax(-1) for _ in range(steps)
    ]
    return torch.stack(tokens, 1).numpy()


def sampling(**values):
    return GenerationConfig(do_sample=True, max_new_tokens=400, **values)


def rows(count, seed=0):
    return [Request(f"key-{n}", "?", seed=seed) for n in range(count)]


def again(requests, attempt, temperature=1.0, top_p=1.0):
    return [replace(request, sampling=Sampling(attempt, temperature, top_p)) for request in requests]


def test_tokens_are_drawn_with_the_probabilities_of_the_model():
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0])
    tokens = draw(sampling(), rows(100), probabilities.log(), 400)
    shares = np.bincount(tokens.ravel(), minlength=5) / tokens.size
    # 40,000 draws: a share's standard error is at most 0.0025.
    assert np.abs(shares - probabilities.numpy()).max() < 0.01
    assert shares[4] == 0


def test_temperature_top_k_and_top_p_shape_the_distribution():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    cold = draw(sampling(temperature=0.5), rows(100), logits, 400)
    expected = np.array([16, 9, 4, 1]) / 30
    assert np.abs(np.bincount(cold.ravel()) / cold.size - expected).max() < 0.01
    assert set(draw(sampling(top_k=2), rows(20), logits, 400).ravel()) == {0, 1}
    assert set(draw(sampling(top_p=0.65), rows(20), logits, 400).ravel()) == {0, 1}


def test_a_rows_tokens_do_not_depend_on_its_neighbours():
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    together = draw(sampling(), rows(6), logits, 100)
    alone = draw(sampling(), rows(6)[4:5], logits, 100)
    assert (together[4] == alone[0]).all()
    assert len({tuple(row) for row in together}) == 6


def test_another_seed_gives_other_tokens():
    logits = torch.zeros(50)
    assert (draw(sampling(), rows(1), logits, 50) != draw(sampling(), rows(1, seed=1), logits, 50)).any()


def test_greedy_decoding_has_no_sampler():
    assert list(row_samplers(GenerationConfig(), rows(3), CPU)) == []


def test_a_row_that_is_made_anew_is_sampled_under_greedy_decoding_with_numbers_of_its_own():
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    greedy = GenerationConfig(max_new_tokens=400)
    first, second = (draw(greedy, again(rows(1), attempt), logits, 100) for attempt in (1, 2))
    assert (first != second).any()
    assert (first == draw(sampling(), again(rows(1), 1), logits, 100)).all()
    assert (first != draw(sampling(), rows(1), logits, 100)).any()


def test_rows_of_different_sampling_share_a_batch_without_a_difference():
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    greedy = GenerationConfig(max_new_tokens=400)
    plain, hot, cold = rows(3)
    mixed = [plain, *again([hot], 1, 2.0), *again([cold], 2, 0.7, 0.9)]
    together = draw(greedy, mixed, logits, 100)
    assert (together[0] == int(logits.argmax())).all()
    for place in (1, 2):
        assert (together[place] == draw(greedy, mixed[place : place + 1], logits, 100)[0]).all()
    assert len(set(together[1])) > len(set(together[2])) > 1
