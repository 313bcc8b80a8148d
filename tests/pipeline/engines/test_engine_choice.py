from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from pipeline.config import RunConfig, fingerprint_fields
from pipeline.engines import choice
from pipeline.engines.choice import Facts, choose, resolve_engine, resolve_job
from pipeline.engines.installed import Build, installed_build, known_architectures
from pipeline.errors import UsageError

SERVED = Facts(
    build=Build("cpu", "0.32.0"),
    device="cpu",
    kind="chat",
    architecture="GlmForCausalLM",
    encoder_decoder=None,
    known=frozenset({"GlmForCausalLM", "ChatGLMModel"}),
    num_beams=1,
)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "vLLM 0.32.0 serves GlmForCausalLM on cpu"),
        ({"build": Build("gpu", "0.32.0"), "device": "cuda"}, "serves GlmForCausalLM on cuda"),
        ({"architecture": "ChatGLMModel"}, "serves ChatGLMModel"),
        (
            {"kind": "instructblip", "architecture": "InstructBlipForConditionalGeneration"},
            "serves InstructBlipForConditionalGeneration on cpu with this project's plugin",
        ),
    ],
)
def test_vllm_is_chosen_where_it_can_serve_the_model(changes, reason):
    chosen = choose(replace(SERVED, **changes))
    assert chosen.engine == "vllm" and reason in chosen.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"build": None}, "vLLM is not installed"),
        ({"device": "cuda"}, "to run on cuda, and vLLM 0.32.0 is built for cpu"),
        ({"build": Build("gpu", "0.32.0")}, "to run on cpu, and vLLM 0.32.0 is built for cuda"),
        ({"device": "mps"}, "to run on mps"),
        ({"num_beams": 4}, "no beam search (num_beams: 4)"),
        ({"temperature": 5.0}, "temperature of at most 2 (temperature: 5)"),
        ({"kind": "instructblip", "repetition_penalty": 1.5}, "too (repetition_penalty: 1.5)"),
        (
            {"kind": "instructblip", "encoder_decoder": "t5"},
            "decoder-only language models, not t5",
        ),
        ({"architecture": "NobodysForCausalLM"}, "does not list NobodysForCausalLM"),
        ({"known": frozenset()}, "list of models of vLLM 0.32.0 could not be read"),
    ],
)
def test_transformers_is_chosen_where_it_cannot(changes, reason):
    chosen = choose(replace(SERVED, **changes))
    assert chosen.engine == "transformers" and reason in chosen.reason


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("glm", "vllm"),
        ("glm4", "vllm"),
        ("chatglm3", "vllm"),
        ("instructblip-llama-v4", "vllm"),
        ("instructblip-llama-v5", "vllm"),
        ("instructblip-t5-v4", "transformers"),
        ("instructblip-t5-v5", "transformers"),
    ],
)
def test_real_checkpoints_on_a_cpu_with_its_build_get_the_engine_that_runs_them(
    bench, monkeypatch, caplog, name, engine
):
    monkeypatch.setattr(choice, "installed_build", lambda: Build("cpu", "0.32.0"))
    with caplog.at_level(logging.INFO):
        resolved = resolve_engine(bench.config(name, engine="auto"), "the preset")
    assert resolved.engine == engine
    assert f"engine: auto is {engine} for the preset: " in caplog.text


def test_an_engine_that_is_named_is_left_alone(bench, caplog):
    config = bench.config("glm", engine="transformers")
    assert resolve_engine(config) is config and not caplog.text


def test_a_missing_model_is_named_before_anything_is_chosen(bench, tmp_path):
    with pytest.raises(UsageError, match=r"gone does not exist"):
        resolve_engine(bench.config("glm", engine="auto", path=str(tmp_path / "gone")))


def test_the_fingerprint_holds_the_chosen_engine_and_not_auto(bench):
    def fields(engine):
        run = RunConfig.model_validate(
            {
                "captions": {"model": "eye"},
                "explanations": {"model": "mouth"},
                "models": {
                    "eye": bench.config("instructblip-t5-v5", engine=engine),
                    "mouth": bench.config("glm", engine="transformers"),
                },
            }
        )
        return fingerprint_fields(resolve_job(run, "captions"), "captions")

    assert fields("auto") == fields("transformers")
    assert fields("auto")["engine"] == "transformers"


def test_choosing_loads_neither_torch_nor_vllm(bench):
    """A finished table is reported without a wait; torch alone takes seconds."""
    config = bench.config("glm", engine="auto").model_dump_json()
    code = (
        "import sys; from pipeline.config import ModelConfig; "
        "from pipeline.engines.choice import resolve_engine; "
        f"print(resolve_engine(ModelConfig.model_validate_json({config!r})).engine); "
        "print(sorted({'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    engine, loaded = done.stdout.splitlines()
    assert engine in ("vllm", "transformers") and loaded == "[]", done.stderr


@pytest.mark.slow
def test_the_architectures_read_from_the_source_are_those_of_vllms_registry():
    code = (
        "import json; from vllm.model_executor.models import registry as r; "
        "print(json.dumps([sorted(r._TEXT_GENERATION_MODELS | r._MULTIMODAL_MODELS | "
        "r._TRANSFORMERS_SUPPORTED_MODELS), sorted(r.ModelRegistry.get_supported_archs())]))"
    )
    env = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    generating, supported = json.loads(done.stdout.splitlines()[-1])
    assert known_architectures() == set(generating) <= set(supported)
    assert {"GlmForCausalLM", "Glm4ForCausalLM", "ChatGLMModel"} <= known_architectures()


def test_the_installed_build_is_found_without_importing_it():
    build = installed_build()
    assert build is not None and build.kind in ("cpu", "gpu") and build.version[0].isdigit()
