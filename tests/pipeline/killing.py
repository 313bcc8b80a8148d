"""Runs of the command line in a child process that dies by SIGKILL at a chosen system call or moment."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.engines import Request, Result
from pipeline.shards.verify import verify
from schemas import NoSuchTable, open_table
from schemas.tables import key_of

# A fork server has the imports done, so a child starts in milliseconds; plain fork would inherit the threads
# of polars and Arrow in an unknown state.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("pipeline.__main__", "pipeline.run", "pipeline.cli.captions", "pipeline.cli.explanations"),
        *("pipeline.engines.echo", "pipeline.jobs.explanations", "pyarrow.dataset", "pandas"),
    ]
)


def _die_at(call: str, number: int, after: bool) -> None:
    original: Callable[..., Any] = getattr(os, call)
    count = 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count < number:
            return original(*args, **kwargs)
        if after:
            original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    setattr(os, call, deadly)


def _note_generated(notes: Path) -> None:
    """Append the key of each row that the fake engine answers to a file of this process."""
    from pipeline.engines.echo import EchoEngine

    answer = EchoEngine._answer
    stream = (notes / f"generated-{os.getpid()}").open("a", buffering=1)

    def noting(engine: EchoEngine, request: Request) -> Result:
        result = answer(engine, request)
        stream.write(f"{request.key}\n")
        return result

    EchoEngine._answer = noting  # type: ignore[method-assign]


def generated(notes: Path) -> list[str]:
    """Return the keys that all processes with these notes generated, committed or not."""
    return [key for path in notes.glob("generated-*") for key in path.read_text().split()]


def _child(argv: list[str], death: tuple[str, int, bool] | None, notes: Path | None) -> None:
    from pipeline.__main__ import main

    # The fork server may have been started by another test while it held these back.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    if notes is None:
        logging.disable(logging.CRITICAL)
    said = os.devnull if notes is None else notes / f"said-{os.getpid()}"
    sys.stdout = sys.stderr = open(said, "a", buffering=1)  # noqa: SIM115 - lives as long as the process
    if notes is not None:
        _note_generated(notes)
    if death is not None:
        _die_at(*death)
    sys.exit(main(argv))


def start(argv: list[str], death: tuple[str, int, bool] | None = None, notes: Path | None = None) -> Any:
    """Start ``python -m pipeline ARGV`` in a child.

    Args:
        argv: The command's arguments.
        death: Name in ``os``, nth call, whether after the call: where the child kills itself.
        notes: Folder for what the child generates (``generated``) and what it prints (``said-PID``).
    """
    child = CONTEXT.Process(target=_child, args=(argv, death, notes))
    child.start()
    return child


def run(argv: list[str], death: tuple[str, int, bool] | None = None) -> int:
    """Run a command to its end or death and return its exit code; -9 is SIGKILL."""
    child = start(argv, death)
    child.join()
    return int(child.exitcode)


def rows_of(out: Path, table: str) -> pl.DataFrame:
    """Return a table's rows sorted by key; none when it does not exist yet."""
    try:
        return open_table(out, table).to_polars().sort(list(key_of(table)))
    except NoSuchTable:
        return pl.DataFrame()


def assert_nothing_half_written(out: Path, table: str, expected: pl.DataFrame) -> int:
    """Check that what a reader sees is a subset of the right rows; return how many."""
    seen = rows_of(out, table)
    if len(seen):
        key = list(key_of(table))
        assert seen.equals(expected.join(seen.select(key), on=key, how="semi").sort(key))
    return len(seen)


def assert_whole(out: Path, table: str, expected: pl.DataFrame) -> None:
    """Check that a table holds exactly the expected rows and that everything on disk verifies."""
    assert rows_of(out, table).equals(expected)
    report = verify(out, deep=True)
    assert report.ok, report.problems
