"""What loaders left out, added up over processes and as one line: a silent loss looks like a worse model."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch

from training.data.dataset import RowDataset
from training.distributed import all_vectors, rank

_log = logging.getLogger(__name__)


def total_counts(dataset: RowDataset, device: torch.device | str = "cpu") -> dict[str, int]:
    """Return the sums of `RowDataset.counts` over all processes; every process must call it.

    Args:
        dataset: What this process read.
        device: Where the processes' collectives run: the accelerator's device.
    """
    counts = dataset.counts()
    sums = all_vectors(torch.tensor(list(counts.values()), dtype=torch.int64, device=device)).sum(dim=0)
    return dict(zip(counts, sums.tolist(), strict=True))


def describe(counts: Mapping[str, int]) -> str:
    """Return counts as one line, empty when nothing was left out."""
    parts = []
    if words := counts["words_dropped"]:
        marked = counts["marked_words_dropped"]
        parts.append(
            f"{words:,} words of news texts not read (data.max_words or data.max_tokens), "
            f"{marked:,} of them manipulated"
        )
    for name in ("captions", "explanations"):
        if cut := counts[f"{name}_cut"]:
            parts.append(f"{cut:,} {name} cut at data.max_tokens")
    if images := counts["images_not_cached"]:
        parts.append(f"{images:,} pictures read from their files, for data.image_cache lacks them")
    return "; ".join(parts)


def log_left_out(dataset: RowDataset, device: torch.device | str, when: str) -> dict[str, int]:
    """Log on rank 0 what was left out, if anything, and return the sums; every process must call it.

    Args:
        dataset: What this process read.
        device: The accelerator's device.
        when: Start of the line, such as ``epoch 3``.
    """
    counts = total_counts(dataset, device)
    line = describe(counts)
    if line and rank() == 0:
        _log.info("%s: %s", when, line)
    return counts
