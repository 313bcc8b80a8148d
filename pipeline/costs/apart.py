"""The forecast of one table in a process of its own, as its run will be.

What a run pays once, imports among it, is paid by the first table of a process alone. The command line is the
contract here, as it is for any other caller.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.errors import PipelineError
from pipeline.stopping import StopRequest

_LOOK_EVERY_S = 0.2
_END_S = 20.0


class ForecastEnded(PipelineError):
    """The process of a table's forecast ended without one, and has said why."""

    def __init__(self, table: str, exit_code: int) -> None:
        super().__init__(f"no forecast of {table}; the line above says why")
        self.exit_code = exit_code


def forecast_apart(table: str, arguments: Sequence[str], stop: StopRequest) -> dict[str, Any]:
    """Run ``python -m pipeline forecast --table TABLE --json`` and return the table's forecast.

    Args:
        table: ``captions`` or ``explanations``.
        arguments: The other arguments.
        stop: A stop is passed on.

    Raises:
        ForecastEnded: The process did not end well.
        Interrupted: A signal asked for a stop.
    """
    command = [sys.executable, "-m", "pipeline", "forecast", "--table", table, "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while True:
            try:
                stdout, _ = process.communicate(timeout=_LOOK_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                if stop.signal is not None:
                    process.terminate()
                    try:
                        process.wait(_END_S)
                    except subprocess.TimeoutExpired:
                        process.kill()
                    stop.check("forecast: nothing was written; the same command starts again")
    if process.returncode:
        raise ForecastEnded(table, process.returncode if process.returncode > 0 else 1)
    forecast: dict[str, Any] = json.loads(stdout)["tables"][table]
    return forecast
