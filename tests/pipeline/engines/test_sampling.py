from __future__ import annotations

import numpy as np
import torch

from pipeline.config import GenerationConfig
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
    return [(seed, f"key-{n}") for n in range(count)]


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
