"""Small tables and data folders for the flows to work on."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from tests.builders import write_echo_config, write_samples

ECHO = """
captions: {model: captioner, shard_size: 5}
explanations: {model: chat, shard_size: 5}
models:
  captioner: {kind: instructblip, engine: echo}
  chat: {kind: chat, engine: echo, echo: {latency_s: %s, failure_share: %s}}
"""


def make_table(
    folder: Path, *, samples: int = 24, latency_s: float = 0, failure_share: float = 0
) -> dict[str, str]:
    """Write samples and a configuration with shards of 5 rows; return the arguments of a flow."""
    folder.mkdir(exist_ok=True)
    write_samples(folder / "out", samples, rows_per_shard=9)
    config = write_echo_config(folder, ECHO % (latency_s, failure_share))
    return {"config": str(config), "out": str(folder / "out")}


def make_dgm4(folder: Path, rows: int = 12) -> Path:
    """Write a small folder in DGM4's layout: every third row has its text swapped, its original beside it."""
    metadata = folder / "metadata"
    metadata.mkdir(parents=True)
    for split in ("train", "val", "test"):
        entries = []
        for number in range(rows):
            name = f"origin/bbc/0001/{split}-{number}.png"
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (number * 9, len(split) * 30, 90)).save(path)
            swapped = number % 3 == 2
            verb = "frowns" if swapped else "smiles"
            entries.append(
                {
                    "id": 1000 + len(split) * 100 + number // 3,
                    "image": f"{folder.name}/{name}",
                    "text": f"Person {number} {verb} at the {split} gate in Lima",
                    "fake_cls": "text_swap" if swapped else "orig",
                    "fake_image_box": [],
                    "fake_text_pos": [2] if swapped else [],
                    "mtcnn_boxes": [],
                }
            )
        (metadata / f"{split}.json").write_text(json.dumps(entries))
    return folder
