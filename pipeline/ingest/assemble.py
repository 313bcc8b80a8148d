"""Putting the ``samples`` table together from what the steps of ingest found out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import pyarrow as pa

from pipeline.ingest.columns import KEY_BYTES, split_words
from pipeline.ingest.duplicates import key_words
from pipeline.ingest.facts import CheckedImages, ImageFacts
from pipeline.ingest.originals import Originals
from pipeline.ingest.quarantine import Quarantine
from schemas.tables import SAMPLES
from schemas.vocabulary import FAKE_CLS, MANIPULATION_TYPES, ORIGINAL_FROM, SPLITS

_PIECE_ROWS = 50_000
_HEX = np.frombuffer(b"".join(b"%02x" % i for i in range(256)), np.uint16)


@dataclass(frozen=True)
class Facts:
    """What the image files say about each row.

    Attributes:
        keep: Whether the row's image is usable and its box meets it, bool[n].
        image_path: Path to store, string[n].
        image_key: string[n]; null when images were skipped.
        width: int32[n], likewise.
        height: int32[n], likewise.
        box: Boxes cut at the image's edges, float32[n, 4], zeros where there is none.
        has_box: bool[n].
        clamped: Whether a box was cut at any edge, bool[n].
    """

    keep: np.ndarray
    image_path: pa.Array | pa.ChunkedArray
    image_key: pa.Array
    width: pa.Array
    height: pa.Array
    box: np.ndarray
    has_box: np.ndarray
    clamped: np.ndarray


def without_images(table: pa.Table) -> Facts:
    """Return what is known of rows when no image file is touched.

    Args:
        table: Columns of ``columns.CHECKED``.
    """
    rows = len(table)
    box, has_box = _boxes(table)
    return Facts(
        keep=np.ones(rows, bool),
        image_path=table.column("image"),
        image_key=pa.nulls(rows, pa.string()),
        width=pa.nulls(rows, pa.int32()),
        height=pa.nulls(rows, pa.int32()),
        box=box,
        has_box=has_box,
        clamped=table.column("clamped").to_numpy(),
    )


def attach_images(table: pa.Table, images: CheckedImages, quarantine: Quarantine) -> Facts:
    """Bring rows and image files together; rows whose image or box does not hold are set aside.

    Args:
        table: Columns of ``run.READ``.
        images: Verdicts on the files of all rows.
        quarantine: Takes the rejected rows.
    """
    encoded = table.column("image").combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()
    names = encoded.dictionary.to_pylist()
    verdicts = [images.verdicts[name] for name in names]
    good = [verdict if isinstance(verdict, ImageFacts) else None for verdict in verdicts]
    usable = np.array([facts is not None for facts in good], bool)[codes]
    width, height = (
        np.array([getattr(facts, side) if facts else 1 for facts in good], np.int32)[codes]
        for side in ("width", "height")
    )
    box, has_box = _boxes(table)
    outside = usable & has_box & ((box[:, 0] >= width) | (box[:, 1] >= height))
    limits = np.stack([width, height, width, height], axis=1).astype(np.float32)
    over = usable & has_box & (box > limits).any(axis=1)
    sources, source_rows = (table.column(name).to_numpy() for name in ("source", "source_row"))
    for row in np.flatnonzero(~usable).tolist():
        verdict = verdicts[codes[row]]
        assert not isinstance(verdict, ImageFacts)
        quarantine.add(int(sources[row]), int(source_rows[row]), verdict.code, verdict.message)
    for row in np.flatnonzero(outside).tolist():
        corners = ", ".join(f"{value:g}" for value in box[row])
        message = (
            f"fake_image_box [{corners}] lies right of or below the image, which is {width[row]} x "
            f"{height[row]}; check that the boxes are xyxy pixels of this file"
        )
        quarantine.add(int(sources[row]), int(source_rows[row]), "box_outside_image", message)
    by_code = pa.array(codes)
    return Facts(
        keep=usable & ~outside,
        image_path=pa.array([images.found.get(name, name) for name in names], pa.string()).take(by_code),
        image_key=pa.array([facts.image_key if facts else None for facts in good], pa.string()).take(by_code),
        width=pa.array(width),
        height=pa.array(height),
        box=np.minimum(box, limits),
        has_box=has_box,
        clamped=table.column("clamped").to_numpy() | over,
    )


def _boxes(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes, float32[n, 4] with zeros where there is none, and which rows have one."""
    column = table.column("fake_image_box").combine_chunks()
    has_box = column.is_valid().to_numpy(zero_copy_only=False)
    box = np.zeros((len(table), 4), np.float32)
    box[has_box] = column.flatten().to_numpy().reshape(-1, 4)
    return box, has_box


def sample_tables(table: pa.Table, facts: Facts, originals: Originals) -> Iterator[pa.Table]:
    """Yield the rows of ``samples`` in pieces, in source order.

    Args:
        table: Columns of ``run.READ``, repeated rows removed.
        facts: What the image files say.
        originals: Where the original texts stand.
    """
    kept = np.flatnonzero(facts.keep)
    pieces = [kept[start : start + _PIECE_ROWS] for start in range(0, len(kept), _PIECE_ROWS)]
    # Arrow works outside Python's lock, so the next piece is made while this one is written.
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(_piece, repeat(table), pieces, repeat(facts), repeat(originals))


def _piece(table: pa.Table, rows: np.ndarray, facts: Facts, originals: Originals) -> pa.Table:
    first, last = int(rows[0]), int(rows[-1]) + 1
    whole = len(rows) == last - first
    local = pa.array(rows - first)

    def pick(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        part = column.slice(first, last - first)
        return part if whole else part.take(local)

    classes = pick(table.column("fake_cls")).to_numpy()
    text = pick(table.column("text"))
    original, joined = originals.row[rows], originals.joined[rows]
    words = split_words(text)
    columns = {
        "sample_id": _hex(key_words(pick(table.column("key")))),
        "source_id": pick(table.column("source_id")),
        "split": pa.array(SPLITS).take(pick(table.column("split"))),
        "image_path": pick(facts.image_path),
        "image_key": pick(facts.image_key),
        "width": pick(facts.width),
        "height": pick(facts.height),
        "text": text,
        "words": words,
        "original_text": table.column("text").take(pa.array(original, mask=original < 0)),
        "original_from": pa.array(ORIGINAL_FROM).take(pa.array(joined, mask=joined < 0)),
        "fake_cls": pa.array(FAKE_CLS).take(pa.array(classes)),
        "is_fake": pa.array(classes != FAKE_CLS.index("orig")),
        **{kind: pa.array(_CLASS_HAS[kind][classes]) for kind in MANIPULATION_TYPES},
        "fake_image_box": _box_array(facts.box[rows], facts.has_box[rows]),
        "fake_text_pos": pick(table.column("fake_text_pos")),
    }
    return pa.table(columns).select(SAMPLES.names)


_CLASS_HAS = {kind: np.array([kind in name.split("&") for name in FAKE_CLS]) for kind in MANIPULATION_TYPES}


def _box_array(box: np.ndarray, has_box: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(
        pa.array(box.ravel()), type=SAMPLES.field("fake_image_box").type, mask=pa.array(~has_box)
    )


def _hex(keys: np.ndarray) -> pa.StringArray:
    """Return 16-byte keys, uint64[n, 2], as 32 hex digits each."""
    digits = _HEX[np.ascontiguousarray(keys).view(np.uint8)].tobytes()
    offsets = np.arange(0, len(digits) + 1, 2 * KEY_BYTES, dtype=np.int32)
    return pa.StringArray.from_buffers(len(keys), pa.py_buffer(offsets), pa.py_buffer(digits))
