"""What the parts of the training benchmark share: settings, tables, and runs in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
_SLOW = 3600
"""Seconds after which a run is given up: compiling on a busy machine takes minutes."""


@dataclass(frozen=True)
class Settings:
    """What every measurement is told.

    Attributes:
        config: Of training, for all parts but the last.
        data: Folder of the tables.
        steps: Optimizer steps that are timed.
        quick: Measure less.
        scratch: An empty folder.
        peak_config: Of training, for the share of the matrix peak.
        peak_rows: Rows per step of that part.
    """

    config: Path
    data: Path
    steps: int
    quick: bool
    scratch: Path
    peak_config: Path
    peak_rows: int


@dataclass
class Table:
    """Figures side by side.

    Attributes:
        title: What was measured.
        by: The column that ``ratio`` compares with the first row; larger is faster.
        note: How to read it.
        rows: One mapping of column to value per variant; None prints as a dash.
    """

    title: str
    by: str
    note: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, variant: str, **values: Any) -> None:
        """Add a row; the ratio is that of its ``by`` to the first row's."""
        row = {"variant": variant, **values}
        first = self.rows[0] if self.rows else row
        mine, base = row.get(self.by), first.get(self.by)
        row["ratio"] = round(mine / base, 3) if mine and base else None
        self.rows.append(row)

    def text(self, heading: str = "") -> str:
        """Return the table as aligned Markdown."""
        names = list(dict.fromkeys(name for row in self.rows for name in row if name != "ratio")) + ["ratio"]
        cells = [[_shown(row.get(name)) for name in names] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
        lines = [names, ["-" * width for width in widths], *cells]
        body = [
            "| " + " | ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)) + " |" for line in lines
        ]
        return "\n".join([f"{heading}{self.title}", "", *body, *(["", self.note] if self.note else [])])


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def compiler_missing() -> str | None:
    """Return why torch.compile cannot run on this machine's CPU, or None."""
    compiler = os.environ.get("CXX", "g++")
    return None if shutil.which(compiler) else f"no C++ compiler ({compiler})"


def run_json(module: str, arguments: Sequence[str], what: str) -> dict[str, Any]:
    """Run a module of ours in a process of its own and return the JSON object on its last line.

    A process of its own: peak memory is that of one variant, and no variant finds another's caches warm.

    Args:
        module: Name of the module.
        arguments: Of its command line.
        what: Name of the variant, for messages.

    Raises:
        UsageError: The process failed; its own last words are the message.
    """
    done = run_logged([sys.executable, "-m", module, *arguments], what)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def run_logged(
    command: Sequence[str], what: str, cores: int = 0, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command from the project's root.

    Raises:
        UsageError: It failed or took too long.
    """
    print(f"measuring {what} ...", file=sys.stderr, flush=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), **(extra or {})}
    if cores:
        environment["OMP_NUM_THREADS"] = str(cores)
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_SLOW
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"{what}: no end after {_SLOW} s; lower --steps") from None
    if done.returncode:
        words = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise UsageError(f"{what}: exit code {done.returncode}: " + "\n".join(words[-5:]))
    return done
