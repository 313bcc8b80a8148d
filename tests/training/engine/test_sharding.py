from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.tensor import DTensor

from tests.training.configs import merged
from tests.training.engine.running import (
    StoppedLoop,
    cpu_accelerator,
    last_json,
    last_tensors,
    open_loop,
    records,
    run_config,
)
from tests.training.engine.two import run_twice
from tests.training.launching import CONFIGS, launched, sharding_accelerator
from training.config import dump_config
from training.config.sections import Config
from training.engine.assembly import assemble
from training.engine.loop import Loop
from training.engine.resume import resolve_resume
from training.engine.sharding import gather_tensors, shards, slice_tensors, whole
from training.errors import Interrupted, UsageError

# In float32 a sum over slices in another order differs by some 1e-6.
TOLERANCE = 1e-5


def config_of(towers: str, world: Path) -> Config:
    """Two epochs of three steps; in evaluation one process has two batches and the other one.

    AdamW's epsilon is above the rounding errors of the gradient, whose sign would else become a whole step.
    """
    return run_config(
        towers,
        world,
        data={"val_split": "train"},
        optim={"eps": 1e-4},
        train={"epochs": 2, "accumulate": 2, "eval_batch_size": 10, "keep_last": 2},
    )


def changed(config: Config, **train: Any) -> Config:
    """Return the configuration with other values under ``train``."""
    return Config.model_validate(merged(config.model_dump(), {"train": train}))


def run_sharded(config: Config, run_dir: Path, accelerator: Accelerator) -> Loop:
    loop = Loop(config, run_dir, accelerator, resolve_resume(run_dir, "auto"))
    loop.train()
    return loop


def train_sharded(rank: int, folder: Path, config: Config) -> None:
    """Train one run from its start and go on with another."""
    accelerator = sharding_accelerator(rank)
    loop = run_sharded(config, folder / "sharded", accelerator)
    total = sum(p.numel() for p in loop.run.model.parameters())
    for module in (loop.run.model, loop.run.momentum):
        parameters = list(module.parameters())
        assert all(isinstance(p, DTensor) for p in parameters), "sharded again after the last evaluation"
        mine = sum(p.to_local().numel() for p in parameters if isinstance(p, DTensor))
        assert 0.4 < mine / total < 0.6
    held = [s["exp_avg"] for s in loop.run.optimizer.state.values()]
    assert all(isinstance(moment, DTensor) for moment in held) and held
    assert not any(isinstance(buffer, DTensor) for buffer in loop.run.queues.buffers())
    run_sharded(config, folder / "continued", accelerator)
    half = changed(config, precision="bfloat16", epochs=1)
    run_sharded(half, folder / "half", sharding_accelerator(rank, "bfloat16"))
    accelerator = sharding_accelerator(rank)
    accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = ["Layer"]
    with pytest.raises(UsageError, match="names no block of the model"):
        assemble(config, accelerator, 21)


def difference(run_dir: Path, other: Path) -> float:
    """Return the largest difference of two runs' last tensors, relative where these exceed 1."""
    mine, theirs = last_tensors(run_dir), last_tensors(other)
    assert mine.keys() == theirs.keys()
    worst = 0.0
    for name, value in mine.items():
        assert value.shape == theirs[name].shape and value.dtype == theirs[name].dtype, name
        if name.startswith("rng"):
            continue
        scale = max(1.0, value.abs().max().item())
        worst = max(worst, (value.double() - theirs[name].double()).abs().max().item() / scale)
    return worst


@pytest.mark.slow
def test_a_sharded_run_is_that_of_one_process_and_each_goes_on_from_the_other(
    towers: str, world: Path, tmp_path: Path
) -> None:
    config = config_of(towers, world)
    open_loop(config, tmp_path / "one").train()
    StoppedLoop.stop_at, StoppedLoop.in_validation = 3, False
    with pytest.raises(Interrupted):
        open_loop(config, tmp_path / "continued", StoppedLoop).train()
    run_twice(train_sharded, tmp_path, config)

    for name in ("sharded", "continued"):
        assert difference(tmp_path / name, tmp_path / "one") < TOLERANCE, name
        for mine, other in zip(records(tmp_path / name), records(tmp_path / "one"), strict=True):
            assert mine == pytest.approx(other, abs=1e-4)
    state = last_json(tmp_path / "sharded", "state")
    assert state["world_size"] == 2 and state["step"] == 6

    # Cut into the same chunks, so that bfloat16 rounds the same way in the first step; later, sums in another
    # order move weights across its rounding borders, each of which is 0.4 % wide.
    single = changed(config, precision="bfloat16", epochs=1, accumulate=4)
    open_loop(single, tmp_path / "whole").train()
    half, plain = records(tmp_path / "half"), records(tmp_path / "whole")
    assert half[0] == pytest.approx(plain[0], rel=1e-4, abs=1e-6)
    for mine, other in zip(half[1:3], plain[1:3], strict=True):
        assert mine == pytest.approx(other, rel=4e-3, abs=1e-4)

    # The last checkpoint is taken away: the sharded run's first epoch is what one process goes on from.
    shutil.rmtree(tmp_path / "sharded" / "checkpoints" / "step-00000006")
    loop = open_loop(config, tmp_path / "sharded")
    assert loop.step == 3
    loop.train()
    assert difference(tmp_path / "sharded", tmp_path / "one") < TOLERANCE


@pytest.mark.slow
def test_the_launcher_shards_on_processor_cores_too(towers: str, world: Path, tmp_path: Path) -> None:
    """The command with fsdp.yaml, changed to two processes on a CPU."""
    settings = yaml.safe_load((CONFIGS / "fsdp.yaml").read_text())
    settings |= {"use_cpu": True, "num_processes": 2, "main_process_port": 0}
    del settings["gpu_ids"]
    launcher, config = tmp_path / "cpu.yaml", config_of(towers, world)
    launcher.write_text(yaml.safe_dump(settings))
    file = tmp_path / "run.yaml"
    file.write_text(dump_config(config))
    done = launched(
        ["--config_file", str(launcher), "--num_cpu_threads_per_process", "1", "training/train.py"]
        + ["--config", str(file), "--to", str(tmp_path / "sharded"), "--set", "train.max_steps=3"]
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("FSDP: each of 2 processes holds a slice of every weight") == 1
    short = changed(config, max_steps=3)
    open_loop(short, tmp_path / "one").train()
    assert difference(tmp_path / "sharded", tmp_path / "one") < TOLERANCE


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"fsdp_version": 1}, "set fsdp_version: 2"),
        ({"fsdp_version": 2, "activation_checkpointing": True}, "model.checkpoint_blocks=true"),
        ({"fsdp_version": 2, "cpu_offload": True}, "fsdp_offload_params is not supported"),
    ],
)
def test_settings_that_are_not_followed_are_refused(settings: dict[str, Any], says: str) -> None:
    accelerator = cpu_accelerator()
    assert not shards(accelerator)
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(**settings)
    with pytest.raises(UsageError, match=says):
        shards(accelerator)


def test_plain_tensors_pass_through() -> None:
    tensors = {"a": torch.ones(2, 2), "b": torch.zeros(1)}
    assert whole(tensors["a"]) is tensors["a"]
    assert gather_tensors(tensors, keep=True)["a"].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert gather_tensors(tensors, keep=False) == {}
    assert slice_tensors(tensors, {"a": torch.zeros(2, 2)})["a"] is tensors["a"]
