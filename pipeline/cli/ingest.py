"""``ingest``: annotation files -> the tables ``samples`` and ``quarantine``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from schemas.vocabulary import QUARANTINE_REASONS, SPLITS

_FORMATS = ("auto", "dgm4", "jsonl", "csv", "parquet")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "ingest",
        help="read annotations into samples and quarantine",
        description="Read DGM4 annotations (or JSONL, CSV, Parquet), check every row and every image, and "
        "write the tables samples and quarantine. A row that fails a check goes to quarantine with a code.",
    )
    parser.add_argument(
        "--metadata",
        type=Path,
        nargs="+",
        metavar="F",
        default=[],
        help="annotation files, e.g. train.json val.json",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="a DGM4 folder: finds metadata/*.json and the images"
    )
    parser.add_argument(
        "--image-root", type=Path, metavar="DIR", help="folder the image paths are relative to"
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--split", choices=SPLITS, help="split of every row (default: from the file names)")
    parser.add_argument(
        "--skip-images", action="store_true", help="touch no image file (no image keys, no sizes)"
    )
    parser.add_argument(
        "--format", choices=_FORMATS, default="auto", help="format of the files (default: by suffix)"
    )
    parser.add_argument(
        "--columns",
        metavar="FIELD=COLUMN,...",
        help="names in the files, e.g. id=uid,image=file,text=caption",
    )
    parser.add_argument(
        "--max-pixels", type=int, metavar="N", help="refuse images of more pixels (default: 89478485)"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that check images (default: one per core)"
    )
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Ingest and return the summary."""
    from pipeline.ingest import formats
    from pipeline.ingest.helper import Helper
    from pipeline.ingest.lean import without_pandas

    metadata, image_root = list(args.metadata), args.image_root
    if args.data is not None:
        if metadata:
            raise UsageError("--data and --metadata name annotation files both; give one of them")
        metadata, found_root = formats.find_data(args.data)
        image_root = image_root or found_root
    with Helper(metadata) as helper, without_pandas():
        from pipeline.ingest.run import Options, ingest
        from pipeline.ingest.summary import warnings_of

        options = Options(
            metadata=metadata,
            out=args.out,
            image_root=image_root,
            split=args.split,
            skip_images=args.skip_images,
            format=args.format,
            columns=formats.parse_columns(args.columns),
            max_pixels=args.max_pixels,
            workers=args.workers,
        )
        summary = ingest(options, helper)
        return {**summary, "warnings": warnings_of(summary, str(image_root))}


def render(summary: dict[str, Any]) -> str:
    """Return the summary as text."""
    lines = [
        f"{summary['rows_read']:,} rows read in {summary['seconds']:.1f} s:",
        f"  {summary['samples']:>9,} samples ({_counts(summary['by_split'])})",
        f"  {summary['duplicates']:>9,} duplicates",
        f"  {summary['quarantined']:>9,} in quarantine",
    ]
    lines += [
        f"    {count:>9,} {code}: {QUARANTINE_REASONS[code]}" for code, count in summary["by_reason"].items()
    ]
    if summary["text_manipulated"]:
        by = summary["original_text_by"]
        lines.append(
            f"original text known for {summary['original_text_coverage']:.1%} of "
            f"{summary['text_manipulated']:,} text-manipulated samples ({by['id']:,} by id, "
            f"{by['image_path']:,} by image)"
        )
    if summary["clamped_boxes"]:
        lines.append(f"{summary['clamped_boxes']:,} boxes reached over the image's edge and were cut there")
    images = summary["images"]
    if images["usable"] or images["unusable"]:
        lines.append(
            f"{images['usable']:,} image files, {images['distinct']:,} of distinct content: "
            f"{images['checked']:,} decoded now, {images['from_cache']:,} known from earlier, "
            f"{images['converted']:,} to be converted to RGB, {images['exif_rotated']:,} turned by EXIF"
        )
    if images["captions_saved"]:
        lines.append(
            f"{summary['samples']:,} samples show {images['captions_needed']:,} distinct images: "
            f"{images['captions_saved']:,} captions saved"
        )
    lines += [f"note: {warning}" for warning in summary["warnings"]]
    lines.append(f"{summary['out']}/samples/{summary['version']}")
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "none"
