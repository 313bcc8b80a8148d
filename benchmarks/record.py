"""What every benchmark shares: the machine, where figures are kept, the memory that a run took."""

from __future__ import annotations

import datetime
import json
import os
import platform
import threading
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
BUSY = "other programs may have shared the cores; best of the runs is nearest to an idle machine"


def machine() -> dict[str, Any]:
    """Return what the figures depend on beside the code."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "python": platform.python_version(),
        "load_average_after": round(os.getloadavg()[0], 2),
    }


def save(name: str, benchmark: str, results: Any, note: str = BUSY, **facts: Any) -> Path:
    """Write figures with date and machine as ``benchmarks/results/NAME-DATE.json``; return the file."""
    today = datetime.date.today().isoformat()
    path = RESULTS / f"{name}-{today}.json"
    path.parent.mkdir(exist_ok=True)
    record = {"benchmark": benchmark, "date": today, "machine": machine(), **facts, "note": note}
    path.write_text(json.dumps({**record, "results": results}, indent=1) + "\n")
    return path


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


class MemoryWatch(threading.Thread):
    """Samples the resident memory of a process and its children (Linux)."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.process = process
        self.peak = 0
        self._end = threading.Event()

    def run(self) -> None:
        """Sample until stopped."""
        while not self._end.wait(0.02):
            self.peak = max(self.peak, sum(map(resident, family(self.process))))

    def stop(self) -> None:
        """End the sampling."""
        self._end.set()
        self.join()


def family(process: int) -> list[int]:
    """Return a process and all processes it started, as far as they live."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return [process]
    return [process, *(each for child in children for each in family(int(child)))]


def resident(process: int) -> int:
    """Return the resident bytes of a process, 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
