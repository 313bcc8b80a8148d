from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.pipeline.inspection.tables import caption
from tests.training.data.building import commit_texts, plan_texts, write_explanations
from tests.training.engine.running import (
    cpu_accelerator,
    last_tensors,
    open_loop,
    records,
    run_config,
    write_split_world,
)
from training.data.rows import Rows
from training.engine.checkpoint import checkpoints
from training.engine.loop import Loop
from training.errors import NonFiniteLoss, TrainingError


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_one_batch_is_learned_by_heart(towers: str, world: Path, tmp_path: Path) -> None:
    config = run_config(
        towers,
        world,
        contrast={"distill": 0.0},
        optim={"lr_towers": 3e-3, "lr_new": 5e-3, "warmup_steps": 5},
        train={
            "overfit_one_batch": True,
            "epochs": 100,
            "max_steps": 120,
            "eval_every": 1000,
            "log_every": 5,
        },
    )
    loop = open_loop(config, tmp_path)
    loop.train()
    first, last = records(tmp_path)[0], records(tmp_path)[-2]
    for name, limit in {"bic": 0.02, "mlc": 0.02, "tmg": 0.02, "box_l1": 0.1, "box_giou": 0.15}.items():
        assert last[f"loss/{name}"] < limit < first[f"loss/{name}"], name


def test_what_the_model_did_not_read_is_told_at_each_epoch_s_end(
    towers: str, world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = run_config(towers, world, data={"max_words": 2}, train={"epochs": 2})
    with caplog.at_level("INFO", logger="training"):
        open_loop(config, tmp_path).train()
    told = [message for message in caplog.messages if "words of news texts not read" in message]
    assert [message.split(":")[0] for message in told] == ["epoch 0", "epoch 1"]


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        pytest.param({"train": {"precision": "bfloat16"}}, {"bic", "pmm"}, id="bfloat16"),
        pytest.param(
            {"train": {"precision": "bfloat16"}, "loss": {"mgca": {"mode": "bias"}}},
            {"mgca_mask"},
            id="bfloat16 and guided attention",
        ),
        pytest.param(
            {"data": {"unlabelled_share": 0.6}, "loss": {"mgca": {"guidance": "predicted"}}},
            {"mgca", "mgca_mask", "cap", "exp"},
            id="hidden annotations",
        ),
        pytest.param({"model": {"freeze_towers": True}}, {"bic"}, id="frozen towers"),
        pytest.param({"contrast": {"queue_size": 0}}, {"mac"}, id="no queues"),
    ],
)
def test_every_kind_of_run_trains_and_is_finite(
    towers: str, world: Path, tmp_path: Path, changes: dict[str, dict[str, object]], terms: set[str]
) -> None:
    config = run_config(towers, world, **changes)
    config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})})
    metrics = open_loop(config, tmp_path).train()
    found = [record for record in records(tmp_path) if "loss/total" in record]
    assert len(found) == 3
    assert all(value is not None and math.isfinite(value) for record in found for value in record.values())
    assert all(any(record[f"loss/{term}"] > 0 for record in found) for term in terms)
    for record in found:
        parts = [record[name] for name in ("grad_norm/towers", "grad_norm/new") if name in record]
        assert len(parts) == (1 if config.model.freeze_towers else 2)
        assert math.hypot(*parts) == pytest.approx(record["grad_norm"], rel=1e-4)
    assert all(math.isfinite(value) for value in metrics.values())
    assert all(v.isfinite().all() for v in last_tensors(tmp_path).values() if v.is_floating_point())


def test_rows_without_any_caption_train_without_that_loss(
    towers: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    write_explanations(out, write_split_world(out, texts=False))
    config = run_config(towers, out, train={"epochs": 1}, loss={"lma": {"queue": True}})
    with caplog.at_level("INFO", logger="training"):
        open_loop(config, tmp_path / "run").train()
    found = [record for record in records(tmp_path / "run") if "loss/cap" in record]
    assert [record["loss/cap"] for record in found] == [0.0] * 3
    assert all(record["loss/exp"] > 0 for record in found)
    assert "NO captions table: every caption is masked" in caplog.text
    assert last_tensors(tmp_path / "run")["queues/caption.filled"].item() == 0


def test_a_shard_committed_during_an_epoch_counts_from_the_next(
    towers: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    rows = write_split_world(out, texts=False)
    texts = [caption(row["image_key"], f"gate {n}") for n, row in enumerate(rows)]
    shards = [texts[:10], texts[10:]]
    plan = plan_texts(out, "captions", shards)
    commit_texts(plan, 0, shards[0])
    seen: list[tuple[int, int]] = []

    class Watched(Loop):
        def _newer_rows(self) -> Rows:
            newer = super()._newer_rows()
            seen.append((self.step, newer.report.captions))
            return newer

        def _close_epoch(self) -> None:
            if self.step == 2:
                commit_texts(plan, 1, shards[1])
            super()._close_epoch()

    loop = Watched(run_config(towers, out), tmp_path / "run", cpu_accelerator())
    assert loop.rows.report.captions == 10
    with caplog.at_level("INFO", logger="training"):
        loop.train()
    assert seen == [(3, 21), (6, 21)]
    assert caplog.text.count("new shards since the last epoch") == 1


def test_a_weight_that_is_infinite_stops_the_run_before_the_update(
    towers: str, world: Path, tmp_path: Path
) -> None:
    config = run_config(towers, world, train={"max_steps": 2, "eval_every": 100})
    open_loop(config, tmp_path).train()
    folder = checkpoints(tmp_path)[-1]
    weights = load_file(folder / "model.safetensors")
    weights["types_head.mlp.2.bias"][1] = torch.inf
    save_file(weights, folder / "model.safetensors")
    listed = json.loads((folder / "files.json").read_text())
    file = folder / "model.safetensors"
    listed[file.name] = {
        "size": file.stat().st_size,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    (folder / "files.json").write_text(json.dumps(listed))
    before = digest(folder)
    longer = run_config(towers, world, train={"max_steps": 4, "eval_every": 100})
    loop = open_loop(longer, tmp_path)
    weights = {name: value.clone() for name, value in loop.run.model.state_dict().items()}
    with pytest.raises(NonFiniteLoss, match=r"^mlc became NaN or infinite before optimizer step 2;"):
        loop.train()
    assert all(torch.equal(v, weights[k]) for k, v in loop.run.model.state_dict().items())
    written = json.loads((tmp_path / "nonfinite.json").read_text())
    assert written["step"] == 2 and "mlc" in written["ranks"][0]["values"]
    assert len(written["ranks"][0]["rows"]) == 5
    assert digest(folder) == before and checkpoints(tmp_path)[-1] == folder


def test_an_unknown_metric_is_refused_before_the_first_step(towers: str, world: Path, tmp_path: Path) -> None:
    config = run_config(towers, world, train={"best_metric": "f1"})
    with pytest.raises(TrainingError, match="no metric 'f1'; there are acc, auc"):
        open_loop(config, tmp_path)
