"""Drawn rows: random tensors of the shapes that the loader gives, where no data set is at hand."""

from __future__ import annotations

import torch

from schemas.vocabulary import MANIPULATION_TYPES
from training.data.batch import IGNORED, NO_WORD, Batch
from training.engine.assembly import Run

TOKENS = 48
"""Padded length of the drawn texts: a news text of some 20 words, its caption and its explanation."""


def drawn_batches(run: Run, rows: int) -> list[Batch]:
    """Return the micro-batches of one optimizer step, on the run's device; half of the rows have a box.

    Args:
        run: Says sizes, vocabulary, micro-batches and device.
        rows: Rows of the step.
    """
    generator = torch.Generator().manual_seed(0)
    accumulate = run.config.train.accumulate
    sizes = [rows // accumulate + (place < rows % accumulate) for place in range(accumulate)]
    starts = [sum(sizes[:place]) for place in range(accumulate)]
    device = run.accelerator.device
    return [_draw(run, start, size, generator).to(device) for start, size in zip(starts, sizes, strict=True)]


def _draw(run: Run, start: int, rows: int, generator: torch.Generator) -> Batch:
    side, towers = run.config.model.image_size, run.model.towers
    length = min(TOKENS, run.tokenizer.max_tokens)
    vocabulary = towers.text.token_embedding.num_embeddings

    def texts() -> torch.Tensor:
        tokens = torch.randint(1, vocabulary, (rows, length), generator=generator)
        tokens[:, -1] = vocabulary - 1  # the end, whose place the text tower looks for
        return tokens

    index = torch.arange(start, start + rows)
    fake = index % 2 == 0
    word = torch.arange(length).div(2, rounding_mode="floor").repeat(rows, 1)
    word[:, 0] = word[:, -1] = NO_WORD
    centre = torch.rand(rows, 2, generator=generator) * 0.4 + 0.3
    box = torch.cat([centre, torch.rand(rows, 2, generator=generator) * 0.3 + 0.1], dim=1)
    labels = ((word % 5 == 1) & fake[:, None]).long()
    labels[word == NO_WORD] = IGNORED
    types = (torch.arange(len(MANIPULATION_TYPES)) % 2 == 0).repeat(rows, 1) & fake[:, None]
    there = torch.ones(rows, dtype=torch.bool)
    return Batch(
        index=index,
        image=torch.randn(rows, 3, side, side, generator=generator),
        text=texts(),
        text_word=word,
        caption=texts(),
        caption_mask=there,
        explanation=texts(),
        explanation_mask=there,
        labelled=there,
        is_fake=fake,
        types=types.float(),
        box=box * fake[:, None],
        has_box=fake,
        word_labels=labels,
        image_id=index,
        text_id=index,
        caption_id=index,
        explanation_id=index,
        size=torch.full((rows, 2), float(side)),
        words=torch.full((rows,), length // 2),
    )
