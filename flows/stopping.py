"""How a flow run is told to stop: by a signal to the command, or through Prefect when a worker runs it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from pipeline.stopping import StopRequest, stop_on_signal


@contextlib.contextmanager
def run_stop() -> Iterator[StopRequest]:
    """Yield what the run's loops look at before each row.

    In a worker's process SIGTERM is left to Prefect. It tells a cancelled run by it, and raises in the flow's
    thread; whoever catches that there sets the request, so that the shard in hand ends at its next row too.
    """
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        yield StopRequest()
        return
    with stop_on_signal() as stop:
        yield stop
