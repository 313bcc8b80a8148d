"""Putting a run together: rows, model, momentum, queues, optimizer, schedule."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from training.config import Config
from training.data.rows import Rows, RowsPlan, plan_rows, prepare_rows
from training.data.sampler import EffectiveBatches
from training.data.tokens import WordTokenizer
from training.distributed import all_succeed, everywhere, from_first, rank, world_size
from training.engine.checkpoint import Counters, TrainState, rows_needed
from training.engine.compiling import compile_blocks
from training.engine.optim import (
    CosineWarmup,
    adamw,
    flatten_optimizer,
    parameter_groups,
    unflatten_optimizer,
)
from training.engine.seeds import rng_state, seed_everything, set_rng_state
from training.engine.sharding import gather_tensors, shard, shards, slice_optimizer, slice_tensors
from training.engine.step import Stepper, build_queues
from training.engine.summary import total_steps
from training.errors import UsageError
from training.model import AsapModel, MomentumEncoder, build_model


@dataclass
class Run:
    """Everything that a run changes while it goes.

    Attributes:
        config: Resolved.
        accelerator: Device, precision, processes.
        tokenizer: Of the towers.
        model: The bare model; ``stepper.model`` is the wrapped one.
        momentum: Follows the model.
        queues: By name.
        optimizer: AdamW over the model.
        schedule: Of its rates.
        stepper: Runs optimizer steps.
        steps_per_epoch: Optimizer steps of the first epoch.
        total: Optimizer steps of the run.
    """

    config: Config
    accelerator: Accelerator
    tokenizer: WordTokenizer
    model: AsapModel
    momentum: MomentumEncoder
    queues: nn.ModuleDict
    optimizer: torch.optim.Optimizer
    schedule: CosineWarmup
    stepper: Stepper
    steps_per_epoch: int
    total: int

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the state dicts of the three modules, as a checkpoint names them; sharded where they are."""
        return {
            "model": self.model.state_dict(),
            "momentum": self.momentum.state_dict(),
            "queues": self.queues.state_dict(),
        }

    def state(self, counters: Counters, metrics: dict[str, float]) -> TrainState:
        """Return what a checkpoint holds; ranks other than 0 keep only their random generators."""
        rng = rng_state()
        keep = rank() == 0
        parts = self.tensors() | {"optimizer": flatten_optimizer(self.optimizer, self.model)}
        found = {part: gather_tensors(tensors, keep) for part, tensors in parts.items()}
        return TrainState(counters, **found, rng=rng, metrics=metrics if keep else {})

    def restore(self, state: TrainState, source: Path) -> None:
        """Put a checkpoint's state back; names and shapes were checked when it was read."""
        self.model.load_state_dict(slice_tensors(state.model, self.model.state_dict()))
        self.momentum.load_state_dict(slice_tensors(state.momentum, self.momentum.state_dict()))
        self.queues.load_state_dict(dict(state.queues))
        optimizer = slice_optimizer(state.optimizer, self.model)
        unflatten_optimizer(self.optimizer, self.model, optimizer, str(source / "optimizer.safetensors"))
        self.schedule.load_state_dict(state.counters.schedule)
        if state.rng is not None:
            set_rng_state(state.rng)


def open_rows(
    config: Config,
    splits: tuple[str, ...],
    run_dir: Path,
    accelerator: Accelerator,
    keep: str | None = None,
    in_use: Collection[str] = (),
) -> Rows:
    """Open the joined rows of splits; one process per machine joins, all of them see the same shards.

    Args:
        config: The run's configuration.
        splits: Splits to read.
        run_dir: Holds the joined file unless ``data.rows_cache`` says otherwise.
        accelerator: Says which processes share a machine.
        keep: Name of a joined file to go on with if it is still there, even if newer shards exist.
        in_use: Names of joined files that this process still reads; they and those that checkpoints refer to
            are not replaced.

    Raises:
        UsageError: ``data.out`` is not set.
        DataError: No rows.
    """
    folder = rows_folder(config, run_dir)
    plan = from_first(lambda: plan_of(config, splits))
    kept = None if keep is None else folder / keep
    if kept is not None and everywhere(kept.is_file()):
        return all_succeed(lambda: Rows(kept, plan))

    def join() -> None:
        if accelerator.is_local_main_process:
            needed = rows_needed(run_dir).union(in_use)
            prepare_rows(plan.out, splits, folder, plan=plan, needed=needed)

    all_succeed(join)
    return all_succeed(lambda: prepare_rows(plan.out, splits, folder, plan=plan, write=False))


def rows_folder(config: Config, run_dir: Path) -> Path:
    """Return where a run's joined files lie: where no other run may remove what this one still reads."""
    cache = config.data.rows_cache
    if cache is None:
        return run_dir / "rows"
    place = run_dir.resolve()
    return cache / f"{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"


def plan_of(config: Config, splits: tuple[str, ...]) -> RowsPlan:
    """Note which shards are committed now.

    Raises:
        UsageError: ``data.out`` is not set, or a split is unknown.
        DataError: No rows, or a table is damaged.
    """
    data = config.data
    if data.out is None:
        raise UsageError("which data? give --data OUT, the folder of the tables, or set data.out")
    return plan_rows(
        data.out, splits, skip_flags=data.skip_flags, limit=data.limit, image_root=data.image_root
    )


def assemble(config: Config, accelerator: Accelerator, rows: int, steps_per_epoch: int = 0) -> Run:
    """Build a run; the same on every process.

    Args:
        config: Resolved.
        accelerator: Device, precision, processes.
        rows: Training rows now.
        steps_per_epoch: Optimizer steps of the first epoch of a resumed run, so that rows that came since do
            not bend its schedule; 0: those of ``rows``.

    Raises:
        UsageError: The towers, or the batch size for so many processes, cannot be used.
    """

    def build() -> tuple[WordTokenizer, AsapModel, EffectiveBatches]:
        batches = EffectiveBatches(
            rows, config.train.batch_size, config.train.accumulate, world_size(), rank(), config.train.seed, 0
        )
        tokenizer = WordTokenizer(config.model.towers, config.data.max_tokens)
        # Weights must agree between processes, so they are drawn before each process gets its own stream.
        seed_everything(config.train.seed)
        return tokenizer, build_model(config).to(accelerator.device), batches

    tokenizer, model, batches = all_succeed(build)
    momentum = MomentumEncoder(model, config.contrast.momentum).to(accelerator.device)
    queues = build_queues(config, model.towers.joint).to(accelerator.device)
    seed_everything(config.train.seed, rank())
    if config.train.compile:
        compile_blocks(model)
        compile_blocks(momentum.model)
    sharded = shards(accelerator)
    if sharded:
        # Before the optimizer, which is to hold the slices.
        shard(accelerator, model, momentum.model)
    steps_per_epoch = steps_per_epoch or batches.steps
    total = total_steps(config, steps_per_epoch)
    groups = parameter_groups(model, ["towers"], config.optim)
    optimizer = adamw(groups, config.optim, accelerator.device)
    schedule = CosineWarmup(optimizer, total, config.optim.warmup_steps, config.optim.min_lr_ratio)
    wrapped = model if sharded else accelerator.prepare_model(model)
    stepper = Stepper(wrapped, model, momentum, queues, optimizer, schedule, config, accelerator)
    return Run(
        config=config,
        accelerator=accelerator,
        tokenizer=tokenizer,
        model=model,
        momentum=momentum,
        queues=queues,
        optimizer=optimizer,
        schedule=schedule,
        stepper=stepper,
        steps_per_epoch=steps_per_epoch,
        total=total,
    )
