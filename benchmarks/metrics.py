"""How long the whole published and corrected protocol takes over a test split's number of rows.

``python -m benchmarks.metrics [--rows N] [--places N] [--runs N] [--save]`` scores random predictions
with `training.metrics.evaluate`; prints rows per second, wall and processor seconds. 77 token places are
CLIP's longest text.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

from benchmarks.record import save
from schemas.vocabulary import FAKE_CLS
from training.metrics import Predictions, evaluate

ROWS = 50_000
PLACES = 77


def main(argv: list[str] | None = None) -> None:
    """Measure and print; with ``--save`` also write ``benchmarks/results/metrics-<date>.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="rows (default: %(default)s)")
    parser.add_argument("--places", type=int, default=PLACES, help="token places (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs; the best and the median are reported")
    parser.add_argument("--save", action="store_true", help="write the figures under benchmarks/results/")
    args = parser.parse_args(argv)
    result = measure(args.rows, args.places, args.runs)
    print(
        f"{result['rows']:,} rows of {result['places']} token places: {result['rows_per_s']:,} rows/s; wall "
        f"{result['wall_s_best']:.3f} s best, {result['wall_s_median']:.3f} s median of {args.runs}; "
        f"processor {result['cpu_s_best']:.3f} s"
    )
    if args.save:
        print(save("metrics", "training.metrics.evaluate", result))


def measure(rows: int, places: int, runs: int) -> dict[str, Any]:
    """Return the figures; rows per second are those of the best run."""
    predictions = drawn(rows, places)
    walls, processor_times = [], []
    for _ in range(runs):
        started, busy = time.perf_counter(), time.process_time()
        evaluate(predictions)
        walls.append(round(time.perf_counter() - started, 4))
        processor_times.append(round(time.process_time() - busy, 4))
    return {
        "rows": rows,
        "places": places,
        "rows_per_s": round(rows / min(walls)),
        "wall_s_best": min(walls),
        "wall_s_median": statistics.median(walls),
        "wall_s": walls,
        "cpu_s_best": min(processor_times),
    }


def drawn(rows: int, places: int, seed: int = 0) -> Predictions:
    """Return random predictions: every class in turn, texts of full length with two tokens per word."""
    random = np.random.default_rng(seed)
    word = np.tile(np.append(-1, np.arange(places - 1) // 2), (rows, 1)).astype(np.int32)
    word[:, -1] = -1
    fake_cls = np.array(FAKE_CLS)[np.arange(rows) % len(FAKE_CLS)]
    face = np.array(["face" in name for name in FAKE_CLS])[np.arange(rows) % len(FAKE_CLS)]
    box = random.uniform(0.2, 0.6, (rows, 4)).astype(np.float32)
    return Predictions(
        fake_cls=fake_cls,
        logits_binary=random.normal(size=(rows, 2)).astype(np.float32),
        logits_multilabel=random.normal(size=(rows, 4)).astype(np.float32),
        box_pred_cxcywh=(box + random.normal(0, 0.1, box.shape)).astype(np.float32),
        box_true_cxcywh=box * face[:, None],
        logits_token=random.normal(size=(rows, places, 2)).astype(np.float32),
        token_label=np.where(word >= 0, random.random(word.shape) < 0.1, -100).astype(np.int8),
        token_word=word,
    )


if __name__ == "__main__":
    main()
