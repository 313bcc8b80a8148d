from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from pipeline.config import ModelConfig
from pipeline.engines.checkpoint import checkpoint_folder
from pipeline.engines.transformers import TransformersEngine
from pipeline.errors import UsageError


@pytest.fixture
def copy(bench, tmp_path):
    """Copy a checkpoint to a folder that a test may spoil."""

    def make(name):
        return shutil.copytree(bench.folder(name), tmp_path / name)

    return make


def config(folder, kind="chat", **changes):
    return ModelConfig.model_validate({"path": str(folder), "kind": kind, "device": "cpu"} | changes)


def refusal(folder, kind="chat", **changes):
    with pytest.raises(UsageError) as caught:
        TransformersEngine(config(folder, kind, **changes))
    return str(caught.value)


def test_a_missing_folder_names_both_remedies(tmp_path):
    message = refusal(tmp_path / "models" / "glm-4-9b-chat")
    assert str(tmp_path / "models" / "glm-4-9b-chat") in message
    assert "hf download" in message and "'models/glm-4-9b-chat' is meant as a hub id" in message
    assert "revision: <commit hash>" in message


def test_a_hub_id_that_cannot_be_had_says_so(tmp_path):
    message = refusal("nobody/nothing", revision="0" * 40)
    assert "nobody/nothing at revision 0000" in message and "Check the id" in message


def test_a_pinned_hub_id_is_found_in_the_hubs_cache(bench, tmp_path, monkeypatch):
    commit = "a" * 40
    snapshot = tmp_path / "models--org--glm" / "snapshots" / commit
    shutil.copytree(bench.folder("glm"), snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert checkpoint_folder(config("org/glm", revision=commit)) == snapshot


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named_with_its_folder(copy, name):
    folder = copy("glm")
    (folder / name).unlink()
    message = refusal(folder)
    assert name in message and str(folder) in message


@pytest.mark.parametrize("name", ["preprocessor_config.json", "qformer_tokenizer/tokenizer.json"])
def test_instructblip_needs_its_image_processor_and_its_second_tokenizer(copy, name):
    folder = copy("instructblip-llama-v4")
    (folder / name).unlink()
    assert name in refusal(folder, "instructblip")


def test_a_missing_part_of_several_is_named(copy):
    folder = copy("glm4")
    (folder / "model-00002-of-00004.safetensors").unlink()
    assert "lacks model-00002-of-00004.safetensors of the 4 weight files" in refusal(folder)


def test_a_cut_download_is_found_before_loading(copy):
    path = copy("glm") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    message = refusal(path.parent)
    assert f"{path} is damaged" in message and "by its header" in message


@pytest.mark.parametrize("content", [b"", b"\xff" * 50, b"\x05\0\0\0\0\0\0\0[1,2]", b"\x02\0\0\0\0\0\0\0{x"])
def test_a_damaged_header_is_found(copy, content):
    path = copy("glm") / "model.safetensors"
    path.write_bytes(content)
    assert f"{path} is damaged" in refusal(path.parent)


def test_a_git_lfs_pointer_is_recognised(copy):
    path = copy("glm") / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 18000000000\n")
    assert "Git LFS pointer" in refusal(path.parent)


def test_bin_weights_alone_are_refused(copy):
    folder = copy("glm")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refusal(folder)
    assert "pytorch_model.bin" in message and "Only safetensors" in message


def test_a_missing_tensor_is_an_error_and_not_random_numbers(copy):
    path = copy("glm") / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    assert "lack 1 tensors" in (message := refusal(path.parent)) and "layers.1.mlp.down_proj" in message


def test_tensors_of_another_size_are_an_error(copy):
    folder = copy("glm")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"intermediate_size": 32}))
    assert "cannot be loaded" in refusal(folder)


def test_a_model_of_the_other_kind_is_refused(bench):
    message = refusal(bench.folder("glm"), "instructblip")
    assert "model_type 'glm'" in message and "kind: instructblip" in message
    assert "kind: chat" in refusal(bench.folder("instructblip-t5-v5"))


def test_the_old_chatglm_format_is_for_vllm_and_transformers_points_there(bench):
    folder = bench.folder("chatglm3")
    message = refusal(folder, trust_remote_code=True)
    assert "Use engine: vllm" in message and "glm-4-9b-chat" in message
    assert checkpoint_folder(config(folder, engine="vllm")) == folder


def test_a_base_model_without_chat_template_is_refused(copy):
    folder = copy("glm4")
    (folder / "chat_template.jinja").unlink()
    assert "has no chat template" in refusal(folder)


def test_damaged_json_is_named(copy):
    folder = copy("glm")
    (folder / "config.json").write_text("{")
    assert f"{folder / 'config.json'} is not JSON" in refusal(folder)
    shutil.copy(folder / "tokenizer_config.json", folder / "config.json")
    (folder / "tokenizer.json").write_text("{}")
    assert "the tokenizer in" in refusal(folder)


def test_code_in_a_checkpoint_is_not_run_unless_asked_for(copy, tmp_path):
    folder = copy("glm")
    flag = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(flag)!r}, 'w').close()\nclass Evil: pass\n")
    content = json.loads((folder / "config.json").read_text())
    own = {"auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(content | own | {"model_type": "evil"}))
    assert "trust_remote_code" in refusal(folder)
    assert not flag.exists()
