"""``captions``: write the missing captions, one per distinct image."""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.cli import generate
from pipeline.cli.generate import exit_code, render

__all__ = ["add_parser", "exit_code", "render", "run"]


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "captions", help="write the missing captions, one per distinct image"
    )
    generate.add_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run the command."""
    return generate.run("captions", args)
