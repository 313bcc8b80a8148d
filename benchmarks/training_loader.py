"""Rows per second of the loader alone, and of decoding large pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.training_runs import Settings, Table
from training.config import Config, load_config
from training.data.cache import build_cache
from training.data.images import load_square
from training.data.loader import train_loader
from training.data.rows import Rows, prepare_rows
from training.data.tokens import WordTokenizer

WORKERS = (0, 1, 2)
SIDES = (1024, 2048)
"""Sides of the drawn JPEG files, in pixels."""


def measure_loader(settings: Settings) -> Table:
    """Read rows from pictures and from the cache with 0, 1 and 2 workers.

    The clock runs from the first batch on; what the workers need to start stands in a column of its own.
    """
    base = load_config(settings.config, [f"data.out={settings.data}"])
    batch = base.train.batch_size
    batches = settings.steps if settings.quick else max(settings.steps, 40)
    rows = prepare_rows(
        settings.data, base.data.train_splits, settings.scratch / "rows", limit=batch * batches
    )
    cache = settings.scratch / "cache"
    started = time.perf_counter()
    pictures = build_cache(settings.data, cache, base.model.image_size)
    writing = time.perf_counter() - started
    table = Table(
        f"Loader alone: {len(rows):,} rows, {base.model.image_size} px, {batch} rows per batch",
        "rows/s",
        f"python -m training.data.cache wrote {pictures:,} pictures in {writing:.1f} s.",
    )
    for source in ("pictures", "cache"):
        for workers in WORKERS:
            overrides = [f"data.out={settings.data}", f"data.workers={workers}"]
            overrides += [f"data.image_cache={cache}"] if source == "cache" else []
            config = load_config(settings.config, overrides)
            speed, first = _read(rows, config)
            if not settings.quick:
                # The second pass finds the files in the system's cache, as later epochs do.
                speed, first = max((speed, first), _read(rows, config))
            table.add(
                f"{source}, {workers} {'worker' if workers == 1 else 'workers'}",
                **{"rows/s": speed, "first batch s": first},
            )
    return table


def _read(rows: Rows, config: Config) -> tuple[float, float]:
    """Return rows per second after the first batch, and seconds until it came."""
    tokenizer = WordTokenizer(config.model.towers, config.data.max_tokens)
    loader = train_loader(rows, tokenizer, config, epoch=0)
    started = time.perf_counter()
    batches = iter(loader)
    next(batches)
    first = time.perf_counter()
    count = sum(len(batch) for batch in batches)
    return count / max(time.perf_counter() - first, 1e-9), first - started


def measure_pictures(settings: Settings) -> Table:
    """Decode large JPEG files at a reduced size, as the loader does, and in full."""
    folder = settings.scratch / "large"
    folder.mkdir()
    passes, count = (1, 4) if settings.quick else (3, 16)
    table = Table(
        f"Large pictures: {count} drawn JPEG files each, one thread, best of {passes}", "pictures/s"
    )
    small = load_config(settings.config).model.image_size
    for side in SIDES:
        paths = [_draw(folder / f"{side}-{number}.jpg", side, number) for number in range(count)]
        for target in sorted({small, 256}):
            for name, decode in (("in full", _in_full), ("reduced", _reduced)):
                speed = max(_pictures_per_second(paths, target, decode) for _ in range(passes))
                # Each pair has a base of its own.
                table.add(f"{side} px to {target} px, {name}", **{"pictures/s": speed})
            full, reduced = table.rows[-2:]
            full["ratio"], reduced["ratio"] = 1.0, round(reduced["pictures/s"] / full["pictures/s"], 3)
    table.note = "Reduced is how the loader decodes; its ratio is to the line above."
    return table


def _pictures_per_second(paths: list[Path], target: int, decode: Callable[[Path, int], object]) -> float:
    started = time.perf_counter()
    for path in paths:
        decode(path, target)
    return len(paths) / (time.perf_counter() - started)


def _reduced(path: Path, target: int) -> object:
    return load_square(path, target, path.name)


def _in_full(path: Path, target: int) -> object:
    with Image.open(path) as image:
        return image.convert("RGB").resize((target, target), Image.Resampling.BICUBIC)


def _draw(path: Path, side: int, seed: int) -> Path:
    """Write a JPEG with shapes of every size and some grain, so that it weighs what a photograph does."""
    generator = np.random.default_rng(seed)
    layers = np.zeros((side, side, 3), np.float32)
    for cells in (4, 8, 16, 32, 64, 128, 256):
        coarse = Image.fromarray(generator.integers(0, 256, (cells, cells, 3), np.uint8))
        layers += np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32) / cells**0.5
    layers += generator.normal(0, 3, layers.shape)
    span = layers.max() - layers.min()
    Image.fromarray(((layers - layers.min()) * 255 / span).astype(np.uint8)).save(path, quality=90)
    return path
