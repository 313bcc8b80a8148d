"""What a request consists of: the ids that the transformers engine feeds, and what is refused beforehand."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from pipeline.config import ModelConfig
from pipeline.engines import Failure, Request
from pipeline.engines.instructblip import InstructBlipAdapter
from pipeline.engines.vllm_instructblip.prompt import CaptionPrompts, caption_request
from pipeline.errors import UsageError
from tests import checkpoints

PROMPTS = (
    "Give the caption of this picture",
    "$5 and 30% {{ more }}",
    "",
    "A <image> </s> flag",
    "Ünïcode ☂",
)


def adapter(folder, **generation):
    config = ModelConfig.model_validate(
        {"path": str(folder), "kind": "instructblip", "device": "cpu", "generation": generation}
    )
    return InstructBlipAdapter(folder, config, torch.device("cpu"))


@pytest.mark.parametrize("layout", ["v4", "v5"])
def test_ids_and_limits_are_those_of_the_transformers_engine(folder, layout):
    prompts, reference = CaptionPrompts(folder(layout)), adapter(folder(layout))
    for prompt in PROMPTS:
        row = reference.encode(Request("k", prompt))
        assert prompts.encode(prompt) == (row.ids, row.tokens_in)
        assert prompts.qformer_tokens(prompt) == len(row.qformer_ids)
    assert (prompts.queries, prompts.context) == (reference.queries, reference.context)
    assert prompts.qformer_context == reference.qformer_context


def test_the_declared_start_token_replaces_the_wrong_one(folder):
    assert CaptionPrompts(folder("v4")).encode("A flag")[0][0] == 2
    assert CaptionPrompts(folder("v5")).encode("A flag")[0][0] == 1


@pytest.mark.parametrize("prompt", ["flag " * 400, "A flag " + "x" * 70])
def test_a_long_prompt_is_refused_in_the_words_of_the_transformers_engine(folder, prompt):
    expected = adapter(folder("v5"), max_new_tokens=12).encode(Request("k", prompt))
    assert isinstance(expected, Failure) and expected.error_class == "prompt_too_long"
    assert CaptionPrompts(folder("v5")).refusal(prompt, 12) == expected


def test_a_prompt_that_just_fits_is_not_refused(folder):
    prompts = CaptionPrompts(folder("v5"))
    tokens = prompts.encode("A flag")[1]
    assert prompts.refusal("A flag", prompts.context - tokens) is None
    assert prompts.refusal("A flag", prompts.context - tokens + 1) is not None


def test_a_request_holds_the_text_ids_the_picture_and_the_instruction(folder):
    prompts, image = CaptionPrompts(folder("v5")), Image.new("RGB", (30, 20))
    assert caption_request(prompts, "A flag", image) == {
        "prompt_token_ids": prompts.encode("A flag")[0],
        "multi_modal_data": {"image": image},
        "mm_processor_kwargs": {"qformer_text": "A flag"},
    }


def test_callers_may_change_the_ids_they_were_given(folder):
    prompts = CaptionPrompts(folder("v5"))
    ids = prompts.encode("A flag")[0]
    prompts.encode("A flag")[0].clear()
    assert prompts.encode("A flag")[0] == ids


def test_a_token_outside_the_embedding_table_is_named(tmp_path):
    built = checkpoints.instructblip_llama(tmp_path / "model", "v5")
    config = json.loads((built / "config.json").read_text())
    config["text_config"]["vocab_size"] -= 1  # the last token is <image>
    (built / "config.json").write_text(json.dumps(config))
    prompts = CaptionPrompts(built)
    with pytest.raises(ValueError, match="'<image>' has id 544, .* below 544"):
        prompts.encode("A <image> flag")
    assert prompts.encode("A flag")


@pytest.mark.parametrize("layout", ["v4", "v5"])
def test_flan_t5_is_refused_with_the_engine_to_use(tmp_path, layout):
    built = checkpoints.instructblip_t5(tmp_path / "model", layout)
    with pytest.raises(UsageError, match="type t5, an encoder-decoder.* use engine: transformers"):
        CaptionPrompts(built)


def test_a_damaged_tokenizer_is_named(tmp_path):
    built = checkpoints.instructblip_llama(tmp_path / "model", "v5")
    (built / "qformer_tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(UsageError, match="the Q-Former's tokenizer in .*qformer_tokenizer cannot be loaded"):
        CaptionPrompts(built)
