from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.training.engine.two import run_twice
from training.distributed import all_succeed, everywhere, from_first
from training.engine.checkpoint import Counters, TrainState, load_checkpoint
from training.engine.guard import check_finite
from training.engine.seeds import rng_state, seed_everything, set_rng_state
from training.engine.signals import StopSignal
from training.engine.store import CheckpointStore
from training.errors import DataError, NonFiniteLoss, TrainingError
from training.failures import is_shared


def stop_together(rank: int) -> None:
    with StopSignal() as stop:
        assert not stop.agreed()
        if rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.agreed(), "the signal reached rank 1 only, both must stop"


def fail_together(rank: int, folder: Path) -> None:
    terms = {"bic": torch.tensor(0.5), "pmm": torch.tensor(float("nan") if rank == 1 else 1.0)}
    if rank == 1:
        terms = dict(reversed(terms.items()))
    with pytest.raises(NonFiniteLoss, match="^pmm became"):
        check_finite(terms, torch.tensor(1.0), 4, rows=[10 + rank], run_dir=folder)
    dist.barrier()
    written = json.loads((folder / "nonfinite.json").read_text())
    assert written == {"step": 4, "ranks": [{"rank": 1, "values": {"pmm": "nan"}, "rows": [11]}]}


def save_together(rank: int, folder: Path) -> None:
    seed_everything(0, rank)
    model = {"w": torch.arange(3.0)} if rank == 0 else {}
    store = CheckpointStore(folder, 1, 0, "score", rank=rank)
    path = store.save(TrainState(Counters(5, world_size=2), model=model, rng=rng_state()))
    expected = torch.randn(4)
    loaded = load_checkpoint(path, rank=rank)
    assert loaded.model["w"].tolist() == [0.0, 1.0, 2.0]
    assert loaded.rng is not None
    set_rng_state(loaded.rng)
    assert torch.equal(torch.randn(4), expected)
    everyone = [torch.zeros(4), torch.zeros(4)]
    dist.all_gather(everyone, expected)
    assert not torch.equal(everyone[0], everyone[1]), "each rank has generators of its own"
    assert store.save(TrainState(Counters(5, world_size=2), model=model, rng=rng_state())) == path


def answer_together(rank: int) -> None:
    assert from_first(lambda: f"made by {rank}") == "made by 0"
    assert all_succeed(lambda: rank) == rank
    assert everywhere(True) and not everywhere(rank == 0)


def share_errors(rank: int) -> None:
    def fail(kind: type[Exception], *who: int) -> None:
        if rank in who:
            raise kind("not there")

    with pytest.raises(DataError, match="^not there$") as caught:
        from_first(lambda: fail(DataError, 0))
    assert is_shared(caught.value)
    with pytest.raises(DataError, match="^rank 1: not there$") as caught:
        all_succeed(lambda: fail(DataError, 1))
    assert is_shared(caught.value), "the first process tells it"
    with pytest.raises(DataError, match="^not there$"):
        all_succeed(lambda: fail(DataError, 0, 1))
    with pytest.raises(ValueError if rank == 1 else TrainingError, match="not there"):
        all_succeed(lambda: fail(ValueError, 1))


def fail_to_save_together(rank: int, folder: Path) -> None:
    store = CheckpointStore(folder, 1, 0, "score", rank=rank)
    state = TrainState(Counters(6, world_size=2), rng=rng_state())
    with pytest.MonkeyPatch.context() as patch:
        if rank == 1:
            patch.setattr("training.engine.store.write_tensors", no_room)
        with pytest.raises(
            TrainingError, match="^rank 1: the checkpoint .* could not be written: .*No space"
        ):
            store.save(state)
    dist.barrier()
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["last.json", "step-00000005"]


def no_room(*_: object) -> None:
    raise OSError(28, "No space left on device")


def all_parts(rank: int, folder: Path) -> None:
    stop_together(rank)
    fail_together(rank, folder)
    save_together(rank, folder)
    answer_together(rank)
    share_errors(rank)
    fail_to_save_together(rank, folder)


def test_two_processes_stop_fail_and_save_together(tmp_path: Path) -> None:
    run_twice(all_parts, tmp_path)
    names = {path.name for path in (tmp_path / "checkpoints" / "step-00000005").iterdir()}
    assert {"rng-rank0.safetensors", "rng-rank1.safetensors"} <= names
