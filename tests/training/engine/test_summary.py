from __future__ import annotations

from pathlib import Path

from tests.training.engine.running import run_config
from training.engine.step import build_queues
from training.engine.summary import summarise
from training.model import build_model


def test_memory_counts_slices_and_buckets(towers: str, tmp_path: Path) -> None:
    config = run_config(towers, tmp_path, model={"freeze_towers": True})
    model = build_model(config)
    queues = build_queues(config, model.towers.joint)
    held = sum(buffer.numel() * buffer.element_size() for buffer in queues.buffers())
    weights = sum(summarise(config, model, queues, 21, 3, 1).parameters.values())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # Model and momentum encoder; gradients and AdamW's two moments; four bytes each.
    alone = 4 * (2 * weights + 3 * trained)

    def state(world: int, sharded: bool = False) -> int:
        return summarise(config, model, queues, 21, 3, world, sharded).state_bytes - held

    assert state(1) == alone
    assert state(4) == alone + 4 * trained
    assert 0 <= state(4, sharded=True) - alone / 4 < 1
