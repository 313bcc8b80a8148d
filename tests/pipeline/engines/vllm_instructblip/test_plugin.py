"""How vLLM gets to know the model: by name, in every process, without touching a device."""

from __future__ import annotations

import importlib.metadata

import pytest

from pipeline.engines import vllm_instructblip


def test_importing_the_plugin_imports_neither_torch_nor_vllm(python):
    code = "import sys, pipeline.engines.vllm_instructblip as p; print({'torch', 'vllm'} & set(sys.modules))"
    assert python(code) == "set()"


def test_vllm_finds_the_plugin_by_its_entry_point():
    points = importlib.metadata.entry_points(group="vllm.general_plugins")
    (ours,) = [point for point in points if point.value.startswith("pipeline.")]
    assert ours.load() is vllm_instructblip.register


@pytest.mark.slow
def test_registering_twice_loads_no_model_and_touches_no_device(python):
    code = """
import sys, torch
from pipeline.engines.vllm_instructblip import ARCHITECTURE, register
register(); first = dict(__import__("vllm").ModelRegistry.models)
register(); again = dict(__import__("vllm").ModelRegistry.models)
assert first == again and ARCHITECTURE in again, "re-entrant"
assert not any(name.startswith("pipeline.engines.vllm_instructblip.") for name in sys.modules), "lazy"
assert not torch.cuda.is_initialized()
print(again[ARCHITECTURE].module_name)
"""
    assert python(code) == "pipeline.engines.vllm_instructblip.model"
