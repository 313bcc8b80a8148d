"""Ingest as a Prefect task, in a process of its own.

The image pool of ``ingest`` starts its workers by importing the program they belong to; under Prefect each of
them would import Prefect. The command line is the contract here, as it is for any other caller.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from typing import IO, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled

from flows.local_server import ROOT
from flows.shards import worth_retrying
from pipeline.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, Interrupted, UsageError
from pipeline.stopping import StopRequest

log = logging.getLogger(__name__)

_STAMP = re.compile(r"^\d\d:\d\d:\d\d [A-Z] ")


def ingest_arguments(
    out: str, data: str | None, metadata: list[str] | None, image_root: str | None
) -> list[str]:
    """Return the arguments of ``python -m pipeline ingest``."""
    arguments = ["--out", out]
    if data is not None:
        arguments += ["--data", data]
    if metadata:
        arguments += ["--metadata", *metadata]
    if image_root is not None:
        arguments += ["--image-root", image_root]
    return arguments


@task(
    name="ingest",
    task_run_name="ingest into {out}",
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def ingest(stop: StopRequest, out: str, arguments: list[str]) -> Any:
    """Run ``python -m pipeline ingest`` and return its summary.

    Args:
        stop: Passed on to the process when a signal asks for a stop.
        out: Output folder, for the name of the task run.
        arguments: As from ``ingest_arguments``.

    Raises:
        UsageError: The process refused its input; the message is its own.
    """
    try:
        return run_ingest(arguments, stop)
    except Interrupted as error:
        return Cancelled(message=str(error), data=error)


def run_ingest(arguments: list[str], stop: StopRequest) -> dict[str, Any]:
    """Run ``python -m pipeline ingest``, pass its log on line by line, return its summary.

    Raises:
        UsageError: It refused its input.
        Interrupted: It was stopped; nothing of ``samples`` has changed.
        RuntimeError: It ended otherwise.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryFile() as stdout:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "ingest", "--json", *arguments],
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            # Ctrl-C reaches this process, which passes it on: twice would end the other at once.
            start_new_session=True,
        )
        errors: list[str] = []
        assert process.stderr is not None
        reader = threading.Thread(target=_pass_on, args=(process.stderr, errors), daemon=True)
        reader.start()
        try:
            code = _wait(process, stop)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        reader.join()
        stdout.seek(0)
        printed = stdout.read()
    if code == EXIT_OK:
        summary: dict[str, Any] = json.loads(printed)
        return summary
    message = "\n".join(errors).removeprefix("error: ")
    if code == EXIT_INTERRUPTED:
        raise Interrupted(message or "ingest was stopped; nothing was written")
    if code == EXIT_USAGE:
        raise UsageError(message)
    raise RuntimeError(f"ingest ended with exit code {code}; its last words are in the log above")


def _wait(process: subprocess.Popen[bytes], stop: StopRequest) -> int:
    told = False
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(0.2)
        if stop.signal is not None and not told:
            process.send_signal(signal.Signals(stop.signal))
            told = True


def _pass_on(stream: IO[bytes], errors: list[str]) -> None:
    """Log each line; from the one that begins with ``error:`` on they are the message of the failure."""
    for raw in stream:
        line = raw.decode(errors="replace").rstrip()
        if errors or line.startswith("error: "):
            errors.append(line)
        elif line:
            log.info("%s", _STAMP.sub("", line))
