"""How long ``python -m pipeline ingest --skip-images`` takes and how much memory, by number of rows.

``python -m benchmarks.ingest [--rows N...] [--runs N] [--save]`` writes annotation files as DGM4 has them
(three splits, the nine classes in the published proportions, news-like texts, shared ids, a fifth of the
train rows repeated), runs the real command on them in a process of its own, and prints wall time, processor
time and peak memory. Processor time counts all processes of the command; memory is the largest sum over them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import MemoryWatch, save

ROWS = (10_000, 60_000, 230_000)
SHARES = {
    "orig": 33.7,
    "face_swap": 21.3,
    "face_attribute": 18.0,
    "text_swap": 9.0,
    "text_attribute": 3.8,
    "face_swap&text_swap": 5.4,
    "face_swap&text_attribute": 2.3,
    "face_attribute&text_swap": 4.6,
    "face_attribute&text_attribute": 1.9,
}
"""Percent of the rows per class, as DGM4 publishes them."""

SPLITS = {"train": 0.7, "val": 0.1, "test": 0.2}
REPEATED = 0.22
"""Share of train rows that repeat another: 51,015 rows are said to be repeated in DGM4's train file."""

FOLDERS = {"face_swap": ("infoswap", "simswap"), "face_attribute": ("StyleCLIP", "HFGI")}
SOURCES = ("guardian", "usa_today", "washington_post", "bbc")


def main(argv: list[str] | None = None) -> None:
    """Measure and print; with ``--save`` also write ``benchmarks/results/ingest-<date>.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS), help="numbers of rows")
    parser.add_argument(
        "--runs", type=int, default=5, help="runs of each; the best and the median are reported"
    )
    parser.add_argument("--save", action="store_true", help="write the figures under benchmarks/results/")
    args = parser.parse_args(argv)
    results = []
    print(f"{'rows':>9} {'wall s':>14} {'CPU s':>7} {'peak MB':>8}   (wall: best / median of {args.runs})")
    for rows in args.rows:
        result = measure(rows, args.runs)
        results.append(result)
        print(
            f"{rows:>9,} {result['wall_s_best']:>6.2f} /{result['wall_s_median']:>6.2f} "
            f"{result['cpu_s_best']:>7.2f} {result['peak_mb']:>8,.0f}",
            flush=True,
        )
    if args.save:
        print(save("ingest", "ingest --skip-images", results))


def measure(rows: int, runs: int) -> dict[str, Any]:
    """Return the figures for one number of rows."""
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as folder:
        files = write_metadata(Path(folder), rows)
        size = sum(file.stat().st_size for file in files)
        timings = [run_once(files, Path(folder) / f"out{number}") for number in range(runs)]
    walls = [timing["wall_s"] for timing in timings]
    return {
        "rows": rows,
        "megabytes": round(size / 1e6, 1),
        "wall_s_best": min(walls),
        "wall_s_median": statistics.median(walls),
        "wall_s": walls,
        "cpu_s_best": min(timing["cpu_s"] for timing in timings),
        "peak_mb": max(timing["peak_mb"] for timing in timings),
        "summary": timings[0]["summary"],
    }


def run_once(files: list[Path], out: Path) -> dict[str, Any]:
    """Run the command once and return wall seconds, processor seconds, peak MB and part of its summary."""
    command = [sys.executable, "-m", "pipeline", "ingest", "--skip-images", "--json", "--out", str(out)]
    started = time.perf_counter()
    process = subprocess.Popen([*command, "--metadata", *map(str, files)], stdout=subprocess.PIPE)
    watch = MemoryWatch(process.pid)
    watch.start()
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.stop()
    if process.returncode:
        raise SystemExit(f"the command ended with {process.returncode}")
    summary = json.loads(output)
    keys = ("rows_read", "samples", "duplicates", "quarantined", "original_text_coverage")
    return {
        "wall_s": round(wall, 3),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_mb": round(max(watch.peak, usage.ru_maxrss * 1024) / 1e6, 1),
        "summary": {key: summary[key] for key in keys},
    }


def write_metadata(folder: Path, rows: int, seed: int = 0) -> list[Path]:
    """Write train, val and test annotations with ``rows`` rows in all; return the files."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("etaoinshrdlucmfwygpbvk", k=rng.randint(2, 11))) for _ in range(20_000)]
    files = []
    for split, share in SPLITS.items():
        count = round(rows * share)
        repeats = round(count * REPEATED) if split == "train" else 0
        distinct = list(items(rng, vocabulary, count - repeats, split))
        distinct += rng.choices(distinct, k=repeats)
        rng.shuffle(distinct)
        path = folder / f"{split}.json"
        path.write_text(json.dumps(distinct))
        files.append(path)
    return files


def items(rng: random.Random, vocabulary: list[str], count: int, split: str) -> Any:
    """Yield DGM4 rows; about three in a row share a news item, most of those with its original."""
    classes, weights = zip(*SHARES.items(), strict=True)
    base = {"train": 0, "val": 1_000_000, "test": 2_000_000}[split]
    source, words = 0, [""]
    for number, fake_cls in enumerate(rng.choices(classes, weights, k=count)):
        if fake_cls == "orig" or number == 0:
            source, words = base + number, rng.choices(vocabulary, k=rng.randint(8, 28))
        yield item(rng, vocabulary, fake_cls, source, list(words), number)


def item(
    rng: random.Random, vocabulary: list[str], fake_cls: str, source: int, words: list[str], number: int
) -> dict[str, Any]:
    """Return one DGM4 row about a news item."""
    image = f"DGM4/origin/{SOURCES[source % 4]}/{source % 2000:04d}/{source % 997:03d}.jpg"
    box: list[int] = []
    positions: list[int] = []
    for kind in fake_cls.split("&"):
        if kind in FOLDERS:
            folder = rng.choice(FOLDERS[kind])
            image = f"DGM4/manipulation/{folder}/{source}-{number:06d}-{folder}.jpg"
            left, top, side = rng.randint(-5, 400), rng.randint(-5, 200), rng.randint(30, 200)
            box = [left, top, left + side, top + side]
        elif kind.startswith("text"):
            positions = sorted(rng.sample(range(len(words)), rng.randint(2, 6)))
            for position in positions:
                words[position] = rng.choice(vocabulary)
    faces = [[rng.randint(0, 500) + rng.random() for _ in range(4)] for _ in range(rng.randint(1, 3))]
    return {
        "id": source,
        "image": image,
        "text": " ".join(words),
        "fake_cls": fake_cls,
        "fake_image_box": box,
        "fake_text_pos": positions,
        "mtcnn_boxes": faces,
    }


if __name__ == "__main__":
    main()
