"""The plugin's logits are those of transformers, for both layouts of checkpoints on disk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config import ModelConfig
from pipeline.engines import Request
from pipeline.engines.instructblip import InstructBlipAdapter
from pipeline.engines.vllm_instructblip.prompt import CaptionPrompts
from tests.checkpoints import QUERIES
from tests.pipeline.engines.vllm_instructblip import vllm_side
from tests.pipeline.engines.vllm_instructblip.vllm_side import Ask

STEPS = 6
# Lengths differ, for the language model and for the Q-Former. The last spells the id that holds the picture's
# places where the checkpoint has no image token.
PROMPTS = (
    "Give the caption of this picture",
    "A yellow flag",
    "Name the words that were changed, and say in one or two English sentences where they differ.",
    "$5 and 30% {{ more }}",
    "",
    "A <unk> flag <unk>",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1600)]


def adapter(folder):
    config = ModelConfig(path=str(folder), kind="instructblip", device="cpu", dtype="float32")
    return InstructBlipAdapter(folder, config, torch.device("cpu"))


@torch.inference_mode()
def reference(model, asks, answers):
    """The logits of transformers over prompt and answer: float32 [tokens, vocabulary] for each request."""
    rows = []
    for ask in asks:
        row = model.encode(Request("k", ask.prompt))
        row.pixels = model.preprocess(Image.fromarray(ask.picture))
        rows.append(row)
    for row, answer in zip(rows, answers, strict=True):
        row.ids = row.ids + answer.ids[:-1]
    embeds, mask = model._inputs(rows)
    logits = model.language(inputs_embeds=embeds, attention_mask=mask).logits
    return [row[keep.bool()] for row, keep in zip(logits, mask, strict=True)]


@pytest.mark.parametrize("layout", ["v4", "v5"])
def test_logits_equal_those_of_transformers_in_one_batch_of_differing_sizes(vllm, folder, pictures, layout):
    model = adapter(folder(layout))
    asks = [Ask(prompt, picture) for prompt, picture in zip(PROMPTS, pictures, strict=True)]
    # With and without the tokenizer in vLLM: our engine gives and takes ids.
    answers, batches = vllm(vllm_side.answer, folder(layout), asks, STEPS, skip_tokenizer_init=layout == "v4")
    (batch,) = [batch for batch in batches if len(batch["pixel_values"]) > 1]
    assert len(batch["pixel_values"]) == len(asks)
    assert len(set(batch["qformer_input_ids"])) > 3, "instructions of one length only show no padding"

    worst = 0.0
    for ask, answer, expected in zip(asks, answers, reference(model, asks, answers), strict=True):
        row = model.encode(Request("k", ask.prompt))
        assert len(set(answer.prompt_ids[:QUERIES])) == 1
        assert answer.prompt_ids[QUERIES:] == row.ids, "the ids that the transformers engine feeds"
        last = len(answer.prompt_ids) - 1
        logits = np.concatenate([answer.prompt_logits, answer.logits])
        assert logits.shape == expected.shape
        worst = max(worst, float(np.abs(logits - expected.numpy()).max()))
        assert answer.ids == expected[last:].argmax(-1).tolist()
    print(f"{layout}: largest difference {worst:.2e}")
    assert worst < 1e-4
    assert expected.std() > 0.5, "logits this flat would agree by themselves"


def test_one_picture_with_two_instructions_has_two_results_with_the_caches_on(vllm, folder, pictures):
    asks = [Ask(PROMPTS[0], pictures[0]), Ask(PROMPTS[2], pictures[0]), Ask(PROMPTS[0], pictures[1])]
    turns = [[asks[0]], [asks[1]], [asks[2]], [asks[0]], [asks[1]]]
    answers, cache = vllm(vllm_side.answer_in_turn, folder("v5"), turns, STEPS)
    model = adapter(folder("v5"))
    for (ask,), (answer,) in zip(turns, answers, strict=True):
        (expected,) = reference(model, [ask], [answer])
        last = len(answer.prompt_ids) - 1
        assert np.abs(answer.logits - expected[last:].numpy()).max() < 1e-4
    # The warm-up asks as well, so hits are counted among the last two turns.
    assert cache["hits"] >= 2, cache
    first, second = answers[0][0], answers[1][0]
    assert np.abs(first.logits[0] - second.logits[0]).max() > 0.1


def test_the_instruction_alone_changes_what_the_language_model_sees(vllm, folder, pictures):
    """The same prompt ids with another text for the Q-Former: the features differ, by the cache's key too."""
    prompts = CaptionPrompts(folder("v5"))
    ids = prompts.encode(PROMPTS[0])[0]
    texts = [PROMPTS[0], PROMPTS[2], PROMPTS[0]]
    logits = vllm(vllm_side.first_logits, folder("v5"), ids, texts, pictures[0])
    assert np.abs(logits[0] - logits[1]).max() > 1e-2
    assert np.array_equal(logits[0], logits[2])
