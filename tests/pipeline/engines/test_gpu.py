from __future__ import annotations

import pytest
import torch

from tests.pipeline.engines.conftest import by_key

pytestmark = pytest.mark.gpu

NAMES = ["glm", "glm4", "instructblip-llama-v4", "instructblip-t5-v4"]


@pytest.mark.parametrize("name", NAMES)
def test_the_device_is_found_and_texts_are_those_of_the_cpu(bench, name):
    engine = bench.engine(name, device="auto")
    assert engine.adapter.device.type == engine.adapter.language.device.type == "cuda"
    found = by_key(engine.generate(bench.requests(name)))
    expected = by_key(bench.engine(name).generate(bench.requests(name)))
    # Kernels round differently, so a near tie may turn the other way in a row or two.
    assert sum(found[key].text == expected[key].text for key in expected) >= len(expected) - 2


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_runs(bench, name):
    results = list(bench.engine(name, device="cuda", dtype="bfloat16").generate(bench.requests(name)))
    assert all(result.text is not None for result in results)


def test_sampling_on_the_device_does_not_depend_on_the_batch(bench):
    options = {"device": "cuda", "generation": {"do_sample": True, "temperature": 5.0}}
    alone = by_key(bench.engine("glm", batch_size=1, **options).generate(bench.requests("glm")))
    together = by_key(bench.engine("glm", batch_size=8, **options).generate(bench.requests("glm")))
    assert sum(alone[key].text == together[key].text for key in alone) >= len(alone) - 2


def test_a_full_device_halves_the_batch_and_loses_nothing(bench):
    engine = bench.engine("glm", device="cuda", batch_size=16384)
    requests = bench.requests("glm", 16384)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    # Room for the model and small batches only, so that a real allocation fails.
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 64 * 2**20) / total)
    try:
        results = list(engine.generate(requests))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.size.now < 16384
    assert len(results) == 16384 and all(result.failure is None for result in results)
