"""What ``captions`` and ``explanations`` share: arguments, the run, and its summary as text."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.costs.telling import bill_lines, gate_lines
from pipeline.errors import EXIT_OK, EXIT_TOO_MANY_FAILURES, UsageError
from pipeline.progress import duration

Subparsers = Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command that writes a table."""
    add_configuration(parser)
    parser.add_argument(
        "--new-version",
        action="store_true",
        help="start a new version beside one that was made with other settings",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        help="worker processes, each with the model loaded; auto: one per visible GPU (the configuration's "
        "workers by default)",
    )
    parser.add_argument(
        "--no-carry",
        action="store_true",
        help="make every text of a new version anew; else those made from the same inputs are copied",
    )


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which models run on what."""
    parser.add_argument(
        "--config", type=Path, required=True, metavar="C", help="YAML file, e.g. configs/demo.yaml"
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder that holds the samples table")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="A.B=V",
        help="override a value of the configuration; may be given several times",
    )
    parser.add_argument(
        "--engine",
        choices=["auto", "transformers", "vllm", "echo"],
        help="run the models with this engine instead of the configuration's",
    )
    parser.add_argument(
        "--image-root", type=Path, metavar="DIR", help="folder of the images, if moved since ingest"
    )


def run(table: str, args: argparse.Namespace) -> dict[str, Any]:
    """Generate what is missing of ``table`` and return the summary."""
    from pipeline.config import load_config
    from pipeline.fleet.local import write_with_workers
    from pipeline.fleet.order import Order
    from pipeline.fleet.seats import seats_for
    from pipeline.identity import identity
    from pipeline.run import generate_table, prepare

    overrides = overrides_of(args, [table])
    config = load_config(args.config, overrides)
    if config.runner != "local":
        raise UsageError(
            f"runner is {config.runner}, which the flows start: python -m flows.{table} with the same "
            "options; or add --set runner=local"
        )
    options: dict[str, Any] = {"image_root": args.image_root, "carry": not args.no_carry}
    seats = seats_for(config, table)
    if len(seats) == 1:
        return generate_table(table, config, args.out, new_version=args.new_version, **options).as_dict()
    order = Order.of(table, args.config, args.out, identity().run, overrides=tuple(overrides), **options)
    summary = write_with_workers(
        lambda: prepare(table, config, args.out, new_version=args.new_version, **options), order, seats
    )
    return summary.as_dict()


def overrides_of(args: argparse.Namespace, tables: Sequence[str]) -> list[str]:
    """Return the overrides that the command line's options stand for, ``--set`` first.

    Args:
        args: What ``add_arguments`` parsed.
        tables: ``captions``, ``explanations`` or both: whose models ``--engine`` is for.
    """
    from pipeline.config import engine_overrides

    more = [] if args.workers is None else [f"workers={args.workers}"]
    return engine_overrides(args.config, [*args.overrides, *more], tables, args.engine)


def render(result: dict[str, Any]) -> str:
    """Return the summary as a few lines."""
    new = result["written"] + result["failed"] + result["quarantined"]
    speed = f" in {duration(result['seconds'])}"
    if new:
        rate = new / max(result["seconds"], 1e-9)
        speed += f" ({rate:,.1f} rows/s, {result['tokens_out']:,} tokens written)"
    lines = [
        f"{result['table']}: {result['planned']:,} planned = {result['written']:,} written + "
        f"{result['failed']:,} failed + {result['quarantined']:,} quarantined + "
        f"{result['skipped_existing']:,} there before{speed}",
        f"  in {result['path']}",
    ]
    lines[1:1] = _savings(result)
    if not new:
        lines.insert(1, "  nothing to do: every shard was committed before")
    if result["failed_total"]:
        lines.append(
            f"  {result['failed_total']:,} rows have no text; `export --table failures` lists the reasons, "
            "`retry-failed` tries them again"
        )
    lines += gate_lines(result["gates"])
    if result["bill"] is not None:
        lines += bill_lines(result["bill"])
    return "\n".join(lines)


def _savings(result: dict[str, Any]) -> list[str]:
    """Return what did not have to be generated, a line each."""
    lines = []
    if result["images_saved"]:
        lines.append(
            f"  {result['samples']:,} samples show {result['planned']:,} distinct images: "
            f"{result['images_saved']:,} captions saved"
        )
    if result["carried"] or result["shared"]:
        lines.append(
            f"  {result['generated']:,} generated, {result['carried']:,} carried over from older versions, "
            f"{result['shared']:,} shared with a row of the same prompt"
        )
    return lines


def exit_code(result: dict[str, Any]) -> int:
    """Return 4 when more rows failed than the configuration allows, else 0."""
    too_many = result["failed_total"] > result["max_failed_share"] * result["planned"]
    return EXIT_TOO_MANY_FAILURES if too_many else EXIT_OK
