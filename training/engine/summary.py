"""What a run will be, before it starts: parameters, steps, memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from training.config.sections import Config
from training.model import AsapModel


@dataclass(frozen=True)
class Summary:
    """The figures of ``--dry-run``.

    Attributes:
        parameters: Per part, in numbers of parameters.
        trained: Parameters with a gradient.
        rows: Training rows.
        steps_per_epoch: Optimizer steps of an epoch.
        steps: Optimizer steps of the run.
        micro_batch: Most rows of one forward pass on one process.
        state_bytes: Weights, gradients, AdamW's two moments, momentum encoder and queues, per process;
            slices of them under FSDP, and DDP's copy of the gradients.
        activation_bytes: Rough estimate of what one micro-batch keeps for the backward pass.
    """

    parameters: dict[str, int]
    trained: int
    rows: int
    steps_per_epoch: int
    steps: int
    micro_batch: int
    state_bytes: int
    activation_bytes: int

    def lines(self) -> list[str]:
        """Return the figures as lines for people."""
        parts = ", ".join(f"{name} {_count(n)}" for name, n in self.parameters.items())
        return [
            f"parameters: {_count(sum(self.parameters.values()))} ({parts}); {_count(self.trained)} trained",
            f"rows: {self.rows:,}; {self.steps_per_epoch:,} optimizer steps per epoch, {self.steps:,} in all",
            f"micro-batch: at most {self.micro_batch} rows per forward pass and process",
            f"memory per process: {_size(self.state_bytes)} for weights, gradients, AdamW, momentum encoder "
            f"and queues; about {_size(self.activation_bytes)} for activations (an estimate)",
        ]


def total_steps(config: Config, steps_per_epoch: int) -> int:
    """Return the optimizer steps of a run."""
    whole = steps_per_epoch * config.train.epochs
    return whole if config.train.max_steps is None else min(whole, config.train.max_steps)


def summarise(
    config: Config,
    model: AsapModel,
    queues: nn.ModuleDict,
    rows: int,
    steps_per_epoch: int,
    world: int,
    sharded: bool = False,
) -> Summary:
    """Return the figures of a run.

    Args:
        config: Resolved.
        model: Bare or sharded.
        queues: By name.
        rows: Training rows.
        steps_per_epoch: Optimizer steps of an epoch.
        world: Processes.
        sharded: Whether each of them holds a slice of every weight (FSDP).
    """
    parts = {name: _parameters(part) for name, part in model.named_children()}
    named = {
        "towers": parts.pop("towers"),
        "fusion": parts.pop("fusion"),
        "heads": sum(parts.values()),
    }
    weights = sum(named.values())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    queue_bytes = sum(b.numel() * b.element_size() for b in queues.buffers())
    # Model and momentum encoder; gradients and two moments.
    state = 4 * (2 * weights + 3 * trained)
    if sharded:
        state = math.ceil(state / world)
    elif world > 1:
        # DDP reduces gradients in buckets, which hold them a second time.
        state += 4 * trained
    micro = math.ceil(config.train.batch_size / (world * config.train.accumulate))
    return Summary(
        parameters=named,
        trained=trained,
        rows=rows,
        steps_per_epoch=steps_per_epoch,
        steps=total_steps(config, steps_per_epoch),
        micro_batch=micro,
        state_bytes=state + queue_bytes,
        activation_bytes=micro * _activations_per_row(config, model),
    )


def _activations_per_row(config: Config, model: AsapModel) -> int:
    """Estimate the bytes kept per row: about 16 vectors per position and block, plus attention scores.

    Twelve to eighteen vectors of the block's width stay per position (inputs of norms, projections, the
    feed-forward part); recomputation keeps one.
    """
    size = 2 if config.train.precision == "bfloat16" else 4
    vectors = 2 if config.model.checkpoint_blocks else 16
    towers = model.towers
    patches = towers.grid[0] * towers.grid[1] + 1
    tokens = config.data.max_tokens or towers.context_length
    texts = 1 + {"none": 0, "caption": 1, "explanation": 1, "both": 2}[config.loss.lma.text]
    visual: nn.Module = towers.visual.transformer.resblocks
    textual: nn.Module = towers.text.transformer.resblocks
    kept = len(list(visual.children())) * patches * towers.patch_width
    kept += len(list(textual.children())) * texts * tokens * towers.token_width
    fusion = config.model.fusion
    kept += fusion.layers * (patches + tokens) * fusion.width * 2
    scores = 4 * 2 * 3 * fusion.heads * patches * tokens if model.with_scores else 0
    return kept * vectors * size + scores


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 1e5 else f"{number:,}"


def _size(number: int) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**28 else f"{number / 2**20:.0f} MiB"
