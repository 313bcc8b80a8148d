"""``export``: one flat Parquet file of a version of a table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from schemas.tables import TABLES


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "export", help="write a table, or an old version of it, as one Parquet file"
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--table", required=True, choices=list(TABLES), help="which table")
    parser.add_argument("--to", type=Path, required=True, metavar="F.parquet", help="file to write")
    parser.add_argument(
        "--split", choices=("train", "val", "test"), help="only this split (tables with a split)"
    )
    parser.add_argument(
        "--version", metavar="V", help="another version than the current one, e.g. v-1a2b3c4d5e6f"
    )
    parser.add_argument(
        "--part",
        choices=("rows", "quarantined"),
        default="rows",
        help="quarantined: the rows that a gate set aside instead of the table's",
    )
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Stream the table into one file, which appears whole or not at all."""
    import pyarrow.parquet as pq

    from pipeline.shards import atomic
    from schemas import open_table

    if args.to.suffix != ".parquet":
        raise UsageError(f"--to {args.to}: only Parquet is written; give a name that ends in .parquet")
    if args.to.is_dir():
        raise UsageError(f"--to {args.to}: is a folder; give a file name inside it")
    if not args.to.parent.is_dir():
        raise UsageError(f"--to {args.to}: the folder {args.to.parent} does not exist; make it first")
    table = open_table(args.out, args.table, args.version, part=args.part)
    rows = 0
    with atomic.temporary(args.to) as path:
        with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
            for batch in table.batches(split=args.split):
                writer.write_batch(batch)
                rows += batch.num_rows
        atomic.publish(path, args.to)
    return {
        "table": args.table,
        "version": table.version.name,
        "rows": rows,
        "bytes": args.to.stat().st_size,
        "to": str(args.to),
        "shards_skipped": list(table.skipped),
    }


def render(result: dict[str, Any]) -> str:
    """Return one line."""
    return f"{result['to']}: {result['rows']:,} rows of {result['table']}, {result['bytes']:,} bytes"
