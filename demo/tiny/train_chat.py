"""Training of the tiny GLM."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from demo.tiny.chat import END, ChatSize, build_chat
from demo.tiny.data_chat import chat_vocabulary, conversations
from demo.tiny.training import Recipe, save_checkpoint, train

RECIPE = Recipe(steps=1600, batch=48)
PROMPT_WEIGHT = 0.2  # predicting the prompt too teaches copying early: a reversed text repeats the original
Batch = tuple[torch.Tensor, torch.Tensor]


def train_chat(
    folder: Path, recipe: Recipe = RECIPE, size: ChatSize | None = None, *, line: int | None = 0
) -> list[float]:
    """Train the tiny GLM from random weights and save it.

    Args:
        folder: Where the checkpoint goes; replaced in one step at the end.
        recipe: Steps, rates, seed.
        size: Layer sizes; the shipped ones when None.
        line: Terminal line of the progress bar; None for no bar.

    Returns:
        The loss of every step.
    """
    torch.manual_seed(recipe.seed)
    model, tokenizer = build_chat(chat_vocabulary(), size)

    def loss_of(batch: Batch) -> torch.Tensor:
        ids, weights = batch
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        each = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        return (each * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()

    losses = train(model, recipe, batches(tokenizer, recipe), loss_of, label="tiny GLM", line=line)
    save_checkpoint(model, tokenizer, folder)
    return losses


def batches(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, pool: int = 8) -> Iterator[Batch]:
    """Right-padded batches of token ids and loss weights, both of shape (batch, length).

    Rows of similar length share a batch: `pool` batches are drawn at a time and sorted.
    """
    rng = random.Random(recipe.seed)
    stream = conversations(recipe.seed)
    while True:
        rows = [_encode(tokenizer, c.prompt, c.answer) for c in itertools.islice(stream, pool * recipe.batch)]
        rows.sort(key=lambda row: len(row[0]))
        groups = [rows[i : i + recipe.batch] for i in range(0, len(rows), recipe.batch)]
        rng.shuffle(groups)
        for group in groups:
            yield _pad([ids for ids, _ in group], tokenizer.pad_token_id), _pad([w for _, w in group], 0.0)


def _encode(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> tuple[list[int], list[float]]:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    asked = tokenizer(text, add_special_tokens=False).input_ids
    told = tokenizer(answer + END, add_special_tokens=False).input_ids
    return asked + told, [PROMPT_WEIGHT] * len(asked) + [1.0] * len(told)


def _pad(rows: list, value: float) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=value
    )
