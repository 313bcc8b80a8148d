"""How a flow run is told to stop: by a signal to the command, or through Prefect when a worker runs it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from pipeline.stopping import StopRequest, stop_on_signal


@contextlib.contextmanager
def run_stop(hours: float | None = None) -> Iterator[StopRequest]:
    """Yield what the run's loops look at before each row.

    In a worker's process SIGTERM is left to Prefect. It tells a cancelled run by it, and raises in the flow's
    thread; whoever catches that there sets the request, so that the shard in hand ends at its next row too.

    Args:
        hours: Ask for a stop after so many hours, e.g. where a machine is free at night only.
    """
    with contextlib.ExitStack() as stack:
        if "PREFECT__FLOW_RUN_ID" in os.environ:
            stop = StopRequest()
        else:
            stop = stack.enter_context(stop_on_signal())
        if hours is not None:
            timer = threading.Timer(hours * 3600, _time_is_up, (stop, hours))
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
        yield stop


def _time_is_up(stop: StopRequest, hours: float) -> None:
    stop.reason = f"stopped after {hours:g} h, as asked"
    stop.signal = stop.signal or signal.SIGALRM
