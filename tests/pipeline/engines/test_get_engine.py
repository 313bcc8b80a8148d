from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading

import pytest
import torch

from pipeline.engines import close_engines, get_engine, load_count, loading
from pipeline.engines.base import DoesNotFit
from pipeline.errors import UsageError


@pytest.fixture(autouse=True)
def _closed():
    close_engines()
    yield
    close_engines()


def test_a_model_is_loaded_once_even_by_threads_that_ask_at_once(bench, caplog):
    config = bench.config("glm")
    before, found = load_count(), []
    with caplog.at_level(logging.INFO):
        threads = [threading.Thread(target=lambda: found.append(get_engine(config))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert load_count() == before + 1
    assert len(found) == 6 and len(set(map(id, found))) == 1
    assert caplog.text.count("loading model") == 1 and "GlmForCausalLM on cpu, float32" in caplog.text


def test_an_equal_configuration_shares_and_another_does_not(bench):
    before = load_count()
    assert get_engine(bench.config("glm")) is get_engine(bench.config("glm"))
    assert get_engine(bench.config("glm", batch_size=2)) is not get_engine(bench.config("glm"))
    assert load_count() == before + 2


def test_after_closing_the_model_is_loaded_anew(bench):
    first = get_engine(bench.config("glm"))
    close_engines()
    second = get_engine(bench.config("glm"))
    assert second is not first
    assert [result.key for result in second.generate(bench.requests("glm", 1))] == ["key-0"]


@pytest.mark.parametrize("broken", [0, 1])
def test_a_model_that_cannot_be_closed_keeps_no_other_one_open(bench, broken, caplog):
    engines = [get_engine(bench.config("glm")), get_engine(bench.config("glm", batch_size=2))]
    del engines[broken].adapter  # its own close fails at this
    with pytest.raises(AttributeError, match="adapter"):
        close_engines()
    assert not any(hasattr(engine, "adapter") for engine in engines)
    assert get_engine(bench.config("glm")) not in engines


def test_a_failed_load_is_not_remembered(bench, tmp_path):
    config = bench.config("glm", path=str(tmp_path / "later"))
    with pytest.raises(UsageError, match="does not exist"):
        get_engine(config)
    (tmp_path / "later").symlink_to(bench.folder("glm"))
    assert get_engine(config) is get_engine(config)


def test_a_model_without_room_beside_another_takes_its_place(bench, monkeypatch, caplog):
    first = get_engine(bench.config("glm"))
    load = loading.transformers.Glm4ForCausalLM.from_pretrained

    def with_room_for_one(*args, **kwargs):
        if hasattr(first, "adapter"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 108.00 MiB")
        return load(*args, **kwargs)

    monkeypatch.setattr(loading.transformers.AutoModelForCausalLM, "from_pretrained", with_room_for_one)
    with caplog.at_level(logging.INFO):
        second = get_engine(bench.config("glm4"))
    assert "no room beside the 1 models loaded before" in caplog.text
    assert len(list(second.generate(bench.requests("glm4", 3)))) == 3


def test_a_model_that_fits_nowhere_says_so(bench, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 108.00 MiB")

    monkeypatch.setattr(loading.transformers.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(DoesNotFit, match="does not fit the memory of cpu: .* Free the device, or use dtype"):
        get_engine(bench.config("glm"))


def test_auto_shares_the_engine_it_chooses(bench):
    beams = {"num_beams": 2}
    chosen = get_engine(bench.config("glm", engine="auto", generation=beams))
    assert chosen is get_engine(bench.config("glm", generation=beams))


def test_a_device_that_is_not_here_is_refused(bench):
    with pytest.raises(UsageError, match="device: cuda:7 is not here .*set device: auto or cpu"):
        get_engine(bench.config("glm", device="cuda:7"))


def test_importing_the_engines_turns_the_hubs_telemetry_off():
    code = "import pipeline.engines, huggingface_hub.constants as c; print(c.HF_HUB_DISABLE_TELEMETRY)"
    inherited = {key: value for key, value in os.environ.items() if key != "HF_HUB_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", code], env=inherited, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
