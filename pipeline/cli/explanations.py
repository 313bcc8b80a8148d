"""``explanations``: write the missing explanations, one per sample."""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.cli import generate
from pipeline.cli.generate import exit_code, render

__all__ = ["add_parser", "exit_code", "render", "run"]


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "explanations", help="write the missing explanations, one per sample"
    )
    generate.add_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run the command."""
    return generate.run("explanations", args)
