"""Keys of an optimizer step: momentum features of the whole effective batch, and its global counts.

Computed once per optimizer step before any gradient, over all processes and micro-batches. Losses compare
their own rows with these, so neither the number of processes nor of micro-batches changes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.config.sections import Config
from training.data.batch import Batch
from training.data.masks import patch_mask
from training.distributed import all_vectors, gather_rows, rank, world_size
from training.losses import Bank, border_labels
from training.model import FeatureQueue, ModelOutput, MomentumEncoder


@dataclass(frozen=True)
class Counts:
    """Rows (or tokens, or patches) that each loss averages over: the global number over the processes.

    Divided by the number of processes, because the gradients of the processes are averaged.
    ``predicted_boxes`` and ``predicted_words`` are rows without annotations whose predicted mask has a patch
    or a word in it; counted with ``mgca.guidance: predicted`` only.
    """

    rows: float
    labelled: float
    boxes: float
    tokens: float
    word_rows: float
    captions: float
    explanations: float
    labelled_explanations: float
    border: float
    predicted_boxes: float = 0.0
    predicted_words: float = 0.0


@dataclass(frozen=True)
class Keys:
    """Momentum features of the N rows of the effective batch; E and d as in `ModelOutput`.

    Attributes:
        offset: Position of this process's first row among the N.
        features: By modality (N, E).
        ids: By modality (N,) int64 content ids.
        valid: By modality (N,) bool.
        pool: (N, M, d) patch embeddings, or None without L_PMM.
        pool_negative: (N, M) bool, the patch is known to be unmanipulated.
    """

    offset: int
    features: dict[str, Tensor]
    ids: dict[str, Tensor]
    valid: dict[str, Tensor]
    pool: Tensor | None
    pool_negative: Tensor | None

    def contents(self, *names: str) -> Tensor:
        """Return the content ids of a modality (N,), or of several (N, K)."""
        return self.ids[names[0]] if len(names) == 1 else torch.stack([self.ids[name] for name in names], -1)

    def bank(self, name: str, queue: FeatureQueue | None = None, ids: Sequence[str] = ()) -> Bank:
        """Return the keys of one modality, the queue's after the batch's.

        Args:
            name: image, text, caption or explanation.
            queue: Further keys.
            ids: Take the content ids of these modalities instead, so that two images of one caption count as
                equal for L_cap.
        """
        features, own, valid = self.features[name], self.contents(*(ids or (name,))), self.valid[name]
        if queue is None or queue.size == 0:
            return Bank(features, own, valid)
        return Bank(
            torch.cat([features, queue.features.to(features.dtype)]),
            torch.cat([own, queue.ids]),
            torch.cat([valid, queue.valid]),
        )


@dataclass(frozen=True)
class Teaching:
    """What the losses read of the momentum model's outputs for a micro-batch, as in `ModelOutput`."""

    words: Tensor
    patch_logits: Tensor
    patch_embedding: Tensor

    def predicted_guidance(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the masks (B, P) and (B, T), bool, that the momentum model predicts on unlabelled rows."""
        hidden = ~batch.labelled[:, None]
        words = self.words[..., 1] > self.words[..., 0]
        return (self.patch_logits > 0) & hidden, words & (batch.text_word >= 0) & hidden


def gather_keys(
    micro: Sequence[Batch], momentum: MomentumEncoder, config: Config, step: int
) -> tuple[Keys, Counts, list[Teaching]]:
    """Encode the effective batch with the momentum model and gather it over all processes.

    Args:
        micro: This process's micro-batches, on its device.
        momentum: The momentum encoder; call under autocast where the model runs under it.
        config: The run's configuration.
        step: Optimizer steps done before this one; other patches join the pool at each.

    Returns:
        The keys, the counts, and per micro-batch of this process what the momentum model teaches.
    """
    lma = config.loss.lma
    with_caption = lma.text in ("caption", "both")
    with_explanation = lma.text in ("explanation", "both")
    # Read back before the momentum model's work is queued, so that a GPU is not drained for it.
    sizes, counts = _count(micro, config, momentum)
    outputs = [
        momentum(
            batch.image,
            batch.text,
            batch.caption if with_caption else None,
            batch.explanation if with_explanation else None,
        )
        for batch in micro
    ]

    def whole(parts: list[Tensor]) -> Tensor:
        return gather_rows(torch.cat(parts), sizes)

    features = {
        "image": whole([o.features.image for o in outputs]),
        "text": whole([o.features.text for o in outputs]),
    }
    ids = {
        "image": whole([b.image_id for b in micro]),
        "text": whole([b.text_id for b in micro]),
        "caption": whole([b.caption_id for b in micro]),
        "explanation": whole([b.explanation_id for b in micro]),
    }
    everywhere = torch.ones_like(ids["image"], dtype=torch.bool)
    valid = {"image": everywhere, "text": everywhere}
    if with_caption:
        features["caption"] = whole([_present(o.features.caption) for o in outputs])
        valid["caption"] = whole([b.caption_mask for b in micro])
    if with_explanation:
        features["explanation"] = whole([_present(o.features.explanation) for o in outputs])
        valid["explanation"] = whole([b.explanation_mask for b in micro])
    pool = negative = None
    if config.loss.pmm.mode == "infonce" and config.loss.pmm.weight > 0:
        grid = momentum.model.grid
        parts = [
            _pool(output, batch, grid, config.loss.pmm.pool, step)
            for output, batch in zip(outputs, micro, strict=True)
        ]
        pool = whole([part[0] for part in parts])
        negative = whole([part[1] for part in parts])
    offset = sum(sizes[: rank()])
    teaching = [Teaching(o.words, o.patch_logits, o.patch_embedding) for o in outputs]
    if config.loss.mgca.guidance == "predicted":
        counts = _with_predicted(counts, micro, teaching)
    return Keys(offset, features, ids, valid, pool, negative), counts, teaching


def _count(micro: Sequence[Batch], config: Config, momentum: MomentumEncoder) -> tuple[list[int], Counts]:
    tallies = torch.stack([_tally(batch, config, momentum.model.grid) for batch in micro]).sum(dim=0)
    everyone = all_vectors(tallies)
    sizes = [int(n) for n in everyone[:, 0].tolist()]
    totals = (everyone.sum(dim=0) / world_size()).tolist()
    return sizes, Counts(*totals)


def _tally(batch: Batch, config: Config, grid: tuple[int, int]) -> Tensor:
    border = torch.zeros((), device=batch.box.device)
    if config.loss.pmm.mode == "border_bce":
        region = patch_mask(batch.box, batch.has_box, grid)
        labels = border_labels(region, grid)
        border = (labels[batch.has_box & batch.labelled] >= 0).sum()
    # In the order of the fields of Counts.
    values = [
        torch.tensor(len(batch), device=batch.box.device),
        batch.labelled.sum(),
        (batch.has_box & batch.labelled).sum(),
        ((batch.word_labels >= 0) & batch.labelled[:, None]).sum(),
        ((batch.word_labels == 1).any(dim=1) & batch.labelled).sum(),
        batch.caption_mask.sum(),
        batch.explanation_mask.sum(),
        (batch.explanation_mask & batch.labelled).sum(),
        border,
    ]
    return torch.stack([value.to(torch.float64) for value in values])


def _with_predicted(counts: Counts, micro: Sequence[Batch], teaching: Sequence[Teaching]) -> Counts:
    masks = [soft.predicted_guidance(batch) for soft, batch in zip(teaching, micro, strict=True)]
    patches = torch.stack([mask.any(dim=1).sum() for mask, _ in masks]).sum()
    words = torch.stack([mask.any(dim=1).sum() for _, mask in masks]).sum()
    everyone = all_vectors(torch.stack([patches, words]).to(torch.float64))
    boxes, texts = (everyone.sum(dim=0) / world_size()).tolist()
    return replace(counts, predicted_boxes=boxes, predicted_words=texts)


def _pool(
    output: ModelOutput, batch: Batch, grid: tuple[int, int], most: int, step: int
) -> tuple[Tensor, Tensor]:
    """Pick at most ``most`` patches per row, others for each row and step."""
    embedding = output.patch_embedding
    patches = embedding.shape[1]
    negative = ~patch_mask(batch.box, batch.has_box, grid) & batch.labelled[:, None]
    if patches <= most:
        return embedding, negative
    chosen = _shuffled(batch.index, patches, step)[:, :most]
    return (
        embedding.gather(1, chosen[..., None].expand(-1, -1, embedding.shape[2])),
        negative.gather(1, chosen),
    )


def _shuffled(index: Tensor, patches: int, step: int) -> Tensor:
    """Return each row's patches in an order of its own, (B, patches) int64.

    The order follows from the row's number and the step alone, on every device and in whatever micro-batch
    or process the row is: patches are sorted by a hash. A fixed stride would meet the same columns of the
    grid in every row.
    """
    patch = torch.arange(patches, device=index.device)
    code = index[:, None] * 0x9E3779B1 + patch[None] * 0x85EBCA6B + step * 0xC2B2AE35
    for _ in range(2):
        code = ((code ^ (code >> 15)) & 0xFFFFFFFF) * 0x2C1B3C6D
    return (code & 0xFFFFFFFF).argsort(dim=1, stable=True)


def _present(feature: Tensor | None) -> Tensor:
    if feature is None:
        raise AssertionError("the momentum model was given the text but returned no feature")
    return feature
