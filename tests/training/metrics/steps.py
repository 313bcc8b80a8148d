"""Batches and outputs for the collector. Its own file, so that a second process starts quickly."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from tests.training.metrics.cases import some
from training.data.batch import Batch
from training.metrics.collect import Collector

ROWS = 23
UNREAD = torch.zeros(0)


def step(
    rows: Sequence[int], places: int = 9, output: Callable[..., Any] = SimpleNamespace, **changes: Any
) -> tuple[Batch, Any]:
    """A batch and an output that hold the given rows of the same predictions, cut to ``places`` tokens."""
    part = some(ROWS).take(np.asarray(rows))
    batch = {name: UNREAD for name in Batch.__dataclass_fields__} | {
        "index": torch.tensor(part.index),
        "text_word": torch.tensor(part.token_word[:, :places]),
        "word_labels": torch.tensor(part.token_label[:, :places]),
        "labelled": torch.ones(len(part), dtype=torch.bool),
        "is_fake": torch.tensor(part.is_fake),
        "types": torch.tensor(part.types, dtype=torch.float32),
        "box": torch.tensor(part.box_true_cxcywh),
        "has_box": torch.tensor(part.face_edited),
        "size": torch.tensor(part.image_size),
    }
    found = output(
        binary=torch.tensor(part.logits_binary),
        types=torch.tensor(part.logits_multilabel),
        box=torch.tensor(part.box_pred_cxcywh),
        words=torch.tensor(part.logits_token[:, :places]),
    )
    return Batch(**(batch | changes)), found


def collect(*steps: tuple[Batch, Any], box_threshold: float = 0.0) -> Collector:
    collector = Collector(box_threshold)
    for batch, output in steps:
        collector.add(batch, output)
    return collector


def share(rank: int, folder: Path) -> None:
    # Uneven shares of unequal length; row 0 stands on both, as samplers repeat rows.
    mine = [step([20, 19, 22, 21]), step([0, *range(13, 19)])] if rank else [step(range(13), places=7)]
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    # The group stands already; accelerate only asks for an address before it looks.
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT="29500")
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    found = collect(*mine).gather(accelerator)
    assert (found is None) == (rank == 1)
    if found is not None:
        found.save(folder / "all.npz")
    # A process without any rows takes part as well.
    found = (collect(step([1, 0])) if rank else Collector(0.0)).gather()
    assert found is None if rank else found.index.tolist() == [0, 1]
