"""Random number generators: seeded per process, stored and restored as tensors."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch (CPU and GPU); every rank gets streams of its own."""
    python, numpy, torch_seed = (int(word) for word in np.random.SeedSequence([seed, rank]).generate_state(3))
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(torch_seed)


def rng_state() -> dict[str, Tensor]:
    """Return the state of every generator of this process as tensors, so that no pickle is needed.

    Returns:
        ``python`` (626,) int64: version and words; ``python_gauss`` (0 or 1,) float64: a normal number kept
        for the next call; ``numpy`` (626,) int64: words, position, flag; ``numpy_gauss`` (1,) float64;
        ``torch`` uint8; ``cuda`` uint8, the current device, where there is one.
    """
    version, words, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)
    assert isinstance(numpy, dict)
    inner = numpy["state"]
    state = {
        "python": torch.tensor([version, *words]),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.tensor([*inner["key"].tolist(), inner["pos"], numpy["has_gauss"]]),
        "numpy_gauss": torch.tensor([numpy["gauss"]], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: Mapping[str, Tensor]) -> None:
    """Put every generator back; ``cuda`` is skipped where there is no GPU or none was stored."""
    version, *words = state["python"].tolist()
    gauss = state["python_gauss"].tolist()
    random.setstate((version, tuple(words), gauss[0] if gauss else None))
    *key, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": np.array(key, dtype=np.uint32), "pos": position},
            "has_gauss": has_gauss,
            "gauss": float(state["numpy_gauss"]),
        }
    )
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
