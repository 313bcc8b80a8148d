"""A worker process: ``python -m pipeline.fleet.worker``, started by ``pipeline.fleet.process``.

It reads its order from the first line of stdin, logs JSON lines to stderr and writes how it ended as the last
line of stdout. It ends with whoever started it: when stdin closes, it stops as on SIGTERM.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pipeline.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, PipelineError
from pipeline.fleet.order import Order
from pipeline.logs import set_up
from pipeline.storage import explain
from schemas.layout import TableError

RESULT = "dgm4-worker-end "
"""Begins the last line of stdout; libraries may write there, too."""

LEFT_ALONE_S = 30.0
"""A worker that nobody waits for, and that does not stop by itself in this time, is ended."""


def main() -> int:
    """Work until the table is finished; return the exit code."""
    set_up(verbose=bool(os.environ.get("DGM4_VERBOSE")), wanted="json")
    order = Order.from_dict(json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_owner, daemon=True, name="tether").start()
    code, message = work(order)
    print(f"{RESULT}{json.dumps({'exit_code': code, 'message': message})}", flush=True)
    return code


def work(order: Order) -> tuple[int, str]:
    """Write what is missing of the table, beside others; return the exit code and what there is to say."""
    from pipeline.config import load_config
    from pipeline.run import generate_table

    try:
        summary = generate_table(
            order.table,
            load_config(order.config, order.overrides),
            Path(order.out),
            image_root=Path(order.image_root) if order.image_root else None,
            carry=order.carry,
            as_worker=True,
        )
    except (PipelineError, TableError) as error:
        return (error.exit_code if isinstance(error, PipelineError) else EXIT_USAGE), str(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED, "interrupted"
    except OSError as error:
        message = explain(error)
        if message is None:
            raise
        return EXIT_USAGE, message
    # How many failed is for the run to judge, once.
    return EXIT_OK, f"{summary.written:,} rows"


def _end_with_owner() -> None:
    # Not through sys.stdin, whose lock the end of the interpreter would wait for.
    while os.read(0, 4096):
        pass
    logging.getLogger("pipeline.fleet").warning("whoever started this worker is gone; stopping")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LEFT_ALONE_S)
    os._exit(EXIT_INTERRUPTED)


def parse_end(stdout: str) -> dict[str, Any] | None:
    """Return what a worker wrote as its last line, None when it did not come to that."""
    for line in reversed(stdout.splitlines()):
        if line.startswith(RESULT):
            found: dict[str, Any] = json.loads(line[len(RESULT) :])
            return found
    return None


if __name__ == "__main__":
    sys.exit(main())
