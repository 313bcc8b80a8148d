"""Resized images in a few large files, for disks that are slow on many small ones.

    python -m training.data.cache --data OUT --to DIR --size 256

writes the pictures of all splits; stopped and started again, it goes on with those that are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from schemas import TableError, open_table
from training.data.files import placed, remove_stale
from training.data.images import decode_jpeg, load_square, refuse_replaced, to_tensor
from training.errors import DataError, TrainingError, UsageError

log = logging.getLogger(__name__)

RAW = "raw"
_SETTINGS = "cache.json"
_PATTERN = "images-*.arrow"
_SHARD = 4096  # pictures per file: few open files, and a kill loses little
_BATCH = 256  # pictures in memory at a time
_SCHEMA = pa.schema([pa.field("image_key", pa.string()), pa.field("image", pa.binary())])


class _Wanted(NamedTuple):
    """A picture that the folder lacks, as the first of its samples names it."""

    path: str
    sample_id: str
    width: int | None
    height: int | None


class ImageCache:
    """Reader of a folder of resized images; memory-mapped, picklable by path."""

    def __init__(self, folder: Path, size: int) -> None:
        """Map every file of the folder.

        Args:
            folder: Folder that the command of this module wrote.
            size: Side in pixels that the images must have.

        Raises:
            UsageError: The folder is not such a folder, or its images are of another size.
            DataError: One of its files is damaged.
        """
        self.folder = folder
        self.size = size
        settings = _read_settings(folder)
        if settings is None:
            raise UsageError(
                f"data.image_cache: {folder} has no {_SETTINGS}; write the folder with "
                f"python -m training.data.cache --data OUT --to {folder} --size {size}"
            )
        if settings["size"] != size:
            raise UsageError(
                f"data.image_cache: the images in {folder} are {settings['size']} pixels wide, "
                f"model.image_size is {size}; set it to {settings['size']}, or write another folder "
                f"with --size {size}"
            )
        self._raw = settings["quality"] == RAW
        self._paths: list[Path] = []
        self._batches: list[pa.RecordBatch] = []
        keys: list[str] = []
        for path in sorted(folder.glob(_PATTERN)):
            for batch, own in _map(path):
                self._paths.append(path)
                self._batches.append(batch)
                keys += own
        self._starts = np.cumsum([0] + [batch.num_rows for batch in self._batches])
        # Sorted fixed-width keys take a tenth of a dictionary's memory, and every worker has its own.
        encoded = np.array([key.encode() for key in keys] or np.empty(0, "S1"))
        self._order = np.argsort(encoded, kind="stable")
        self._keys = encoded[self._order]

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    def __reduce__(self) -> tuple[type[ImageCache], tuple[Path, int]]:
        return ImageCache, (self.folder, self.size)

    def get(self, key: str) -> Tensor | None:
        """Return (3, size, size) uint8 of an image, None when the cache lacks it.

        Raises:
            DataError: What is stored is damaged.
        """
        position = self._find(key)
        if position is None:
            return None
        chunk = int(np.searchsorted(self._starts, position, side="right")) - 1
        content = self._batches[chunk].column("image")[position - int(self._starts[chunk])].as_buffer()
        try:
            return self._pixels(content)
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError and more
            reason = f"{type(error).__name__}: {error}"
            raise DataError(
                f"{self._paths[chunk]}: the image of key {key} does not decode ({reason}); remove that file "
                f"and run python -m training.data.cache --to {self.folder} again, which writes it anew"
            ) from error

    def _pixels(self, content: pa.Buffer) -> Tensor:
        shape = (3, self.size, self.size)
        if self._raw:
            return torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy()).view(shape)
        pixels = decode_jpeg(content.to_pybytes())
        if pixels.shape != shape:
            raise ValueError(f"it is {pixels.shape[2]} x {pixels.shape[1]} pixels")
        return pixels

    def _find(self, key: str) -> int | None:
        place = int(np.searchsorted(self._keys, key.encode()))
        if place < len(self._keys) and self._keys[place] == key.encode():
            return int(self._order[place])
        return None


def build_cache(
    out: Path,
    folder: Path,
    size: int,
    quality: int | None = 95,
    workers: int = 1,
    image_root: Path | None = None,
) -> int:
    """Write the images that the folder lacks.

    Args:
        out: Folder of the tables.
        folder: Where the images go.
        size: Side in pixels.
        quality: JPEG quality (colour at full resolution), None for raw pixels.
        workers: Threads that decode; Pillow works outside Python's lock.
        image_root: Folder that image paths start at; the one ingest noted by default.

    Returns:
        Number of images written.

    Raises:
        UsageError: The folder holds images of other settings, or cannot be written.
        DataError: There are no samples, or images do not decode or were replaced since ingest; all others are
            written first.
    """
    try:
        samples = open_table(out, "samples")
    except TableError as error:
        raise DataError(f"{error}; run python -m pipeline ingest first") from None
    root = image_root or Path(samples.info["image_root"])
    _settle(folder, {"size": size, "quality": quality or RAW})
    there = ImageCache(folder, size)
    wanted: dict[str, _Wanted] = {}
    for batch in samples.batches(["image_key", "image_path", "sample_id", "width", "height"]):
        for key, *image in zip(*(c.to_pylist() for c in batch.columns), strict=True):
            if key is not None and key not in there:
                wanted.setdefault(key, _Wanted(*image))
    todo = sorted(wanted)
    failures: list[str] = []

    def shrink(key: str) -> bytes | None:
        path, sample_id, width, height = wanted[key]
        try:
            picture = load_square(root / path, size, sample_id)
            # The key is the old picture's; another one stored under it would never be noticed again.
            refuse_replaced(picture, (width, height), root / path, sample_id)
            square = picture.image
        except DataError as error:
            failures.append(str(error))
            return None
        if quality is None:
            return to_tensor(square).numpy().tobytes()
        stream = io.BytesIO()
        square.save(stream, "JPEG", quality=quality, subsampling="4:4:4")
        return stream.getvalue()

    with (
        _written(folder),
        ThreadPoolExecutor(workers) as threads,
        tqdm(total=len(wanted) + len(there), initial=len(there), unit=" images", disable=None) as bar,
    ):
        for start in range(0, len(todo), _SHARD):
            keys = todo[start : start + _SHARD]
            name = f"images-{hashlib.sha256(' '.join(keys).encode()).hexdigest()[:16]}.arrow"
            with (
                placed(folder / name) as temporary,
                pa.OSFile(str(temporary), "wb") as sink,
                pa.ipc.new_file(sink, _SCHEMA) as writer,
            ):
                for part in _parts(keys, _BATCH):
                    images = list(threads.map(shrink, part))
                    good = [(k, i) for k, i in zip(part, images, strict=True) if i is not None]
                    columns = [[k for k, _ in good], [i for _, i in good]]
                    writer.write_batch(
                        pa.record_batch(
                            [pa.array(columns[0], pa.string()), pa.array(columns[1], pa.binary())],
                            schema=_SCHEMA,
                        )
                    )
                    bar.update(len(part))
    if failures:
        raise DataError(f"{len(failures)} images were left out; the first: {failures[0]}")
    return len(todo)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when every image is there, 2 after a clear error."""
    parser = argparse.ArgumentParser(
        prog="python -m training.data.cache",
        description="Write resized images into a few large files, which data.image_cache names.",
        epilog="JPEG images were compressed a second time: training and its validation see them, evaluate.py "
        "and predict.py read the pictures themselves. With --quality raw both see the same pixels; an image "
        "then takes 3 x SIZE x SIZE bytes (197 kB at 256). Exit codes: 0 done, 2 bad usage or input.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--to", type=Path, required=True, help="folder of the resized images")
    parser.add_argument("--size", type=_positive, default=256, help="side in pixels, as model.image_size")
    parser.add_argument(
        "--quality", type=_quality, default=95, help="JPEG quality, 1 to 100, or raw (exact, larger)"
    )
    parser.add_argument("--workers", type=_positive, default=os.cpu_count() or 1, help="threads that decode")
    parser.add_argument("--image-root", type=Path, help="folder that image paths start at")
    args = parser.parse_args(arguments)
    try:
        written = build_cache(args.data, args.to, args.size, args.quality, args.workers, args.image_root)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.to}: {written:,} images written, {len(ImageCache(args.to, args.size)):,} there")
    return 0


