"""What cannot work says so, by name and with the remedy, and takes no other request with it."""

from __future__ import annotations

import shutil

import pytest
from safetensors.torch import load_file, save_file

from tests import checkpoints
from tests.pipeline.engines.vllm_instructblip import vllm_side
from tests.pipeline.engines.vllm_instructblip.vllm_side import Ask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1600)]


@pytest.fixture
def edited(folder, tmp_path):
    """Return a copy of a checkpoint after a change of its tensors."""

    def edit(change):
        copy = shutil.copytree(folder("v5"), tmp_path / "model")
        tensors = load_file(copy / "model.safetensors")
        change(tensors)
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
        return copy

    return edit


@pytest.mark.parametrize(
    "name",
    [
        "language_model.model.layers.1.self_attn.k_proj.weight",  # vLLM fuses it with two others
        "vision_model.encoder.layers.0.self_attn.qkv.bias",
        "qformer.encoder.layer.1.output_query.LayerNorm.weight",
    ],
)
def test_a_missing_tensor_is_named(vllm, edited, name):
    message = vllm(vllm_side.start, edited(lambda tensors: tensors.pop(name)))
    assert f"lack 1 tensors that config.json calls for, the first: {name};" in message


def test_an_unexpected_tensor_is_named(vllm, edited):
    name = "qformer.encoder.layer.1.crossattention.attention.query.bias"  # a layer without cross-attention
    changed = edited(lambda tensors: tensors.update({name: tensors["query_tokens"].clone()}))
    message = vllm(vllm_side.start, changed)
    assert f"hold a tensor {name} that config.json does not call for" in message


def test_tables_that_older_versions_wrote_are_passed_over(vllm, edited):
    def older(tensors):
        tensors["qformer.embeddings.position_ids"] = tensors["query_tokens"].long().clone()
        for layer in range(2):
            name = f"language_model.model.layers.{layer}.self_attn.rotary_emb.inv_freq"
            tensors[name] = tensors["query_tokens"].clone()

    assert vllm(vllm_side.start, edited(older)) == ""


@pytest.mark.parametrize("layout", ["v4", "v5"])
def test_flan_t5_is_refused_with_the_engine_to_use(vllm, tmp_path, layout):
    built = checkpoints.instructblip_t5(tmp_path / "model", layout)
    message = vllm(vllm_side.start, built)
    assert "type t5, an encoder-decoder" in message and "use engine: transformers" in message


def test_a_bad_request_is_refused_and_the_engine_goes_on(vllm, folder, pictures):
    bad = {
        "without an instruction": {"mm_processor_kwargs": None},
        "too long for the Q-Former": {"mm_processor_kwargs": {"qformer_text": "flag " * 63}},
        "two pictures": {"multi_modal_data": {"image": [pictures[0], pictures[1]]}},
    }
    errors, before, after = vllm(vllm_side.refusals, folder("v5"), Ask("A flag", pictures[0]), bad)
    assert 'mm_processor_kwargs={"qformer_text": <the instruction>}' in errors["without an instruction"]
    assert "has 65 tokens, but the Q-Former holds 64; shorten it" in errors["too long for the Q-Former"]
    assert "At most 1 image" in errors["two pictures"]
    assert before == after
