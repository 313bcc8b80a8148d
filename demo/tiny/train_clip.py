"""Training of the tiny CLIP."""

# mypy: disable-error-code="import-untyped"

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from demo.newsroom import write
from demo.tiny.clip import ClipSize, build_clip, save_clip
from demo.tiny.data_pairs import Pairs, draw_pairs
from demo.tiny.training import Recipe, train

RECIPE = Recipe(steps=420, batch=256)
PAIRS = 20_000
MARGIN = 3  # pixels by which a picture is shifted at random
HOTTEST = 100.0  # CLIP's own bound of the inverse temperature
ALIKE = 8  # pictures of a batch that come from one group of scenes alike
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def train_clip(
    folder: Path,
    recipe: Recipe = RECIPE,
    size: ClipSize | None = None,
    *,
    pairs: Pairs | None = None,
    line: int | None = 0,
) -> list[float]:
    """Train the tiny CLIP from random weights and save it.

    Args:
        folder: Where the checkpoint goes; replaced in one step at the end.
        recipe: Steps, rates, seed.
        size: Layer sizes; the shipped ones when None.
        pairs: Training pairs at the model's image size; drawn from the training worlds when None.
        line: Terminal line of the progress bar; None for no bar.

    Returns:
        The loss of every step.
    """
    size = size or ClipSize()
    if pairs is None:
        pairs = draw_pairs(PAIRS, recipe.seed, size.image_size, line=line)
    torch.manual_seed(recipe.seed)
    model, tokenizer = build_clip(size)
    causal = model.text.attn_mask

    def loss_of(batch: Batch) -> torch.Tensor:
        pixels, ids, twins = batch
        # open_clip's mask fits texts of full length only, and news texts fill a third of it.
        model.text.attn_mask = causal[: ids.shape[1], : ids.shape[1]]
        pictures = model.encode_image(pixels, normalize=True)
        texts = model.encode_text(ids, normalize=True)
        logits = model.logit_scale.exp().clamp(max=HOTTEST) * pictures @ texts.T
        logits = logits.masked_fill(twins, -torch.inf)
        own = torch.arange(len(logits))
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2

    losses = train(model, recipe, batches(pairs, tokenizer, recipe), loss_of, label="tiny CLIP", line=line)
    save_clip(model, tokenizer, size, folder)
    return losses


def batches(pairs: Pairs, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Iterator[Batch]:
    """Endless shuffled batches.

    A picture comes shifted and maybe mirrored, with a new text about its scene each time: the towers should
    learn what is shown, not which of a few thousand pictures goes with which text. Batches are made of small
    groups that share most of person, thing and place. Among pictures chosen at random these three settle
    nearly every match, and the towers never learn to look at the expression.

    Yields:
        Normalized pictures; token ids padded to the longest text of the batch; a square of flags, true where
        two pictures of the batch show equal scenes, so that neither is a wrong answer for the other's text.
    """
    rng = np.random.default_rng(recipe.seed)
    telling = random.Random(recipe.seed)
    kinds = {scene: number for number, scene in enumerate(dict.fromkeys(pairs.scenes))}
    kind = np.array([kinds[scene] for scene in pairs.scenes])
    while True:
        order = _grouped(pairs, rng)
        for start in range(0, len(order) - recipe.batch + 1, recipe.batch):
            rows = order[start : start + recipe.batch]
            texts = [write(pairs.scenes[row], telling) for row in rows]
            ids = tokenizer(texts, padding=True, return_tensors="pt").input_ids
            twins = torch.from_numpy(kind[rows][:, None] == kind[rows]).fill_diagonal_(False)
            yield normalized(_moved(pairs.pixels[rows], rng)), ids, twins


def _grouped(pairs: Pairs, rng: np.random.Generator) -> np.ndarray:
    """All rows, shuffled in groups of `ALIKE` neighbours of an order by person, thing and place."""
    order = rng.permutation(len(pairs.scenes))
    first, second, third = rng.permutation(("person", "object", "place"))
    keys = [(getattr(s, first), getattr(s, second), getattr(s, third)) for s in pairs.scenes]
    order = np.array(sorted(order, key=keys.__getitem__))
    groups = np.array_split(order, max(1, len(order) // ALIKE))
    return np.concatenate([groups[i] for i in rng.permutation(len(groups))])


def normalized(pixels: np.ndarray) -> torch.Tensor:
    """The model's input (batch, 3, side, side) for uint8 pictures (batch, side, side, 3)."""
    mean, spread = (torch.tensor(v).view(1, 3, 1, 1) for v in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255).sub(mean).div(spread)


def _moved(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The pictures shifted by up to `MARGIN` pixels, edges repeated, half of them mirrored."""
    side = pixels.shape[1]
    moved = np.empty_like(pixels)
    for row, picture in enumerate(pixels):
        dy, dx = rng.integers(-MARGIN, MARGIN + 1, 2)
        columns = np.clip(np.arange(side) + dx, 0, side - 1)
        if rng.random() < 0.5:
            columns = columns[::-1]
        moved[row] = picture[np.clip(np.arange(side) + dy, 0, side - 1)][:, columns]
    return moved
