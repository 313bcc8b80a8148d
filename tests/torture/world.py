"""The tables that are killed, and what an uninterrupted run makes of them."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from pipeline.shards.verify import verify
from schemas import layout
from schemas.marker import MarkerError, read_marker
from tests.builders import list_markers, write_echo_config, write_samples
from tests.pipeline.killing import rows_of, run

RETRY = "retry-failed"
JOBS = ("captions", "explanations", RETRY)
"""What is killed; the last one mends the failures of a table of explanations."""

ROWS = 60
CONFIG = """
captions: {model: captioner, shard_size: 8, max_failed_share: 1}
explanations: {model: chat, shard_size: 6, max_failed_share: 1}
models:
  captioner: {kind: instructblip, engine: echo, echo: {latency_s: 0.002, failure_share: 0.1}}
  chat: {kind: chat, engine: echo, echo: {latency_s: 0.002, failure_share: 0.1}}
"""


@dataclass(frozen=True)
class Expected:
    """What a job's table must hold.

    Attributes:
        rows: Its rows, sorted by key.
        failures: Its failures without the time of the attempt.
        files: Shard to the hash of its data file; None where an uninterrupted run may group rows otherwise.
        seconds: Time the uninterrupted run took.
    """

    rows: pl.DataFrame
    failures: pl.DataFrame
    files: dict[int, str] | None
    seconds: float


class World:
    """A samples table that every episode starts from.

    Attributes:
        folder: Holds everything.
        expected: Job to what its table must hold.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_samples(folder / "template", ROWS, rows_per_shard=25)
        self._config = write_echo_config(folder, CONFIG)
        self.expected = {job: self._uninterrupted(job) for job in JOBS}
        # A retry must end in the table of a run without failures to mend, but for who wrote which file.
        self.expected[RETRY] = replace(
            self.expected["explanations"], files=None, seconds=self.expected[RETRY].seconds
        )

    def copy(self, job: str, name: str) -> Path:
        """Return a new output folder with the samples in it, for a retry also a table with failures."""
        out = self.folder / name
        shutil.copytree(self.folder / "template" / "samples", out / "samples")
        if job == RETRY:
            failing = self.folder / "failing" / "explanations"
            if not failing.is_dir():
                shutil.copytree(out / "samples", failing.parent / "samples")
                outage = ["--set", "models.chat.echo.outage_share=0.4"]
                _must(run([*self.command("explanations", failing.parent), *outage]), "the run with failures")
            shutil.copytree(failing, out / "explanations")
        return out

    def command(self, job: str, out: Path) -> list[str]:
        """Return the arguments of the command that writes a job's table."""
        command = [job, "--config", str(self._config), "--out", str(out)]
        return [*command, "--class", "out_of_memory"] if job == RETRY else command

    def _uninterrupted(self, job: str) -> Expected:
        # The fork server's own start is not part of the time.
        run(self.command(job, self.copy(job, f"warm-{job}")))
        out = self.copy(job, f"whole-{job}")
        started = time.monotonic()
        _must(run(self.command(job, out)), f"the uninterrupted run of {job}")
        seconds = time.monotonic() - started
        table = table_of(job)
        expected = Expected(rows_of(out, table), failures_of(out), files_of(out, table), seconds)
        if len(expected.rows) + len(expected.failures) != ROWS or not len(expected.failures):
            raise RuntimeError(f"{job}: {len(expected.rows)} rows and {len(expected.failures)} failures")
        return expected


def _must(code: int, what: str) -> None:
    if code != 0:
        raise RuntimeError(f"{what} ended with {code}")


def table_of(job: str) -> str:
    """Return the table that a job writes."""
    return "explanations" if job == RETRY else job


def failures_of(out: Path) -> pl.DataFrame:
    """Return the failures without the time of the attempt, which no two runs share."""
    rows = rows_of(out, "failures")
    return rows.drop("last_attempt") if len(rows.columns) else rows


def files_of(out: Path, table: str) -> dict[int, str]:
    """Return shard to the sha256 of its data file, for the shards that are committed."""
    try:
        version = layout.current_version(out, table)
    except layout.NoSuchTable:
        return {}
    found = {}
    for path in list_markers(version):
        try:
            marker = read_marker(path)
        except MarkerError:
            continue
        found[marker.shard] = marker.data.sha256
    return found


def half_written(out: Path, table: str, expected: Expected) -> list[tuple[Path, str]]:
    """Return where a reader would see what is not right, and what; shards that are missing yet are right."""
    report = verify(out, deep=True)
    wrong = [
        (Path(p.where), f"{p.where}: {p.what}")
        for p in report.problems
        if "has not been written" not in p.what
    ]
    seen = rows_of(out, table)
    if len(seen):
        key = seen.columns[0]
        right = expected.rows.join(seen.select(key), on=key, how="semi").sort(key)
        if not seen.equals(right):
            wrong.append((out, f"{out}: a reader sees rows that an uninterrupted run does not write"))
    return wrong
