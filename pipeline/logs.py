"""How log lines look: for people, or one JSON object a line for whatever collects a cluster's logs."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

from pipeline.identity import identity

FORMAT = "DGM4_LOG_FORMAT"
"""Variable of the environment: ``json`` or ``text``."""

FORMATS = ("text", "json")

_NOISY = ("httpx", "urllib3", "filelock", "PIL", "matplotlib", "fsspec", "asyncio")


class JsonLines(logging.Formatter):
    """One JSON object per record.

    Its fields: ``time`` (UTC), ``level``, ``logger``, ``message``, ``run``, ``worker``, and, where there is
    one, ``table``, ``shard`` and ``error`` (a traceback).
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, str | int] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **identity().known(),
            # A line that is passed on for a worker keeps that worker's names.
            **getattr(record, "identity", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextLines(logging.Formatter):
    """Time, level, logger and message; a line that is passed on for a worker begins with its name."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname).1s %(name)s: %(message)s", datefmt="%H:%M:%S")


def wanted_format(asked: str | None = None) -> str:
    """Return ``text`` or ``json``: what the command line asks for, else the environment, else text."""
    wanted = asked or os.environ.get(FORMAT) or "text"
    return wanted if wanted in FORMATS else "text"


def formatter(wanted: str) -> logging.Formatter:
    """Return the formatter of ``text`` or ``json``."""
    return JsonLines() if wanted == "json" else TextLines()


def set_up(*, verbose: bool, wanted: str) -> None:
    """Send the log to stderr in the format that is wanted, and keep libraries quiet."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(wanted))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
