from __future__ import annotations

from pathlib import Path

import pytest
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor
from torch._dynamo.utils import counters

from tests.training.configs import tiny_config
from tests.training.engine.running import cpu_accelerator, run_config
from training.engine.assembly import assemble
from training.engine.compiling import compile_blocks
from training.model import AsapModel, MomentumEncoder, build_model
from training.model.attention import Block

NO_SCORES = {"mgca": {"mode": "none"}}
"""Without the variants of the fusion's blocks that return attention scores: each costs seconds."""


def two_models(towers: str) -> tuple[AsapModel, AsapModel]:
    models = []
    for _ in range(2):
        torch.manual_seed(1)
        models.append(build_model(tiny_config(towers, loss=NO_SCORES)).train())
    return models[0], models[1]


def outputs_and_gradient(model: AsapModel, momentum: MomentumEncoder | None, seed: int) -> list[Tensor]:
    """Run what a step runs; the lengths of the texts depend on the seed."""
    torch.manual_seed(seed)
    short, long = LENGTHS[seed]
    image, text, other = (torch.randn(4, 3, 32, 32), *(torch.randint(3, 40, (4, n)) for n in (short, long)))
    output = model(image, text, other, other)
    model.zero_grad()
    (output.words.square().sum() + output.box.sum() + output.patch_embedding[..., 0].sum()).backward()
    gradient = model.towers.visual.conv1.weight.grad  # type: ignore[union-attr]
    assert isinstance(gradient, Tensor)
    keys = [] if momentum is None else [momentum(image, text, other, other).words]
    return [output.words, output.box, output.features.text, gradient, *keys]


LENGTHS = [(10, 20), (20, 12), (15, 15), (7, 31)]


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, expected, strict=True))


def test_compiled_blocks_take_texts_of_any_length_and_compute_the_same(towers: str) -> None:
    """With the backend that calls no compiler; what is traced anew does not depend on it."""
    torch._dynamo.reset()
    counters.clear()
    plain, model = two_models(towers)
    slow, momentum = MomentumEncoder(plain, 0.9), MomentumEncoder(model, 0.9)
    compile_blocks(model, backend="aot_eager")
    compile_blocks(momentum.model, backend="aot_eager")
    graphs = []
    for seed in range(len(LENGTHS)):
        expected = outputs_and_gradient(plain, slow, seed)
        assert_close(outputs_and_gradient(model, momentum, seed), expected)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] > 0 and len(set(graphs)) == 1


@pytest.mark.slow
def test_the_default_compiler_computes_the_same(towers: str) -> None:
    torch._dynamo.reset()
    plain, model = two_models(towers)
    compile_blocks(model)
    for seed in (0, 1):
        assert_close(outputs_and_gradient(model, None, seed), outputs_and_gradient(plain, None, seed))


def test_the_setting_compiles_model_and_momentum_and_keeps_the_names(towers: str, world: Path) -> None:
    runs = []
    for compiled in (True, False):
        config = run_config(towers, world, train={"compile": compiled})
        runs.append(assemble(config, cpu_accelerator(), 21))
    found = [{part: list(tensors) for part, tensors in run.tensors().items()} for run in runs]
    assert found[0] == found[1]
    for part in (runs[0].model, runs[0].momentum):
        blocks = [m for m in part.modules() if isinstance(m, Block | ResidualAttentionBlock)]
        assert len(blocks) == 2 + 2 + 4
        assert all(block._compiled_call_impl is not None for block in blocks)
