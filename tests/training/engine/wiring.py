"""Six rows by hand, with outputs and keys drawn at random, to hold the objective against the formulas.

| row | what | box | words | caption | explanation |
|---|---|---|---|---|---|
| 0 | orig | | | yes | yes |
| 1 | face_swap | yes | | yes | yes |
| 2 | text_swap | | yes | none | yes |
| 3 | face_swap, text_swap | yes | yes | yes | none |
| 4 | annotations hidden | | | yes | yes |
| 5 | orig; caption of row 0, text of row 2 | | | yes | yes |
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from training.data.batch import IGNORED, NO_WORD, Batch
from training.engine.keys import Counts, Keys, Teaching
from training.model.outputs import Features, Fused, ModelOutput

ROWS, TOKENS, GRID, WIDTH, HEADS = 6, 5, (4, 4), 7, 2
PATCHES = GRID[0] * GRID[1]
BOXES = {1: (0.25, 0.25, 0.5, 0.5), 3: (0.5, 0.75, 0.5, 0.5)}
REGIONS = {1: [0, 1, 4, 5], 3: [9, 10, 13, 14]}
WORDS = {2: [1], 3: [2, 3]}
LABELLED, ORIG, FAKE = [0, 1, 2, 3, 5], [0, 5], [1, 2, 3]
CAPTIONS, EXPLANATIONS = [0, 1, 3, 4, 5], [0, 1, 2, 4, 5]
TYPES = {1: [1, 0, 0, 0], 2: [0, 0, 1, 0], 3: [1, 0, 1, 0]}
PADDED = 4
"""Last token of every text: the others are begin and three words."""


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(*shape: int, seed: int) -> Tensor:
    return normalize(drawn(*shape, seed=seed), dim=-1)


def among(rows: list[int]) -> Tensor:
    return torch.tensor([row in rows for row in range(ROWS)])


def batch() -> Batch:
    labels = torch.full((ROWS, TOKENS), IGNORED)
    labels[LABELLED, 1:PADDED] = 0
    for row, places in WORDS.items():
        labels[row, places] = 1
    box = torch.zeros(ROWS, 4)
    for row, values in BOXES.items():
        box[row] = torch.tensor(values)
    types = torch.zeros(ROWS, 4)
    for row, marks in TYPES.items():
        types[row] = torch.tensor(marks, dtype=torch.float32)
    text = torch.ones(ROWS, TOKENS, dtype=torch.int64)
    text[:, PADDED] = 0
    return Batch(
        index=torch.arange(ROWS),
        image=torch.zeros(ROWS, 3, 8, 8),
        text=text,
        text_word=torch.tensor([NO_WORD, 0, 1, 2, NO_WORD]).expand(ROWS, -1),
        caption=text,
        caption_mask=among(CAPTIONS),
        explanation=text,
        explanation_mask=among(EXPLANATIONS),
        labelled=among(LABELLED),
        is_fake=among(FAKE),
        types=types,
        box=box,
        has_box=among(list(BOXES)),
        word_labels=labels,
        image_id=torch.arange(ROWS),
        text_id=torch.tensor([10, 11, 12, 13, 14, 12]),
        caption_id=torch.tensor([20, 21, -1, 23, 24, 20]),
        explanation_id=torch.tensor([30, 31, 32, -1, 34, 35]),
        size=torch.full((ROWS, 2), 8.0),
        words=torch.full((ROWS,), 3),
    )


def output() -> ModelOutput:
    mask = torch.tensor([True] * PADDED + [False]).expand(ROWS, -1)
    to_text = drawn(ROWS, HEADS, PATCHES, 1 + TOKENS, seed=1)
    to_text[..., 1 + PADDED] = -torch.inf
    features = Features(
        image=unit(ROWS, WIDTH, seed=2),
        patches=drawn(ROWS, PATCHES, 3, seed=3),
        text=unit(ROWS, WIDTH, seed=4),
        tokens=drawn(ROWS, TOKENS, 3, seed=5),
        token_mask=mask,
        caption=unit(ROWS, WIDTH, seed=6),
        explanation=unit(ROWS, WIDTH, seed=7),
    )
    fused = Fused(
        image=drawn(ROWS, 3, seed=8),
        patches=drawn(ROWS, PATCHES, 3, seed=9),
        tokens=drawn(ROWS, TOKENS, 3, seed=10),
        text=drawn(ROWS, 3, seed=11),
        text_to_image=drawn(ROWS, HEADS, TOKENS, 1 + PATCHES, seed=12),
        image_to_text=to_text,
    )
    return ModelOutput(
        features=features,
        fused=fused,
        binary=drawn(ROWS, 2, seed=13),
        types=drawn(ROWS, 4, seed=14),
        box=drawn(ROWS, 4, seed=15).sigmoid(),
        words=drawn(ROWS, TOKENS, 2, seed=16),
        patch_logits=drawn(ROWS, PATCHES, seed=17),
        patch_embedding=unit(ROWS, PATCHES, WIDTH, seed=18),
        explanation_binary=drawn(ROWS, 2, seed=19),
        unguided_words=drawn(ROWS, TOKENS, 2, seed=20),
    )


def teaching() -> Teaching:
    return Teaching(
        words=drawn(ROWS, TOKENS, 2, seed=21),
        patch_logits=drawn(ROWS, PATCHES, seed=22),
        patch_embedding=unit(ROWS, PATCHES, WIDTH, seed=23),
    )


def keys(rows: Batch) -> Keys:
    everywhere = torch.ones(ROWS, dtype=torch.bool)
    names = ("image", "text", "caption", "explanation")
    negative = torch.ones(ROWS, PATCHES, dtype=torch.bool)
    negative[4] = False
    for row, region in REGIONS.items():
        negative[row, region] = False
    return Keys(
        offset=0,
        features={name: unit(ROWS, WIDTH, seed=30 + place) for place, name in enumerate(names)},
        ids={name: getattr(rows, f"{name}_id") for name in names},
        valid={
            "image": everywhere,
            "text": everywhere,
            "caption": rows.caption_mask,
            "explanation": rows.explanation_mask,
        },
        pool=unit(ROWS, PATCHES, WIDTH, seed=40),
        pool_negative=negative,
    )


def counts(**changes: Any) -> Counts:
    values: dict[str, float] = {
        "rows": ROWS,
        "labelled": len(LABELLED),
        "boxes": len(BOXES),
        "tokens": len(LABELLED) * 3,
        "word_rows": len(WORDS),
        "captions": len(CAPTIONS),
        "explanations": len(EXPLANATIONS),
        "labelled_explanations": 4,
        # Row 1: a 2 x 2 region in the corner and 4 neighbours; row 3: at the lower edge, 6 neighbours.
        "border": 4 + 4 + 4 + 6,
    }
    return Counts(**values | changes)
