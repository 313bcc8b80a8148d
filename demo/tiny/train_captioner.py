"""Training of the tiny InstructBLIP."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import InstructBlipProcessor

from demo.newsroom.scene import caption_from_facts, fact_values
from demo.tiny.captioner import INSTRUCTION, PARAPHRASES, CaptionerSize, build_captioner
from demo.tiny.data_pictures import Pictures, draw_pictures
from demo.tiny.training import Recipe, save_checkpoint, train

RECIPE = Recipe(steps=2200, batch=64, rate=3e-3, other_rate=3e-3)
PICTURES = 20_000
PARAPHRASE_SHARE = 0.15
MARGIN = 4  # pixels by which a picture is shifted at random
Batch = dict[str, torch.Tensor]


def caption_vocabulary() -> list[str]:
    """Every word of the captions of every world."""
    values = fact_values()
    facts = {key: options[0] for key, options in values.items()}
    return [
        word
        for key, options in values.items()
        for option in options
        for word in caption_from_facts({**facts, key: option}).split()
    ]


def train_captioner(
    folder: Path,
    recipe: Recipe = RECIPE,
    size: CaptionerSize | None = None,
    *,
    pictures: Pictures | None = None,
    line: int | None = 0,
) -> list[float]:
    """Train the tiny InstructBLIP from random weights and save it.

    Args:
        folder: Where the checkpoint goes; replaced in one step at the end.
        recipe: Steps, rates, seed.
        size: Layer sizes; the shipped ones when None.
        pictures: Training pictures at the model's image size; drawn from the training worlds when None.
        line: Terminal line of the progress bar; None for no bar.

    Returns:
        The loss of every step.
    """
    size = size or CaptionerSize()
    if pictures is None:
        pictures = draw_pictures(PICTURES, recipe.seed, size.image_size, line=line)
    torch.manual_seed(recipe.seed)
    model, processor = build_captioner(caption_vocabulary(), size)

    def loss_of(batch: Batch) -> torch.Tensor:
        labels = batch.pop("labels")
        logits = model(**batch, use_cache=False).logits[:, -labels.shape[1] - 1 : -1]
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)

    stream = batches(pictures, processor, recipe)
    losses = train(model, recipe, stream, loss_of, label="tiny InstructBLIP", line=line)
    save_checkpoint(model, processor, folder)
    return losses


def batches(pictures: Pictures, processor: InstructBlipProcessor, recipe: Recipe) -> Iterator[Batch]:
    """Endless shuffled batches: inputs of the model, and `labels` (batch, caption length), -100 where padded.

    All rows of a batch share one instruction, mostly the default one, so only captions need padding.
    """
    rng = np.random.default_rng(recipe.seed)
    choose = random.Random(recipe.seed)
    mean = torch.tensor(processor.image_processor.image_mean).view(1, 3, 1, 1)
    spread = torch.tensor(processor.image_processor.image_std).view(1, 3, 1, 1)
    end = processor.tokenizer.eos_token_id
    captions = [
        torch.tensor(processor.tokenizer(c, add_special_tokens=False).input_ids + [end])
        for c in pictures.captions
    ]
    while True:
        order = rng.permutation(len(captions))
        for start in range(0, len(order) - recipe.batch + 1, recipe.batch):
            rows = order[start : start + recipe.batch]
            shifted = _shifted(pictures.pixels[rows], rng)
            pixels = torch.from_numpy(shifted).permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(spread)
            instruction = choose.choice(PARAPHRASES) if choose.random() < PARAPHRASE_SHARE else INSTRUCTION
            yield _batch(pixels, [captions[i] for i in rows], instruction, processor)


def _batch(
    pixels: torch.Tensor, captions: list[torch.Tensor], instruction: str, processor: InstructBlipProcessor
) -> Batch:
    image = [processor.tokenizer.convert_tokens_to_ids("<image>")] * processor.num_query_tokens
    asked = torch.tensor(image + processor.tokenizer(instruction).input_ids)
    labels = torch.nn.utils.rnn.pad_sequence(captions, batch_first=True, padding_value=-100)
    told = labels.clamp(min=0)  # id 0 is the padding token; padding comes last, so no real token sees it
    question = torch.tensor(processor.qformer_tokenizer(instruction).input_ids)
    return {
        "pixel_values": pixels,
        "input_ids": torch.cat([asked.expand(len(captions), -1), told], dim=1),
        "qformer_input_ids": question.expand(len(captions), -1),
        "labels": labels,
    }


def _shifted(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The pictures moved by up to `MARGIN` pixels, edges repeated; uint8 (batch, height, width, 3)."""
    side = pixels.shape[1]
    moved = np.empty_like(pixels)
    for row, picture in enumerate(pixels):
        dy, dx = rng.integers(-MARGIN, MARGIN + 1, 2)
        moved[row] = picture[np.clip(np.arange(side) + dy, 0, side - 1)][
            :, np.clip(np.arange(side) + dx, 0, side - 1)
        ]
    return moved
