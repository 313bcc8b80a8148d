"""Checkpoints and exports of tiny models, written by the code that runs write them with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from tests.training.data.building import photo
from training.config import dump_config
from training.config.sections import Config
from training.data.images import normalise, square_of, to_tensor
from training.data.tokens import WordTokenizer
from training.engine.checkpoint import Counters, TrainState
from training.engine.store import CheckpointStore
from training.inference import Detector, save_pretrained
from training.model import AsapModel, MomentumEncoder, build_model


def write_run(run_dir: Path, config: Config, step: int = 3) -> Path:
    """Write a run with one checkpoint of random weights, of which every pair gets another verdict."""
    torch.manual_seed(0)
    model = build_model(config)
    _tell_apart(model, config)
    momentum = MomentumEncoder(model, 0.9)
    unused = {"unused": torch.zeros(1000)}
    state = TrainState(
        Counters(step, config=config.model_dump(mode="json")),
        model=model.state_dict(),
        momentum=momentum.state_dict(),
        queues=unused,
        optimizer=unused,
        rng=unused,
        metrics={"auc": 0.75, "score": 0.5},
    )
    CheckpointStore(run_dir, keep_last=2, keep_best=1, metric="score").save(state)
    (run_dir / "config.yaml").write_text(dump_config(config))
    return run_dir


@torch.no_grad()
def _tell_apart(model: AsapModel, config: Config) -> None:
    """Make the heads say something else for every pair, around one half (0.15 for the types)."""
    for head in (model.box_head, model.words_head):
        for parameter in head.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.25)
    tokenizer = WordTokenizer(config.model.towers, config.data.max_tokens)
    pictures = [square_of(photo(48, 32, n), config.model.image_size).image for n in range(16)]
    ids = pad_sequence(
        [torch.tensor(tokenizer.encode_text(f"Person {n} smiles in Lima")) for n in range(16)],
        batch_first=True,
    )
    images = normalise(torch.stack([to_tensor(picture) for picture in pictures]))
    for name, centre in (("binary", 0.0), ("types", -1.7)):
        last = getattr(model, f"{name}_head").mlp[-1]
        output = getattr(model.eval()(images, ids), name)
        last.weight.mul_(1 / output.std(dim=0)[:, None])
        last.bias.sub_(getattr(model(images, ids), name).mean(dim=0)).add_(centre)


def export(run_dir: Path, folder: Path) -> Detector:
    """Export a run and open what was written."""
    return Detector.from_pretrained(save_pretrained(run_dir, folder), "cpu")
