"""Ingest: annotation files in, the tables ``samples`` and ``quarantine`` out."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.ingest import formats
from pipeline.ingest.assemble import attach_images, sample_tables, without_images
from pipeline.ingest.checking import CHECKED_WITH_SPLIT, Source
from pipeline.ingest.duplicates import find_repeats
from pipeline.ingest.facts import CheckedImages
from pipeline.ingest.generic import STREAMS
from pipeline.ingest.helper import Helper
from pipeline.ingest.originals import find_originals
from pipeline.ingest.quarantine import Quarantine
from pipeline.ingest.sources import Dgm4Json
from pipeline.ingest.summary import summarise
from pipeline.shards.snapshot import write_snapshot
from schemas.vocabulary import SPLITS

READ = CHECKED_WITH_SPLIT.append(pa.field("source", pa.int32()))
"""Checked rows with the index of their file."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to ingest, and how.

    Attributes:
        metadata: Annotation files.
        out: Output folder.
        image_root: Folder the annotated paths are relative to; needed unless ``skip_images``.
        split: Split of every row; None takes it from the file names, or from a split column.
        skip_images: Touch no image file; ``image_key``, ``width`` and ``height`` stay null.
        format: One of ``formats.FORMATS``.
        columns: Field to column name, where a file names them otherwise.
        max_pixels: Largest width times height that is decoded; None takes Pillow's warning limit.
        workers: Processes that check images; None takes one per processor.
    """

    metadata: Sequence[Path]
    out: Path
    image_root: Path | None = None
    split: str | None = None
    skip_images: bool = False
    format: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    max_pixels: int | None = None
    workers: int | None = None


def ingest(options: Options, helper: Helper | None = None) -> dict[str, Any]:
    """Read annotation files, check every row and its image, and write ``samples`` and ``quarantine``.

    Args:
        options: What to ingest, and how.
        helper: A second process that was started ahead; closed by the time this returns.

    Returns:
        The summary; ``rows_read = samples + duplicates + quarantined``.

    Raises:
        UsageError: A file as a whole cannot be read, or the options do not fit together; nothing is written.
        Interrupted: A signal asked for a stop while images were checked; nothing is written but their cache.
    """
    started = time.monotonic()
    _check_options(options)
    with _collector_paused():
        sources = [_open(path, options) for path in options.metadata]
        splits = [_file_split(source, options) for source in sources]
        quarantine = Quarantine(sources)
        with helper or Helper(options.metadata) as second:
            rows_read, table = _read(sources, splits, quarantine, second)
        repeats = find_repeats(table)
        _set_conflicts_aside(table, repeats.conflicts, sources, quarantine)
        if not repeats.keep.all():
            table = table.filter(pa.array(repeats.keep))
        # One piece: picking single rows out of many small pieces is slow.
        table = table.combine_chunks()
        originals = find_originals(table)
        images, facts = CheckedImages(), without_images(table)
        if not options.skip_images:
            images = _check_images(table, options)
            facts = attach_images(table, images, quarantine)
        summary = summarise(table, facts, originals, repeats, quarantine, images, rows_read)
        info = {
            "image_root": "" if options.image_root is None else os.path.abspath(options.image_root),
            "images_checked": not options.skip_images,
            "sources": [
                {"file": str(source.path), "split": "column" if split is None else SPLITS[split]}
                for source, split in zip(sources, splits, strict=True)
            ],
            "ingest": dict(summary),
        }
        write_snapshot(options.out, "quarantine", quarantine.tables(), info=info)
        version = write_snapshot(options.out, "samples", sample_tables(table, facts, originals), info=info)
    return {
        **summary,
        "version": version.name,
        "out": str(options.out),
        "seconds": time.monotonic() - started,
    }


def _check_options(options: Options) -> None:
    if not options.metadata:
        raise UsageError(
            "no annotation file; name them with --metadata F..., or give a DGM4 folder with --data DIR"
        )
    formats.check_files(options.metadata)
    if not options.skip_images:
        if options.image_root is None:
            raise UsageError("--image-root DIR is needed to find the images; or pass --skip-images")
        if not options.image_root.is_dir():
            raise UsageError(f"--image-root {options.image_root}: no such folder")
    if options.out.exists() and not options.out.is_dir():
        raise UsageError(f"--out {options.out}: is a file; give a folder")
    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers {options.workers}: must be 1 or more")
    if options.split is not None and options.split not in SPLITS:
        raise UsageError(f"--split {options.split}: must be one of {', '.join(SPLITS)}")


def _check_images(table: pa.Table, options: Options) -> CheckedImages:
    # Imported here, as reading annotations alone needs no decoder.
    from pipeline.images import DEFAULT_MAX_PIXELS, HARD_MAX_PIXELS
    from pipeline.ingest.files import check_images

    limit = DEFAULT_MAX_PIXELS if options.max_pixels is None else options.max_pixels
    if not 0 < limit <= HARD_MAX_PIXELS:
        raise UsageError(f"--max-pixels {limit}: must be from 1 to {HARD_MAX_PIXELS:,}")
    assert options.image_root is not None  # _check_options saw to it
    return check_images(
        table.column("image").unique().to_pylist(),
        Path(os.path.abspath(options.image_root)),
        options.out,
        max_pixels=limit,
        workers=options.workers,
    )


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep Python from walking millions of fresh rows in search of cycles, which parsed JSON cannot have."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _open(path: Path, options: Options) -> Source:
    kind = formats.format_of(path, options.format)
    if kind == "dgm4":
        return Dgm4Json(path, options.columns)
    return STREAMS[kind](path, options.columns, use_split=options.split is None)


def _file_split(source: Source, options: Options) -> int | None:
    """Return the split of all rows of a file, or None when a column says it row by row."""
    if source.has_splits and options.split is None:
        return None
    return SPLITS.index(formats.split_of(source.path, options.split))


def _read(
    sources: Sequence[Source], splits: Sequence[int | None], quarantine: Quarantine, helper: Helper
) -> tuple[int, pa.Table]:
    """Read and check all rows; return their number and those that passed, schema ``READ``."""
    rows_read = 0
    tables: list[pa.Table] = []
    for number, (source, split) in enumerate(zip(sources, splits, strict=True)):
        for checked in source.check(split, helper):
            rows_read += checked.rows
            for row, code, message in checked.defects:
                quarantine.add(number, row, code, message)
            origin = pa.array(np.full(len(checked.table), number, np.int32))
            tables.append(pa.Table.from_arrays([*checked.table.columns, origin], schema=READ))
    return rows_read, pa.concat_tables(tables) if tables else READ.empty_table()


def _set_conflicts_aside(
    table: pa.Table, conflicts: Sequence[tuple[int, int]], sources: Sequence[Source], quarantine: Quarantine
) -> None:
    where = [table.column(name) for name in ("source", "source_row")]
    for row, kept in conflicts:
        (source, source_row), (kept_source, kept_row) = (
            [column[i].as_py() for column in where] for i in (row, kept)
        )
        message = (
            f"same id, image and text as row {kept_row} of {sources[kept_source].path}, which is kept, but "
            "another class, box or positions; delete the wrong one of the two"
        )
        quarantine.add(source, source_row, "conflicting_duplicate", message)
