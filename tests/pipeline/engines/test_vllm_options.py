"""What is asked of vLLM, what is refused before it starts, and what its refusals become."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.engines import vllm_options
from pipeline.engines.base import DoesNotFit, Request
from pipeline.engines.installed import Build
from pipeline.engines.sampling import row_seed
from pipeline.engines.vllm_errors import start_error
from pipeline.engines.vllm_options import (
    check_usage,
    engine_arguments,
    environment,
    rows_in_flight,
    stored_dtype,
)
from pipeline.errors import UsageError

CPU, GPU = Build("cpu", "0.32.0"), Build("gpu", "0.32.0")


@pytest.fixture
def build(monkeypatch):
    def pretend(build):
        monkeypatch.setattr(vllm_options, "installed_build", lambda: build)

    return pretend


def refusal(config):
    with pytest.raises(UsageError) as caught:
        check_usage(config)
    return str(caught.value)


def test_defaults_suit_the_device(bench):
    folder = bench.folder("glm")
    on_cpu = engine_arguments(bench.config("glm"), folder, CPU)
    on_gpu = engine_arguments(bench.config("glm"), folder, GPU)
    assert on_cpu["enforce_eager"] and on_cpu["kv_cache_memory_bytes"] == 2**30
    assert not on_gpu["enforce_eager"] and "kv_cache_memory_bytes" not in on_gpu
    assert on_gpu["gpu_memory_utilization"] == 0.9 and on_gpu["max_model_len"] == -1
    assert "max_num_seqs" not in on_gpu and "quantization" not in on_gpu
    assert on_cpu["generation_config"] == "vllm" and on_cpu["dtype"] == "float32"


def test_every_option_reaches_vllm(bench):
    options = {
        "tensor_parallel_size": 2,
        "gpu_memory_utilization": 0.5,
        "kv_cache_gib": 0.25,
        "max_model_len": 100,
        "quantization": "fp8",
        "enable_prefix_caching": False,
        "max_num_seqs": 7,
        "enforce_eager": False,
    }
    for name in ("glm", "instructblip-llama-v5"):
        config = bench.config(name, dtype="bfloat16", vllm=options | {"in_flight": 9})
        found = engine_arguments(config, bench.folder(name), CPU)
        assert {key: found[key] for key in options if key != "kv_cache_gib"} == {
            key: value for key, value in options.items() if key != "kv_cache_gib"
        }
        assert found["kv_cache_memory_bytes"] == 2**28 and found["dtype"] == "bfloat16"
        assert rows_in_flight(config, 7) == 9


@pytest.mark.slow
def test_vllm_knows_every_argument_by_that_name(bench):
    options = {"kv_cache_gib": 1, "quantization": "fp8", "max_num_seqs": 7}
    name = "instructblip-llama-v5"
    asked = engine_arguments(bench.config(name, vllm=options), bench.folder(name), CPU)
    code = (
        "import dataclasses, json; from vllm.engine.arg_utils import EngineArgs; "
        "print(json.dumps([field.name for field in dataclasses.fields(EngineArgs)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert asked.keys() <= set(json.loads(done.stdout.splitlines()[-1])), done.stderr


def test_a_few_rows_wait_behind_those_that_are_computed(bench):
    assert rows_in_flight(bench.config("glm"), 256) == 320
    assert rows_in_flight(bench.config("glm"), 1) == 2


def test_prompts_share_a_cache_only_where_their_beginnings_are_the_same(bench):
    chat = engine_arguments(bench.config("glm"), bench.folder("glm"), CPU)
    name = "instructblip-llama-v5"
    captions = engine_arguments(bench.config(name), bench.folder(name), CPU)
    assert chat["enable_prefix_caching"] and not captions["enable_prefix_caching"]
    assert captions["limit_mm_per_prompt"] == {"image": 1} and "limit_mm_per_prompt" not in chat


def test_auto_dtype_is_the_stored_one_as_in_transformers(bench, tmp_path):
    assert stored_dtype(bench.folder("glm")) == stored_dtype(bench.folder("glm4")) == "float32"
    assert stored_dtype(bench.folder("chatglm3")) == "float16"
    # Neither name in config.json: the tensors say it.
    tensors = load_file(bench.folder("glm") / "model.safetensors")
    save_file(
        {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}, tmp_path / "model.safetensors"
    )
    content = json.loads((bench.folder("glm") / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"torch_dtype": None}))
    assert stored_dtype(tmp_path) == "bfloat16"


def test_the_process_reports_nothing_and_asks_no_network(bench, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "40")
    env = environment(bench.config("glm"), CPU)
    assert env["VLLM_NO_USAGE_STATS"] == env["DO_NOT_TRACK"] == env["HF_HUB_OFFLINE"] == "1"
    assert env["VLLM_LOGGING_LEVEL"] == "WARNING" and "VLLM_CPU_KVCACHE_SPACE" not in env
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert "VLLM_CPU_OMP_THREADS_BIND" not in os.environ


@pytest.mark.parametrize(
    ("device", "parts", "visible", "expected"),
    [
        ("auto", 1, None, None),
        ("cuda:2", 1, None, "2"),
        ("cuda:1", 2, "4,5,6", "5,6"),
        ("cuda", 2, "3,4", "3,4"),
    ],
)
def test_a_numbered_device_is_the_only_one_that_vllm_sees(
    bench, monkeypatch, device, parts, visible, expected
):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    config = bench.config("glm", device=device, vllm={"tensor_parallel_size": parts})
    assert environment(config, GPU).get("CUDA_VISIBLE_DEVICES") == expected


def test_beam_search_points_to_transformers(bench, build):
    build(CPU)
    message = refusal(bench.config("glm", generation={"num_beams": 3}))
    assert "num_beams: 3" in message and "engine: transformers" in message


def test_a_repetition_penalty_is_refused_for_captions_only(bench, build):
    build(CPU)
    penalty = {"repetition_penalty": 1.5}
    message = refusal(bench.config("instructblip-llama-v5", generation=penalty))
    assert "repetition_penalty: 1.5: for captions" in message and "engine: transformers" in message
    assert check_usage(bench.config("glm", generation=penalty)) == CPU


@pytest.mark.parametrize("temperature", [0.001, 5.0])
def test_a_temperature_that_vllm_does_not_take_is_refused(bench, build, temperature):
    build(CPU)
    sampling = {"do_sample": True, "temperature": temperature}
    message = refusal(bench.config("glm", generation=sampling))
    assert f"temperature: {temperature:g}: vLLM takes 0.01 to 2" in message


def test_without_vllm_the_remedies_are_named(bench, build):
    build(None)
    message = refusal(bench.config("glm"))
    assert "not installed" in message and "make setup" in message and "engine: transformers" in message


@pytest.mark.parametrize(
    ("device", "installed", "remedy"),
    [
        ("cuda:1", CPU, "built for cpu; set device: auto, run `make setup ENGINE=gpu`"),
        ("cpu", GPU, "built for cuda; set device: auto, run `make setup ENGINE=cpu`"),
        ("mps", CPU, "built for cpu; set device: auto, or set engine: transformers"),
    ],
)
def test_a_build_for_another_device_is_refused(bench, build, device, installed, remedy):
    build(installed)
    assert remedy in refusal(bench.config("glm", device=device))


def test_more_parts_than_memory_nodes_or_devices_are_refused(bench, build, monkeypatch):
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    many = {"tensor_parallel_size": 64}
    build(CPU)
    assert "vllm.tensor_parallel_size: 64" in refusal(bench.config("glm", vllm=many))
    build(GPU)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = bench.config("glm", device="cuda:1", vllm={"tensor_parallel_size": 2})
    assert "tensor_parallel_size: 2 from device: cuda:1 on, but 2 CUDA device(s)" in refusal(config)
    check_usage(bench.config("glm", device="auto", vllm={"tensor_parallel_size": 2}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device is here" in refusal(bench.config("glm", device="auto"))


@pytest.mark.parametrize(
    ("message", "kind", "remedy"),
    [
        (
            "ValueError: To serve at least one request (0.5 GiB KV cache is needed, which is larger than the "
            "available KV cache memory (0.1 GiB).",
            UsageError,
            "attention cache is too small: raise vllm.kv_cache_gib (0.1), or lower vllm.max_model_len",
        ),
        (
            "ValueError: Free memory on device (3/24 GiB) is less than desired GPU memory utilization",
            DoesNotFit,
            "lower vllm.gpu_memory_utilization (0.9)",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory.",
            DoesNotFit,
            "tensor_parallel_size or a larger device",
        ),
        (
            "ValidationError: 1 error for ModelConfig\n  Value error, Model architectures ['Nope'] are not "
            "supported for now. Supported architectures: dict_keys(['A', 'B']) [type=value_error, a=1]",
            UsageError,
            "ValueError: Model architectures ['Nope'] are not supported for now. This vLLM does not know the "
            "model; set engine: transformers",
        ),
        ("RuntimeError: something new", UsageError, "something new. Its log is shown with -v"),
        (
            "ValidationError: 1 error\n  Value error, Unknown quantization method: nf5 [type=a, b=c]",
            UsageError,
            "Set a vllm.quantization other than 'nf5'",
        ),
        (
            "ValueError: Total number of attention heads (32) must be divisible by tensor parallel size (3).",
            UsageError,
            "Set another vllm.tensor_parallel_size than 1",
        ),
    ],
)
def test_a_failed_start_becomes_one_message_with_the_option_to_change(bench, message, kind, remedy):
    config = bench.config("glm", vllm={"kv_cache_gib": 0.1, "quantization": "nf5"})
    error = start_error(message, [], config, bench.folder("glm"))
    assert type(error) is kind
    assert remedy in str(error) and str(bench.folder("glm")) in str(error) and "\n" not in str(error)


def test_the_cause_is_found_in_a_workers_log_where_the_message_has_none(bench):
    message = "Exception: WorkerProc initialization failed due to an exception in a background process."
    log = [
        "(Worker pid=1) ERROR 11-24 [multiproc.py:9] ValueError: No available memory for the cache blocks.",
        "(Worker pid=1) ERROR Exception: initialization failed due to an exception in a background process",
    ]
    error = start_error(message, log, bench.config("glm"), bench.folder("glm"))
    assert "ValueError: No available memory for the cache blocks. The attention cache is too small" in str(
        error
    )
    assert "set vllm.kv_cache_gib" in str(error)


def test_the_seed_of_a_row_fits_63_bits_and_follows_from_run_and_key():
    seeds = {row_seed(Request(key, "?", seed=seed)) for seed in range(20) for key in ("a", "b", "key-1")}
    assert len(seeds) == 60 and all(0 <= seed < 2**63 for seed in seeds)
    assert row_seed(Request("a", "?", seed=7)) == row_seed(Request("a", "!", seed=7))
