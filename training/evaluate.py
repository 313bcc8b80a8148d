"""Evaluate a checkpoint: ``python training/evaluate.py --checkpoint D --data OUT --split test --to DIR``.

Exit codes: 0 evaluated, 2 bad usage or bad input.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Run as a script, this folder stands first on the path, and `data`, `model` or `report` would be ours.
if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from training.errors import TrainingError  # noqa: E402


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = argparse.ArgumentParser(
        prog="python training/evaluate.py",
        description="Evaluate a checkpoint on a split with the published protocol and the corrected figures.",
    )
    made.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="D",
        help="a run's folder (its best checkpoint, else its last) or a checkpoint's folder",
    )
    made.add_argument("--data", type=Path, required=True, metavar="OUT", help="folder of the tables")
    made.add_argument("--split", default="test", help="split to evaluate (default: %(default)s)")
    made.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for predictions.npz, predictions.parquet, metrics.json and report.html",
    )
    made.add_argument(
        "--bootstrap",
        type=_at_least(0),
        default=1000,
        metavar="N",
        help="resamples of source items for the 95 %% intervals, 0 for none (default: %(default)s)",
    )
    made.add_argument(
        "--limit", type=_at_least(1), metavar="N", help="only the first rows of the split (default: all)"
    )
    made.add_argument(
        "--image-root",
        type=Path,
        metavar="DIR",
        help="folder of the pictures, if they were moved since ingest",
    )
    made.add_argument("--json", action="store_true", help="print the metrics as JSON on standard output")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        metrics = run(args)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        end_processes()
    if not metrics:
        return 0
    if args.json:
        json.dump(metrics, sys.stdout, allow_nan=False)
        print()
    else:
        from training.metrics.table import render

        print(render(metrics))
        print(f"\n{args.to / 'report.html'}")
    return 0


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate and write the page; returns the metrics on rank 0, nothing elsewhere."""
    from training.engine.evaluating import evaluate_checkpoint, writing
    from training.report.page import write_page

    metrics = evaluate_checkpoint(
        args.checkpoint,
        args.data,
        args.split,
        args.to,
        draws=args.bootstrap,
        limit=args.limit,
        image_root=args.image_root,
        progress=True,
    )
    if metrics:
        with writing(args.to):
            write_page(args.to)
    return metrics


def end_processes() -> None:
    """Leave the process group, where there is one."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _at_least(least: int) -> Callable[[str], int]:
    def number(value: str) -> int:
        if not value.isdecimal() or int(value) < least:
            raise argparse.ArgumentTypeError(f"{value!r} is not a whole number of {least} or more")
        return int(value)

    return number


if __name__ == "__main__":
    raise SystemExit(main())
