from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from training.engine.seeds import rng_state, seed_everything, set_rng_state
from training.engine.tensors import read_tensors, write_tensors


def draw() -> list[float]:
    numbers = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn()]
    return [*(float(x) for x in numbers), *torch.randn(3).tolist()]


@pytest.mark.parametrize("half_used", [False, True])
def test_generators_go_on_where_they_were(tmp_path: Path, half_used: bool) -> None:
    seed_everything(1)
    if half_used:  # one of a pair of normal numbers is kept for the next call
        random.gauss(0, 1)
        np.random.randn()
    write_tensors(tmp_path / "rng.safetensors", rng_state())
    expected = [draw(), draw()]
    seed_everything(2)
    set_rng_state(read_tensors(tmp_path / "rng.safetensors"))
    assert [draw(), draw()] == expected


def test_a_seed_fixes_all_generators_and_ranks_differ_in_each() -> None:
    draws = []
    for seed, rank in ((5, 0), (5, 0), (5, 1), (6, 0)):
        seed_everything(seed, rank)
        draws.append(draw())
    assert draws[0] == draws[1]
    for other in draws[2:]:
        assert not set(draws[0]) & set(other)


@pytest.mark.gpu
def test_the_generator_of_the_gpu_goes_on_where_it_was() -> None:
    seed_everything(1)
    state = rng_state()
    expected = torch.randn(3, device="cuda").tolist()
    set_rng_state(state)
    assert torch.randn(3, device="cuda").tolist() == expected
