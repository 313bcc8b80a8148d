"""``forecast``: what is still to be written costs so much, from a pilot of a few hundred rows."""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.cli.generate import add_configuration
from pipeline.progress import duration
from schemas.tables import GENERATED_TABLES


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "forecast",
        help="say what the missing captions and explanations will cost",
        description="Generate a few hundred of the missing rows, chosen at random, without writing them, and "
        "say what all of them will take: hours, device-hours, disk and, with price_per_device_hour in the "
        "configuration, money. Each with the interval that holds it nine times of ten.",
    )
    add_configuration(parser)
    parser.add_argument(
        "--table", choices=GENERATED_TABLES, action="append", help="only this table (default: both)"
    )
    parser.add_argument(
        "--rows", type=_positive, default=200, metavar="N", help="rows of the pilot (default: %(default)s)"
    )
    parser.add_argument(
        "--devices",
        type=_positive,
        default=None,
        metavar="N",
        help="devices of the run (default: one worker's)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="K",
        help="another seed draws other rows (default: %(default)s)",
    )
    parser.add_argument(
        "--no-carry", action="store_true", help="forecast a run that copies no texts of older versions"
    )
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run the pilots and return the forecast of each table and of all together."""
    from pipeline.config import engine_overrides, load_config
    from pipeline.costs.apart import forecast_apart
    from pipeline.costs.forecast import forecast_table, total
    from pipeline.costs.price import Price
    from pipeline.stopping import stop_on_signal

    names = args.table or list(GENERATED_TABLES)
    config = load_config(args.config, engine_overrides(args.config, args.overrides, names, args.engine))
    with stop_on_signal() as stop:
        if len(names) > 1:
            made = [forecast_apart(name, _arguments(args), stop) for name in names]
        else:
            made = [
                forecast_table(
                    names[0],
                    config,
                    args.out,
                    rows=args.rows,
                    devices=args.devices,
                    image_root=args.image_root,
                    carry=not args.no_carry,
                    seed=args.seed,
                    stop=stop,
                )
            ]
    return {
        "out": str(args.out),
        "tables": {forecast["table"]: forecast for forecast in made},
        **total(made, Price.of(config)),
    }


def _arguments(args: argparse.Namespace) -> list[str]:
    """Return the arguments as they were given, without the tables."""
    given = {
        "--config": args.config,
        "--out": args.out,
        "--rows": args.rows,
        "--devices": args.devices,
        "--seed": args.seed,
        "--engine": args.engine,
        "--image-root": args.image_root,
    }
    flags = ["--no-carry"] if args.no_carry else []
    named = [part for name, value in given.items() if value is not None for part in (name, str(value))]
    return named + flags + [part for override in args.overrides for part in ("--set", override)]


def render(result: dict[str, Any]) -> str:
    """Return the forecast as text."""
    lines = []
    for name, table in result["tables"].items():
        if not table["pilot_rows"]:
            what = "every missing row is carried over to" if table["rows"] else "nothing is missing of"
            lines.append(f"{name}: {what} {table['version']}")
            continue
        lines += [
            f"{name}: {table['rows']:,} rows to write into {table['version']}; a pilot of "
            f"{table['pilot_rows']:,} rows on {table['device']}",
            *_spared(table),
            f"  {table['rows_per_second']:,.1f} rows/s, {table['tokens_per_second']:,.0f} tokens/s on one "
            f"worker, {table['fixed_seconds']['estimate']:.0f} s to start it",
            f"  {_bounds(table)}",
        ]
    if len(result["tables"]) > 1:
        lines.append(f"together: {_bounds(result)}")
    return "\n".join(lines)


def _spared(table: dict[str, Any]) -> list[str]:
    spared = 1 - table["generated_share"]
    if not spared:
        return []
    return [f"  {spared:.0%} of them need no generating: carried over, or the same prompt as another row"]


def _bounds(numbers: dict[str, Any]) -> str:
    hours, disk = numbers["hours"], numbers["disk_bytes"]
    time = " to ".join(duration(hours[bound] * 3600) for bound in ("low", "high"))
    parts = [
        f"{duration(hours['estimate'] * 3600)} ({time})",
        f"{numbers['device_hours']['estimate']:,.4g} device-hours",
        f"{disk['estimate'] / 1e6:,.2f} MB ({disk['low'] / 1e6:,.2f} to {disk['high'] / 1e6:,.2f})",
    ]
    if numbers["cost"] is not None:
        cost = numbers["cost"]
        parts.append(
            f"{cost['estimate']:,.2f} {numbers['currency']} ({cost['low']:,.2f} to {cost['high']:,.2f})"
        )
    return ", ".join(parts)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is too small; give 1 or more")
    return value
