"""A container's health check: exit code 0 when HEALTH_URL answers with 200.

Without HEALTH_URL: when a process of the container besides this one is neither stopped nor dead.
"""

import os
import sys
import urllib.request
from pathlib import Path

STANDING_STILL = "TtZX"


def answers(url: str) -> bool:
    """Return whether the page answers with 200 within 4 s; proxies of the environment are not asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=4) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def moving(processes: Path = Path("/proc")) -> bool:
    """Return whether a process that the container was started for can go on (Linux)."""
    for folder in processes.glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        # A health check is started from outside the container: its parent is 0, and so is that of process 1.
        outside = parent == "0" and folder.name != "1"
        if int(folder.name) != os.getpid() and not outside and state not in STANDING_STILL:
            return True
    return False


if __name__ == "__main__":
    given = os.environ.get("HEALTH_URL")
    sys.exit(0 if (answers(given) if given else moving()) else 1)
