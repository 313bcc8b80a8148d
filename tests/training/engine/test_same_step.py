from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.training.engine.exact import CASES, largest_difference, one_epoch, trace, trace_in_process, variant
from tests.training.engine.running import cpu_accelerator, last_json, last_tensors, run_config
from tests.training.engine.two import run_twice
from training.config.sections import Config
from training.engine.checkpoint import checkpoints
from training.engine.loop import Loop
from training.engine.objective import weights

# In float32 a sum over rows in another order differs by some 1e-6 of the terms, which reach 10.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def base(towers: str, world: Path) -> Config:
    return run_config(towers, world)


@pytest.fixture(scope="module")
def single(base: Config, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What one process computes without accumulation, by case."""
    folder = tmp_path_factory.mktemp("single")
    return {case: trace(variant(base, case), cpu_accelerator(), folder) for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_every_term_takes_part_and_the_last_batch_is_smaller(
    base: Config, single: dict[str, dict[str, Tensor]], case: str
) -> None:
    found = single[case]
    assert [found[f"terms {step}/rows"].item() for step in range(3)] == [8, 8, 5]
    for term in weights(variant(base, case)):
        assert any(found[f"terms {step}/{term}"] > 0 for step in (0, 2)), term
    assert found["queues 2/text.filled"].item() == 16


@pytest.mark.parametrize("case", CASES)
def test_micro_batches_change_nothing(
    base: Config, single: dict[str, dict[str, Tensor]], tmp_path: Path, case: str
) -> None:
    cut = trace(variant(base, case, accumulate=3), cpu_accelerator(), tmp_path)
    worst = largest_difference(single[case], cut)
    assert max(worst.values()) < TOLERANCE, worst


@pytest.mark.slow
def test_two_processes_change_nothing(
    base: Config, single: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    configs = {case: variant(base, case) for case in CASES}
    configs["default in four"] = variant(base, "default", accumulate=2)
    run_twice(trace_in_process, tmp_path, configs)
    worst = {}
    for name in configs:
        found = load_file(tmp_path / f"{name}.safetensors")
        worst[name] = max(largest_difference(single[name.removesuffix(" in four")], found).values())
    assert max(worst.values()) < TOLERANCE, worst

    whole = Loop(one_epoch(configs["default"]), tmp_path / "single", cpu_accelerator())
    metrics = whole.train()
    mine, theirs = last_tensors(tmp_path / "single"), last_tensors(tmp_path / "run")
    streams = [name for name in mine if name.startswith("rng")]
    for tensors in (mine, theirs):
        for name in streams:
            del tensors[name]
    difference = largest_difference(mine, theirs)
    # AdamW's first moments are gradients, which reach 50 here.
    assert max(difference.values()) < TOLERANCE, difference
    assert last_json(tmp_path / "run", "metrics") == pytest.approx(metrics, abs=1e-4)
    names = {path.name for path in checkpoints(tmp_path / "run")[-1].iterdir()}
    assert {"rng-rank0.safetensors", "rng-rank1.safetensors"} <= names


def test_recomputed_activations_change_nothing(
    base: Config, single: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    config = variant(base, "default")
    model = config.model.model_copy(update={"checkpoint_blocks": True})
    found = trace(config.model_copy(update={"model": model}), cpu_accelerator(), tmp_path)
    worst = largest_difference(single["default"], found)
    assert max(worst.values()) < TOLERANCE, worst


def test_another_batch_is_another_step(single: dict[str, dict[str, Tensor]]) -> None:
    """The comparison above can tell steps apart."""
    found = single["default"]
    name = "fusion.collect_image"
    assert not torch.allclose(found[f"gradient 0/{name}"], found[f"gradient 2/{name}"], atol=TOLERANCE)
