"""``examples``: where a table lies and a few of its rows, as text for a terminal."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from schemas.tables import GENERATED_TABLES


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "examples", help="show a few rows of a generated table"
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--table", required=True, choices=GENERATED_TABLES, help="which table")
    parser.add_argument("-n", type=int, default=2, help="how many rows (default 2)")
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Return rows spread evenly over the table, with the sample each belongs to.

    Explanations of manipulated texts come first: they are what the table is for.
    """
    import polars as pl

    from pipeline.jobs import JOBS
    from schemas import open_table

    key = JOBS[args.table].key
    table, samples = open_table(args.out, args.table), open_table(args.out, "samples")
    rows = table.scan().with_row_index("position")
    if args.table == "explanations":
        rows = rows.filter(pl.col("kind") == "manipulation")
    keys = rows.select(key, "position").collect(engine="streaming")
    if not len(keys):
        rows = table.scan().with_row_index("position")
        keys = rows.select(key, "position").collect(engine="streaming")
    count = min(args.n, len(keys))
    picked = keys.gather([index * len(keys) // count for index in range(count)]) if count else keys
    chosen = rows.filter(pl.col("position").is_in(picked.get_column("position").implode())).collect(
        engine="streaming"
    )
    wanted = ["image_path", "text", "original_text", "fake_cls"]
    shown = (
        samples.scan()
        .filter(pl.col(key).is_in(picked.get_column(key).implode()))
        .select(key, *wanted)
        .unique(key, keep="first")
        .collect(engine="streaming")
    )
    joined = chosen.join(shown, on=key, how="left", maintain_order="left").drop("position")
    return {
        "table": args.table,
        "path": str(table.version),
        "rows": table.num_rows,
        "examples": joined.to_dicts(),
    }


def render(result: dict[str, Any]) -> str:
    """Return the examples as indented blocks."""
    lines = [f"{result['table']}: {result['rows']:,} rows in {result['path']}"]
    for row in result["examples"]:
        lines.append("")
        lines.append(f"  image        {row['image_path']}  [{row['fake_cls']}]")
        if result["table"] == "captions":
            lines += _block("caption", row["caption"])
            continue
        lines += _block("text", row["text"])
        if row["original_text"] is not None:
            lines += _block("original", row["original_text"])
        lines += _block(row["kind"] if row["kind"] == "description" else "explanation", row["explanation"])
    return "\n".join(lines)


def _block(name: str, text: str) -> list[str]:
    body = textwrap.wrap(text, 96) or [""]
    return [f"  {name:<12} {body[0]}", *(f"  {'':<12} {line}" for line in body[1:])]
