"""Command line of the newsroom: draws a DGM4-shaped data set."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from demo.newsroom.world import DEFAULT_TRACES, SPLIT_SHARES, generate_items
from demo.newsroom.writer import distinct_pictures, write_ground_truth, write_metadata, write_pictures

FOLDERS = ("metadata", "origin", "manipulation")
"""What a data folder holds, as DGM4 names it."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo.newsroom",
        description="Draws a synthetic news data set in DGM4's layout and annotation format.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="data folder to write")
    parser.add_argument("--samples", type=int, default=1000, metavar="N", help="rows over all splits")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the same seed gives the same bytes")
    parser.add_argument(
        "--traces",
        type=float,
        default=DEFAULT_TRACES,
        metavar="X",
        help="strength of the blending traces of pasted faces: 0 (none) to 1 (plain to the eye)",
    )
    parser.add_argument(
        "--splits",
        type=float,
        nargs=3,
        default=list(SPLIT_SHARES.values()),
        metavar=("TRAIN", "VAL", "TEST"),
        help="relative sizes of the splits",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes that draw"
    )
    parser.add_argument(
        "--ground-truth",
        type=Path,
        metavar="FILE",
        help="also write, as JSON lines, the caption and the facts of what each picture shows",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that is in DIR")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _make_room(parser: argparse.ArgumentParser, out: Path, overwrite: bool) -> None:
    if not (out / "metadata").exists():
        return
    if not overwrite:
        parser.error(f"{out} already holds a data set; give another --out, or --overwrite to replace it")
    for name in FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Metadata is written last, so a folder with metadata is complete.

    Args:
        argv: Arguments; those of the process when None.

    Returns:
        The exit code: 0 done, 2 the folder cannot be written, 3 interrupted.

    Raises:
        SystemExit: With code 2, on arguments that cannot be used.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if args.samples < 1:
        parser.error(f"--samples is {args.samples}; give 1 or more")
    if args.workers < 1:
        parser.error(f"--workers is {args.workers}; give 1 or more")
    shares = dict(zip(SPLIT_SHARES, args.splits, strict=True))
    start = time.monotonic()
    try:
        items = list(generate_items(args.samples, args.seed, shares=shares, traces=args.traces))
    except ValueError as error:
        parser.error(str(error))
    _make_room(parser, args.out, args.overwrite)
    pictures = distinct_pictures(items)
    try:
        written = write_pictures(pictures, args.out, args.workers)
        every = 0.1 if sys.stderr.isatty() else 10.0
        bar = tqdm(written, "drawing", len(pictures), unit=" pictures", disable=args.quiet, mininterval=every)
        for _ in bar:
            pass
        write_metadata(items, args.out)
        if args.ground_truth:
            write_ground_truth(items, args.ground_truth)
    except OSError as error:
        print(f"cannot write {error.filename or args.out}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; {args.out} is incomplete, run the same command again", file=sys.stderr)
        return 3
    seconds = time.monotonic() - start
    print(f"{args.out}: {len(items)} samples, {len(pictures)} pictures, {seconds:.1f} s")
    return 0
