"""What a few optimizer steps compute, to compare ways of cutting the same effective batches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor

from tests.training.configs import merged
from tests.training.engine.running import StoppedLoop, cpu_accelerator
from training.config.sections import Config
from training.data.batch import Batch
from training.data.loader import train_loader
from training.data.rows import Rows
from training.distributed import rank, world_size
from training.engine.assembly import Run, assemble, open_rows
from training.engine.loop import Loop
from training.engine.resume import resolve_resume
from training.errors import Interrupted

RELEASED: dict[str, Any] = {
    "dgm": {"box_on_negatives": True},
    "lma": {"weight": 0.1, "queue": True, "explanation_anchor": "image", "ied": 0.1},
    "mgca": {"mode": "supervise"},
    "pmm": {"mode": "border_bce"},
}
# Weights are raised so that an error of a small term shows in the gradient.
CASES: dict[str, dict[str, Any]] = {
    "default": {"mgca": {"weight": 1.0}, "pmm": {"weight": 1.0}},
    "released": RELEASED,
    "bias, random negatives": {
        "mgca": {"mode": "bias", "weight": 1.0},
        "pmm": {"hnp": False, "weight": 1.0},
    },
    "no texts": {"lma": {"text": "none"}},
    "hidden annotations": {"mgca": {"guidance": "predicted", "weight": 1.0}, "lma": {"queue": True}},
}


def variant(config: Config, case: str, accumulate: int = 1) -> Config:
    """Return the configuration with a case's losses.

    AdamW's epsilon is above the rounding errors of the gradient: where the exact gradient is 0, such as at
    the biases of keys, AdamW would otherwise turn the sign of a rounding error into a whole step.
    """
    tree = config.model_dump()
    hidden = 0.4 if case == "hidden annotations" else 0.0
    changes = {
        "loss": CASES[case],
        "data": {"unlabelled_share": hidden},
        "optim": {"eps": 1e-4},
        "train": {"accumulate": accumulate},
    }
    return Config.model_validate(merged(tree, changes))


def epoch_of(run: Run, rows: Rows) -> list[list[Batch]]:
    """Return this process's micro-batches of each step of the first epoch."""
    config = run.config
    loader = train_loader(rows, run.tokenizer, config, epoch=0, world=world_size(), rank=rank())
    batches = list(loader)
    size = config.train.accumulate
    return [batches[first : first + size] for first in range(0, len(batches), size)]


def trace(config: Config, accelerator: Accelerator, folder: Path) -> dict[str, Tensor]:
    """Train an epoch and return gradients, terms, queues and weights by name.

    The gradients are those of the first step and of the last, whose effective batch is smaller and whose
    queues hold the rows of the steps before.
    """
    rows = open_rows(config, ("train",), folder, accelerator)
    run = assemble(config, accelerator, len(rows))
    steps = epoch_of(run, rows)
    found: dict[str, Tensor] = {}
    for number, micro in enumerate(steps):
        if number in (0, len(steps) - 1):
            run.stepper.backward(micro, number, 0.4)
            for name, parameter in run.model.named_parameters():
                assert parameter.grad is not None, name
                found[f"gradient {number}/{name}"] = parameter.grad.clone()
            run.optimizer.zero_grad(set_to_none=True)
        result = run.stepper.run(micro, number, 0.4)
        named = {**result.terms, "total": result.total, "norm": result.grad_norm, "rows": result.rows}
        found |= {f"terms {number}/{name}": torch.tensor(float(value)) for name, value in named.items()}
        found |= {f"queues {number}/{k}": v.clone() for k, v in run.queues.state_dict().items()}
    for part, module in (("weights", run.model), ("momentum", run.momentum)):
        found |= {f"{part}/{name}": value.clone() for name, value in module.state_dict().items()}
    return found


def trace_in_process(rank: int, folder: Path, configs: dict[str, Config]) -> None:
    """Trace every configuration in one of two processes; rank 0 writes what it found."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", ACCELERATE_USE_CPU="true")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    accelerator = cpu_accelerator()
    assert accelerator.num_processes == 2
    for name, config in configs.items():
        found = trace(config, accelerator, folder)
        if rank == 0:
            save_file(
                {key: value.contiguous() for key, value in found.items()}, folder / f"{name}.safetensors"
            )
    stop_and_go_on(rank, folder / "run", configs["default"], accelerator)


def stop_and_go_on(rank: int, run_dir: Path, config: Config, accelerator: Accelerator) -> None:
    """Stop a run after its second step by a signal to one process only, then train it to its end."""
    loop = StoppedLoop(one_epoch(config), run_dir, accelerator)
    loop.stop_at = 2 if rank == 1 else 0
    with pytest.raises(Interrupted, match="after optimizer step 2 of 3"):
        loop.train()
    checkpoint = resolve_resume(run_dir, "auto")
    assert checkpoint is not None and checkpoint.name == "step-00000002"
    Loop(one_epoch(config), run_dir, accelerator, checkpoint).train()


def one_epoch(config: Config) -> Config:
    """Return the configuration with one epoch."""
    return config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})})


def largest_difference(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, float]:
    """Return the largest difference per group of tensors, relative to a tensor's largest entry if above 1."""
    assert mine.keys() == theirs.keys()
    worst: dict[str, float] = {}
    for name, value in mine.items():
        if not value.is_floating_point():
            assert torch.equal(value, theirs[name]), name
            continue
        scale = max(1.0, value.abs().max().item())
        difference = (value - theirs[name]).abs().max().item() / scale
        group = name.partition("/")[0]
        worst[group] = max(worst.get(group, 0.0), difference)
    return worst
