"""``inspect``: one HTML page of pictures, texts, flags and figures to look through."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from schemas.vocabulary import SPLITS


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "inspect",
        help="write a page of pictures with their texts, flags and figures",
        description="Write one self-contained HTML page: pictures, news texts, captions, explanations, "
        "flags, failures, rejected rows and figures. It needs no server and no network.",
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--to", type=Path, required=True, metavar="F.html", help="file to write")
    parser.add_argument(
        "--limit", type=_count, default=200, metavar="N", help="most samples to show (default: %(default)s)"
    )
    parser.add_argument("--split", choices=SPLITS, help="show only samples of this split")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="K",
        help="another seed shows other samples (default: %(default)s)",
    )
    parser.add_argument(
        "--image-root",
        type=Path,
        metavar="DIR",
        help="folder of the images, when they were moved since ingest",
    )
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the page and return what is on it."""
    from pipeline.inspection import Options, write_page

    return write_page(
        Options(
            out=args.out,
            to=args.to,
            limit=args.limit,
            split=args.split,
            seed=args.seed,
            image_root=args.image_root,
        )
    )


def render(result: dict[str, Any]) -> str:
    """Return a few lines for the terminal."""
    of = f" of the {result['split']} split" if result["split"] else ""
    lines = [
        f"{result['to']}: {result['shown']:,} of {result['available']:,} samples{of}, "
        f"{result['bytes'] / 1e6:.1f} MB; open it in a browser",
        f"captions {result['captions']:,}, explanations {result['explanations']:,}, "
        f"failures {result['failures']:,}, quarantined {result['quarantined']:,}, set aside by gates "
        f"{sum(result['set_aside'].values()):,}",
    ]
    if result["pictures_missing"]:
        lines.append(
            f"{result['pictures_missing']:,} pictures could not be shown; --image-root names their folder"
        )
    return "\n".join(lines)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative; give how many samples to show, 0 for none")
    return value
