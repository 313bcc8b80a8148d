"""Collects a model's outputs batch by batch and brings those of all processes together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from schemas.vocabulary import FAKE_CLS, MANIPULATION_TYPES
from training.data.batch import Batch
from training.distributed import rank, world_size
from training.errors import DataError
from training.metrics.predictions import Predictions, concat

if TYPE_CHECKING:
    # The package behind it loads open_clip, which takes seconds and is not needed here.
    from training.model.outputs import ModelOutput

_BITS = 1 << np.arange(len(MANIPULATION_TYPES))


def class_names(types: NDArray[Any]) -> NDArray[np.str_]:
    """Return the ``fake_cls`` of each row of manipulation types.

    Args:
        types: (N, 4), non-zero for face_swap, face_attribute, text_swap, text_attribute.

    Raises:
        DataError: A row names two face or two text manipulations, which no class stands for.
    """
    table = np.full(1 << len(MANIPULATION_TYPES), "", dtype=f"U{max(map(len, FAKE_CLS))}")
    for name in FAKE_CLS:
        table[sum(int(_BITS[MANIPULATION_TYPES.index(kind)]) for kind in _kinds(name))] = name
    names = table[(types > 0) @ _BITS]
    bad = np.flatnonzero(names == "")
    if len(bad):
        raise DataError(
            f"row {bad[0]} of the batch has types {types[bad[0]].tolist()}, none of the nine classes; "
            "at most one face and one text manipulation go together"
        )
    return names


def _kinds(fake_cls: str) -> list[str]:
    return [] if fake_cls == "orig" else fake_cls.split("&")


class Collector:
    """Keeps what the evaluation reads, on the CPU.

    Args:
        box_threshold: Predict "no box" (zeros) where the probability of a face manipulation, 1 less the
            product of both types' complements, is lower. A box head that was trained on rows with a box
            only says nothing about the others; without a threshold every row without a box would count as
            missed in the published IoU. 0 for ``loss.dgm.box_on_negatives``.
    """

    def __init__(self, box_threshold: float) -> None:
        self.box_threshold = box_threshold
        self._parts: list[Predictions] = []

    @torch.no_grad()
    def add(self, batch: Batch, output: ModelOutput) -> None:
        """Store one batch and the model's output for it.

        Raises:
            DataError: A row's annotations are hidden, or contradict each other.
        """
        index = _array(batch.index)
        if not bool(batch.labelled.all()):
            row = int(index[int((~batch.labelled).nonzero()[0])])
            raise DataError(
                f"row {row}: its annotations are hidden, so it cannot be scored; evaluate all rows"
            )
        fake_cls = class_names(_array(batch.types))
        contradiction = np.flatnonzero((fake_cls != "orig") != _array(batch.is_fake))
        if len(contradiction):
            first = contradiction[0]
            raise DataError(f"row {index[first]}: class {fake_cls[first]} and is_fake contradict each other")
        neither = torch.sigmoid(-output.types[:, :2].float()).prod(dim=1, keepdim=True)
        box = output.box.float() * (1 - neither >= self.box_threshold)
        self._parts.append(
            Predictions(
                fake_cls=fake_cls,
                logits_binary=_array(output.binary),
                logits_multilabel=_array(output.types),
                box_pred_cxcywh=_array(box),
                box_true_cxcywh=_array(batch.box * batch.has_box[:, None]),
                logits_token=_array(output.words),
                token_label=_array(batch.word_labels.to(torch.int8)),
                token_word=_array(batch.text_word.to(torch.int32)),
                index=index,
                image_size=_array(batch.size),
            )
        )

    def gather(self, accelerator: Any | None = None) -> Predictions | None:
        """Bring the rows of all processes together; every process must call it.

        Args:
            accelerator: The run's ``accelerate.Accelerator``. Processes meet through the default process
                group either way; with an accelerator all of them first reach this point.

        Returns:
            On rank 0 the rows sorted by index, each index once (samplers repeat rows to even out the
            processes); None elsewhere.
        """
        own = concat(self._parts)
        if world_size() == 1:
            return _in_order([own])
        if accelerator is not None:
            accelerator.wait_for_everyone()
        parts: list[Any] | None = [None] * world_size() if rank() == 0 else None
        dist.gather_object(own, parts, dst=0)
        return None if parts is None else _in_order(parts)


def _in_order(parts: list[Predictions]) -> Predictions:
    # A process without rows has no optional arrays, and would take them from everyone.
    whole = concat([part for part in parts if len(part)])
    if whole.index is None:
        return whole
    _, first = np.unique(whole.index, return_index=True)
    return whole.take(first)


def _array(tensor: Tensor) -> NDArray[Any]:
    # NumPy has no bfloat16.
    values = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
    return values.cpu().numpy()
