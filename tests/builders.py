"""Small tables for tests, made through the same code that users run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from pipeline.shards.snapshot import write_snapshot
from schemas.layout import list_attempts
from schemas.tables import SAMPLES
from schemas.vocabulary import MANIPULATION_TYPES, face_manipulated, text_manipulated

CLASSES = ("orig", "face_swap", "text_swap", "face_attribute&text_attribute")


def sample_row(number: int, image_key: str, image_path: str, **changes: Any) -> dict[str, Any]:
    """Return a valid row of ``samples``; its class follows from the number unless changed."""
    fake_cls = changes.get("fake_cls", CLASSES[number % len(CLASSES)])
    text = f"Person {number} smiles at the {number % 7} gate in Lima"
    row: dict[str, Any] = {
        "sample_id": hashlib.sha256(f"sample {number}".encode()).hexdigest()[:32],
        "source_id": number // 2,
        "split": ("train", "val", "test")[number % 3],
        "image_path": image_path,
        "image_key": image_key,
        "width": 8,
        "height": 8,
        "text": text,
        "words": text.split(),
        "original_text": None,
        "original_from": None,
        "fake_cls": fake_cls,
        "is_fake": fake_cls != "orig",
        **{kind: kind in fake_cls for kind in MANIPULATION_TYPES},
        "fake_image_box": [1.0, 1.0, 5.0, 6.0] if face_manipulated(fake_cls) else None,
        "fake_text_pos": [2] if text_manipulated(fake_cls) else [],
    }
    if text_manipulated(fake_cls) and number % 8 < 4:
        row |= {"original_text": text.replace("smiles", "frowns"), "original_from": "id"}
    return row | changes


def write_samples(out: Path, count: int, *, images: int | None = None, rows_per_shard: int = 40) -> Path:
    """Write ``count`` samples over ``images`` distinct pictures (all by default); return their root."""
    root = out / "images"
    root.mkdir(parents=True, exist_ok=True)
    distinct = count if images is None else images
    keys = []
    for number in range(distinct):
        path = root / f"{number}.png"
        Image.new("RGB", (8, 8), (number % 256, number // 256, 40)).save(path)
        keys.append(hashlib.sha256(path.read_bytes()).hexdigest()[:32])
    rows = [sample_row(n, keys[n % distinct], f"{n % distinct}.png") for n in range(count)]
    table = pa.Table.from_pylist(rows, schema=SAMPLES)
    write_snapshot(out, "samples", [table], info={"image_root": str(root)}, rows_per_shard=rows_per_shard)
    return root


ECHO_CONFIG = """
captions: {model: captioner, shard_size: 10}
explanations: {model: chat, shard_size: 10}
models:
  captioner: {kind: instructblip, engine: echo}
  chat: {kind: chat, engine: echo}
"""


def write_echo_config(folder: Path, text: str = ECHO_CONFIG) -> Path:
    """Write a configuration whose models are the fake engine; return its path."""
    path = folder / "echo.yaml"
    path.write_text(text)
    return path


def list_markers(version: Path) -> list[Path]:
    """Return the marker files of a version in shard order, those of retries left out."""
    return [attempts[0] for attempts in list_attempts(version).values() if 0 in attempts]
