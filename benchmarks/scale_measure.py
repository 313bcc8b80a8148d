"""One operation on large tables in a process of its own: ``python -m benchmarks.scale_measure WHAT OUT``.

Prints one JSON object: wall and processor seconds of the operation (imports left out), files that Python
opened below OUT and bytes that this process read meanwhile, and the most memory it held. A third argument
``trace`` adds the most that Python and Arrow had allocated at a time, and makes it slow.
"""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.scale_tables import config
from pipeline.carrying import Carrier
from pipeline.run import prepare
from pipeline.shards.status import all_status
from pipeline.shards.verify import verify
from schemas.layout import current_version, read_version


def main(argv: list[str]) -> None:
    """Run an operation of ``OPERATIONS`` and print what it took."""
    what, out = argv[0], Path(argv[1])
    opened = 0
    inside = str(out)

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal opened
        if event == "open" and str(arguments[0]).startswith(inside):
            opened += 1

    if what == "index":
        pa.array([0])  # Arrow imports pandas with its first array, long before in a command that writes texts
    trace = argv[2:] == ["trace"]
    memory, read = _peak(), _bytes_read()
    if trace:
        tracemalloc.start()
    sys.addaudithook(count)
    started, worked = time.perf_counter(), time.process_time()
    result = OPERATIONS[what](out)
    seconds, worked = time.perf_counter() - started, time.process_time() - worked
    allocated = {}
    if trace:
        python, arrow = tracemalloc.get_traced_memory()[1], pa.default_memory_pool().max_memory()
        allocated = {"python_mb": round(python / 1e6, 2), "arrow_mb": round(arrow / 1e6, 2)}
    print(
        json.dumps(
            {
                **allocated,
                "seconds": round(seconds, 4),
                "processor_seconds": round(worked, 4),
                "opened": opened,
                "bytes_read": _bytes_read() - read,
                "peak_mb": round(_peak(), 1),
                "start_mb": round(memory, 1),
                "result": result,
            }
        )
    )


def _plan(table: str) -> Callable[[Path], dict[str, Any]]:
    def plan(out: Path) -> dict[str, Any]:
        made = prepare(table, config(), out).plan
        return {"planned": made.planned, "shards": made.shards, "pending": len(made.pending())}

    return plan


def _status(out: Path) -> dict[str, Any]:
    tables = all_status(out)
    return {"rows": sum(table.rows for table in tables), "shards": sum(t.shards_done for t in tables)}


def _verify(out: Path) -> dict[str, Any]:
    report = verify(out)
    return {"ok": report.ok, "problems": len(report.problems)}


def _index(out: Path) -> dict[str, Any]:
    """Find texts of the present explanations as a newer version would, the index built first."""
    version = current_version(out, "explanations")
    carrier = Carrier(out, "explanations", out / "none", read_version(version)["fields"])
    started = time.perf_counter()
    built = len(carrier.sources[0].entries)
    seconds = time.perf_counter() - started
    return {"files": built, "build_seconds": round(seconds, 3)}


OPERATIONS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "plan-captions": _plan("captions"),
    "plan-explanations": _plan("explanations"),
    "status": _status,
    "verify": _verify,
    "index": _index,
}


def _peak() -> float:
    # Not ru_maxrss: a child begins with its parent's.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _bytes_read() -> int:
    line = Path("/proc/self/io").read_text().splitlines()[0]
    return int(line.removeprefix("rchar: "))


if __name__ == "__main__":
    main(sys.argv[1:])
