"""Tables with texts of the test's choosing, committed through the pipeline's own writer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from pipeline.shards.plan import PLAN_SCHEMA, open_or_create
from pipeline.shards.snapshot import write_snapshot
from pipeline.shards.writer import commit_shard
from schemas.tables import key_of, schema_of

Row = dict[str, Any]


def write_samples(out: Path, rows: Sequence[Row], *, image_root: Path | None = None) -> None:
    table = pa.Table.from_pylist(list(rows), schema=schema_of("samples"))
    info = {} if image_root is None else {"image_root": str(image_root)}
    write_snapshot(out, "samples", [table], info=info, rows_per_shard=5_000)


def write_quarantine(out: Path, rows: Sequence[Row]) -> None:
    write_snapshot(
        out, "quarantine", [pa.Table.from_pylist(list(rows), schema=schema_of("quarantine"))], info={}
    )


def write_texts(
    out: Path, table: str, rows: Sequence[Row], failures: Sequence[Row] = (), *, fields: Row | None = None
) -> None:
    """Commit one shard of a generated table that holds these rows and failures."""
    column = key_of(table)[0]
    keys = [row[column] for row in rows] + [failure["key"] for failure in failures]
    plan_rows = [{"shard": 0, "key": key, "input_file": 0, "input_row": n} for n, key in enumerate(keys)]
    plan = open_or_create(
        out,
        table,
        fields or {"engine": "echo", "generation.max_new_tokens": 18},
        [pa.Table.from_pylist(plan_rows, schema=PLAN_SCHEMA)],
        info={},
        new_version=False,
    )
    committed = commit_shard(
        plan.version,
        table,
        0,
        fingerprint=plan.fingerprint,
        planned=keys,
        rows=pa.Table.from_pylist(list(rows), schema=schema_of(table)),
        failures=pa.Table.from_pylist(list(failures), schema=schema_of("failures")),
    )
    assert committed


def caption(image_key: str, text: str, flags: Sequence[str] = (), **changes: Any) -> Row:
    row = {
        "image_key": image_key,
        "caption": text,
        "prompt_id": "caption-v1:00000000",
        "finish_reason": "stop",
        "tokens_in": 6,
        "tokens_out": len(text.split()),
        "flags": list(flags),
        "input_hash": "0" * 64,
    }
    return row | changes


def explanation(sample: Row, text: str, flags: Sequence[str] = (), **changes: Any) -> Row:
    kind = "manipulation" if sample["fake_text_pos"] else "description"
    generated = caption("", text, flags)
    del generated["caption"], generated["image_key"]
    row = {"sample_id": sample["sample_id"], "split": sample["split"], "kind": kind, "explanation": text}
    return row | generated | {"prompt_id": "description-v1:00000000"} | changes


def failure(stage: str, key: str, error_class: str = "engine_error", **changes: Any) -> Row:
    row = {
        "stage": stage,
        "key": key,
        "error_class": error_class,
        "permanent": False,
        "message": f"the engine raised on {key}",
        "attempts": 2,
        "last_attempt": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    }
    return row | changes


def draw_picture(path: Path, size: tuple[int, int], *, orientation: int | None = None) -> None:
    """Write a picture whose left half is red and whose right half is blue, as stored in the file."""
    width, height = size
    picture = Image.new("RGB", size, (200, 30, 30))
    picture.paste((30, 30, 200), (width // 2, 0, width, height))
    path.parent.mkdir(parents=True, exist_ok=True)
    if orientation is None:
        picture.save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(path, exif=exif, quality=95)