def _positive(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number of 1 or more")
    return int(value)


def _quality(value: str) -> int | None:
    if value == RAW:
        return None
    if not value.isdecimal() or not 1 <= int(value) <= 100:
        raise argparse.ArgumentTypeError(f"{value!r} is neither a number from 1 to 100 nor {RAW}")
    return int(value)


def _settle(folder: Path, settings: dict[str, int | str]) -> None:
    """Note the settings of a new folder; refuse to mix them with those of an old one."""
    before = _read_settings(folder)
    if before is not None and before != settings:
        kinds = " and ".join(f"{key} {before[key]} (asked for {settings[key]})" for key in settings)
        raise UsageError(f"{folder} holds images of {kinds}; give another folder with --to")
    if before is None:
        with _written(folder), placed(folder / _SETTINGS) as temporary:
            temporary.write_text(json.dumps(settings) + "\n")
    remove_stale(folder, _PATTERN)


def _read_settings(folder: Path) -> dict[str, int | str] | None:
    try:
        settings: dict[str, int | str] = json.loads((folder / _SETTINGS).read_text())
        return {key: settings[key] for key in ("size", "quality")}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / _SETTINGS}: cannot be read ({error}); give another folder") from None


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Turn the system's refusal to write into one sentence."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written ({error}); make room there, or give another folder with --to"
        ) from error


def _map(path: Path) -> Iterator[tuple[pa.RecordBatch, list[str]]]:
    """Yield the batches of a file, each with its keys."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.schema != _SCHEMA:
            raise ValueError(f"its columns are {', '.join(reader.schema.names)}")
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            yield batch, batch.column("image_key").to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be mapped ({error}); remove it and write the cache again") from None


def _parts(keys: Sequence[str], size: int) -> Iterator[list[str]]:
    rest = iter(keys)
    while part := list(islice(rest, size)):
        yield part


if __name__ == "__main__":
    sys.exit(main())
