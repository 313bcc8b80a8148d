"""Tables of any length: real plans, shards and markers, only the texts are fake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import RunConfig
from pipeline.shards.plan import Plan, open_plan
from pipeline.shards.snapshot import write_snapshot
from pipeline.shards.writer import commit_shard
from schemas.tables import SAMPLES, schema_of

SAMPLES_OF_AN_IMAGE = 2
PIECE = 50_000
_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)
_NAME = {"captions": "image_key", "explanations": "sample_id"}


def config(shard_size: int | None = None) -> RunConfig:
    """Return a configuration of the fake engine; shards have the size all start with, unless one is named."""
    size = {} if shard_size is None else {"shard_size": shard_size}
    return RunConfig.model_validate(
        {
            "captions": {"model": "captioner", **size},
            "explanations": {"model": "chat", **size},
            "models": {
                "captioner": {"kind": "instructblip", "engine": "echo"},
                "chat": {"kind": "chat", "engine": "echo"},
            },
        }
    )


def write_samples(out: Path, rows: int) -> None:
    """Write ``rows`` samples in pieces; a picture's two samples stand half the table apart."""
    info = {"image_root": str(out)}
    write_snapshot(out, "samples", _pieces(rows), info=info, rows_per_shard=PIECE)


def _pieces(rows: int) -> Iterator[pa.Table]:
    for start in range(0, rows, PIECE):
        yield _samples(np.arange(start, min(start + PIECE, rows), dtype=np.uint64), rows)


def _samples(numbers: np.ndarray, rows: int) -> pa.Table:
    count = len(numbers)
    images = numbers % np.uint64(max(1, rows // SAMPLES_OF_AN_IMAGE))
    text = pc.binary_join_element_wise("Person", pa.array(numbers).cast(pa.string()), "smiles in Lima", " ")
    no = pa.array(np.zeros(count, bool))
    columns = {
        "sample_id": keys(numbers, 1),
        "source_id": pa.array(numbers.astype(np.int64)),
        "split": pa.repeat("train", count),
        "image_path": pc.binary_join_element_wise(pa.array(images).cast(pa.string()), "jpg", "."),
        "image_key": keys(images, 2),
        "width": pa.repeat(pa.scalar(8, pa.int32()), count),
        "height": pa.repeat(pa.scalar(8, pa.int32()), count),
        "text": text,
        "words": pc.split_pattern(text, " "),
        "original_text": pa.nulls(count, pa.string()),
        "original_from": pa.nulls(count, pa.string()),
        "fake_cls": pa.repeat("orig", count),
        "is_fake": no,
        **dict.fromkeys(("face_swap", "face_attribute", "text_swap", "text_attribute"), no),
        "fake_image_box": pa.nulls(count, SAMPLES.field("fake_image_box").type),
        "fake_text_pos": pa.ListArray.from_arrays(
            pa.array(np.zeros(count + 1, np.int32)), pa.array([], pa.int32())
        ),
    }
    return pa.table([columns[name] for name in SAMPLES.names], names=SAMPLES.names)


def keys(numbers: np.ndarray, kind: int) -> pa.StringArray:
    """Return 32 hex digits for each number, spread like a hash's."""
    seed = np.uint64(kind)
    mixed = [
        (numbers + seed) * np.uint64(0x9E3779B97F4A7C15),
        (numbers ^ seed) * np.uint64(0xBF58476D1CE4E5B9),
    ]
    digits = _HEX[np.stack(mixed, axis=1).view(np.uint8)].tobytes()
    offsets = pa.py_buffer(np.arange(0, len(digits) + 1, 32, dtype=np.int32))
    return pa.StringArray.from_buffers(len(numbers), offsets, pa.py_buffer(digits))


def commit_all(out: Path, table: str, workers: int | None = None) -> int:
    """Commit every shard of a table's current plan, in several processes; return the number of shards."""
    shards = open_plan(out, table).shards
    workers = workers or len(os.sched_getaffinity(0))
    if workers == 1:
        _commit(out, table, range(shards))
        return shards
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        parts = [range(start, min(start + 100, shards)) for start in range(0, shards, 100)]
        list(pool.map(_commit, [out] * len(parts), [table] * len(parts), parts))
    return shards


def _commit(out: Path, table: str, shards: range) -> None:
    plan = open_plan(out, table)
    for shard in shards:
        planned = plan.entries(shard).column("key").combine_chunks()
        commit_shard(
            plan.version,
            table,
            shard,
            fingerprint=plan.fingerprint,
            planned=planned.to_pylist(),
            rows=_rows(plan, planned),
            stats={"seconds": 0.1, "tokens_in": 12 * len(planned), "tokens_out": 9 * len(planned)},
        )


def _rows(plan: Plan, planned: pa.Array) -> pa.Table:
    """Return rows with a text from the key alone; the input hash is the key twice."""
    count = len(planned)
    text = pc.binary_join_element_wise("what is said about", planned, " ")
    columns = {
        _NAME[plan.table]: planned,
        "split": pa.repeat("train", count),
        "kind": pa.repeat("description", count),
        "caption": text,
        "explanation": text,
        "prompt_id": pa.repeat("scale:00000000", count),
        "finish_reason": pa.repeat("stop", count),
        "tokens_in": pa.repeat(pa.scalar(12, pa.int32()), count),
        "tokens_out": pa.repeat(pa.scalar(9, pa.int32()), count),
        "flags": pa.ListArray.from_arrays(pa.array(np.zeros(count + 1, np.int32)), pa.array([], pa.string())),
        "input_hash": pc.binary_join_element_wise(planned, planned, ""),
    }
    names = schema_of(plan.table).names
    return pa.table([columns[name] for name in names], names=names)
