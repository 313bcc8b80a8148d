"""Trains and evaluates the runs of a plan, several at a time, and goes on where it was stopped."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from training.ablation.launching import Share, ask_to_stop, evaluate_command, start, train_command
from training.ablation.plan import Plan, PlannedRun, stamp
from training.ablation.progress import Forecast, for_people, share_done
from training.config import dump_config
from training.engine.files import write_json, write_text
from training.engine.signals import StopSignal
from training.errors import Interrupted, UsageError

log = logging.getLogger(__name__)

POLL = 0.2
REPORT_EVERY = 60.0
"""Seconds."""


def trained(run: PlannedRun) -> bool:
    """Tell whether a run was trained to its end; the trainer writes its metrics last."""
    return (run.folder / "metrics.json").is_file()


def evaluated(run: PlannedRun, split: str) -> bool:
    """Tell whether a run's evaluation on a split is complete."""
    return trained(run) and (run.folder / split / "complete.json").is_file()


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep a second ablation out of the folder.

    Raises:
        UsageError: One is at work in it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".lock").open("ab")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}; choose another --to") from None
    with stream:
        if not _locked(stream):
            raise UsageError(
                f"{folder}: another ablation is at work here; wait for it or choose another --to"
            )
        yield


def _locked(stream: IO[bytes]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass
class _Job:
    run: PlannedRun
    share: Share
    lock: IO[bytes]
    before: float
    began: float = field(default_factory=time.monotonic)
    process: subprocess.Popen[bytes] | None = None
    output: Path = Path()
    offset: int = 0
    training: bool = False


class Runner:
    """Brings every run of a plan to its evaluation.

    Args:
        plan: What to train.
        data: Folder of the tables.
        split: Split to evaluate.
        shares: Of the machine, one per job.
        launch: Arguments for ``accelerate launch``; empty: those that follow from the share.
    """

    def __init__(
        self, plan: Plan, data: Path, split: str, shares: Sequence[Share], launch: Sequence[str] = ()
    ) -> None:
        self._plan, self._data, self._split, self._launch = plan, data, split, launch
        self._free = list(shares)
        self._jobs_at_once = len(shares)
        self._waiting = [run for run in plan.runs if not evaluated(run, split)]
        self._done = len(plan.runs) - len(self._waiting)
        self._jobs: list[_Job] = []
        self._left_behind: set[str] = set()
        self._forecast = Forecast()
        self.failures: dict[str, str] = {}

    def run(self) -> None:
        """Run until every run is evaluated or has failed; ``failures`` then says why, by run.

        Raises:
            Interrupted: SIGTERM or SIGINT came; the running trainings have saved themselves.
        """
        if self._done:
            log.info("%d of %d runs are there already", self._done, len(self._plan.runs))
        spoken = time.monotonic()
        with StopSignal() as stop:
            while (self._waiting or self._jobs) and not stop.requested:
                self._start_more()
                time.sleep(POLL)
                self._look()
                if time.monotonic() - spoken > REPORT_EVERY:
                    spoken = time.monotonic()
                    log.info("%s", self._state())
            if stop.requested and (self._waiting or self._jobs):
                self._stop()

    def _start_more(self) -> None:
        for run in list(self._waiting):
            if not self._free:
                return
            stamp(run, self._plan.data)
            lock = (run.folder / ".lock").open("ab")
            if not _locked(lock):
                lock.close()
                if run.name not in self._left_behind:
                    self._left_behind.add(run.name)
                    log.info("%s: still being trained, left behind by a killed ablation; waiting", run.name)
                continue
            self._waiting.remove(run)
            job = _Job(run, self._free.pop(0), lock, share_done(run.folder, run.config))
            self._jobs.append(job)
            self._next_stage(job)

    def _next_stage(self, job: _Job) -> None:
        run = job.run
        job.training = not trained(run)
        job.output = run.folder / ("train.log" if job.training else "evaluate.log")
        if job.training:
            log.info("%s: training%s", run.name, " goes on" if job.before else "")
            config = run.folder / "started-with.yaml"
            write_text(config, dump_config(run.config))
            command = train_command(run, config, job.share, self._launch)
        else:
            command = evaluate_command(run, self._data, self._split, run.folder / self._split)
        with job.output.open("ab") as stream:
            job.offset = stream.tell()
            job.process = start(command, job.share, stream, job.lock)

    def _look(self) -> None:
        for job in list(self._jobs):
            assert job.process is not None
            code = job.process.poll()
            if code is None:
                continue
            if code == 0 and job.training and trained(job.run):
                self._next_stage(job)
            else:
                self._end(job, code)

    def _end(self, job: _Job, code: int) -> None:
        self._jobs.remove(job)
        self._free.append(job.share)
        run, seconds = job.run, time.monotonic() - job.began
        if code == 0 and not job.training:
            write_json(run.folder / self._split / "complete.json", {"seconds": round(seconds, 1)})
            self._done += 1
            self._forecast.finished(seconds, 1 - job.before)
            log.info("%s: done in %.0f s; %s", run.name, seconds, self._state())
        else:
            self.failures[run.name] = f"{_last_words(job)} (exit code {code}; all of it in {job.output})"
            log.error("%s failed: %s", run.name, self.failures[run.name])
        job.lock.close()

    def _stop(self) -> None:
        for job in self._jobs:
            assert job.process is not None
            log.info("%s: asked to stop", job.run.name)
            ask_to_stop(job.process)
        for job in self._jobs:
            assert job.process is not None
            job.process.wait()
            job.lock.close()
        raise Interrupted(
            f"stopped: {self._done} of {len(self._plan.runs)} runs are done; the same command goes on"
        )

    def _state(self) -> str:
        running = [(job, share_done(job.run.folder, job.run.config)) for job in self._jobs]
        now = time.monotonic()
        left = self._forecast.seconds_left(
            [(now - job.began, job.before, share) for job, share in running],
            len(self._waiting),
            self._jobs_at_once,
        )
        shares = ", ".join(f"{100 * share:.0f} %" for _, share in running)
        at_work = f", {len(running)} running ({shares})" if running else ""
        left_words = f", {for_people(left)}" if self._waiting or self._jobs else ""
        return f"{self._done} of {len(self._plan.runs)} runs done{at_work}{left_words}"


def _last_words(job: _Job) -> str:
    """Return the last line that the trainer or the evaluation wrote before any launcher's traceback."""
    with job.output.open("rb") as stream:
        stream.seek(job.offset)
        text = stream.read().decode(errors="replace")
    head, _, tail = text.partition("Traceback (most recent call last)")
    lines = [line.strip() for line in (head if head.strip() else tail).splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
