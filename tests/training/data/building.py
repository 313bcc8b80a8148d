"""A small world of pictures, samples and texts, committed through the pipeline's own writer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.shards.plan import PLAN_SCHEMA, Plan, open_or_create
from pipeline.shards.snapshot import write_snapshot
from pipeline.shards.writer import commit_shard
from schemas.tables import key_of, schema_of
from tests.builders import sample_row
from tests.pipeline.inspection.tables import caption, explanation

Row = dict[str, Any]
CLIP = "local-dir:demo/models/clip"
WIDTH, HEIGHT = 48, 32


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a picture as smooth as a photograph."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_world(out: Path, count: int, fake_cls: str | None = None, **changes: Any) -> list[Row]:
    """Write ``count`` samples of split train, each with a picture of its own; return their rows."""
    kind = {} if fake_cls is None else {"fake_cls": fake_cls}
    root = out / "images"
    root.mkdir(parents=True)
    rows = []
    for number in range(count):
        path = root / f"{number}.jpg"
        photo(WIDTH, HEIGHT, number).save(path, quality=92)
        key = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
        row = sample_row(number, key, path.name, split="train", **kind)
        size = {"width": WIDTH, "height": HEIGHT}
        box = None if row["fake_image_box"] is None else [6.0, 4.0, 30.0, 28.0]
        rows.append(row | size | {"fake_image_box": box} | changes)
    write_rows(out, rows)
    return rows


def write_rows(out: Path, rows: Sequence[Row]) -> None:
    """Write the samples table."""
    table = pa.Table.from_pylist(list(rows), schema=schema_of("samples"))
    write_snapshot(out, "samples", [table], info={"image_root": str(out / "images")}, rows_per_shard=5)


def plan_texts(out: Path, table: str, shards: Sequence[Sequence[Row]]) -> Plan:
    """Plan a generated table whose shards will hold these rows; nothing is committed."""
    tables = []
    for number, rows in enumerate(shards):
        keys = [row[key_of(table)[0]] for row in rows]
        entries = [{"shard": number, "key": k, "input_file": 0, "input_row": n} for n, k in enumerate(keys)]
        tables.append(pa.Table.from_pylist(entries, schema=PLAN_SCHEMA))
    return open_or_create(out, table, {"engine": "echo"}, tables, info={}, new_version=False)


def commit_texts(plan: Plan, shard: int, rows: Sequence[Row]) -> None:
    """Commit one planned shard."""
    assert commit_shard(
        plan.version,
        plan.table,
        shard,
        fingerprint=plan.fingerprint,
        planned=plan.keys(shard),
        rows=pa.Table.from_pylist(list(rows), schema=schema_of(plan.table)),
    )


def write_texts(out: Path, table: str, rows: Sequence[Row]) -> None:
    """Write a generated table of one shard."""
    commit_texts(plan_texts(out, table, [rows]), 0, rows)


def write_captions(out: Path, rows: Sequence[Row]) -> None:
    """Write one caption per sample."""
    write_texts(out, "captions", [caption(r["image_key"], f"a man at gate {r['source_id']}") for r in rows])


def write_explanations(out: Path, rows: Sequence[Row]) -> None:
    """Write one explanation per sample."""
    told = [explanation(row, f"The text says that {row['words'][1]} smiles.") for row in rows]
    write_texts(out, "explanations", told)
