"""Pools, deployments and real Prefect workers for tests, on the server of the test process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

ROOT = Path(__file__).resolve().parents[2]


def prefect(url: str, *arguments: str, **variables: str) -> str:
    """Run ``prefect ARGUMENTS`` from the checkout and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=ROOT,
        env={**os.environ, "PREFECT_API_URL": url, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make_pools(api: Any, *names: str) -> None:
    """Create pools of processes."""
    for name in names:
        with contextlib.suppress(ObjectAlreadyExists):
            api.create_work_pool(WorkPoolCreate(name=name, type="process"))


class PrefectWorker:
    """``prefect worker start`` on a pool; killed with everything it started when the test ends."""

    def __init__(self, url: str, pool: str, log: Path, *, limit: int = 2) -> None:
        self._log = log.open("ab")
        self.log = log
        arguments = ["worker", "start", "--pool", pool, "--type", "process", "--limit", str(limit)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments, "--install-policy", "never"],
            cwd=ROOT,
            env={**os.environ, "PREFECT_API_URL": url, "PREFECT_WORKER_QUERY_SECONDS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def family(self) -> list[psutil.Process]:
        """Return the processes of the worker's runs."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """Kill the worker and all it started at once, as a machine that goes away does."""
        for one in [*self.family(), psutil.Process(self.process.pid)]:
            with contextlib.suppress(psutil.Error):
                one.kill()
        self.process.wait(30)

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.kill()
        self._log.close()


@contextlib.contextmanager
def prefect_worker(url: str, pool: str, folder: Path, **options: Any) -> Iterator[PrefectWorker]:
    """Provide a worker on a pool."""
    worker = PrefectWorker(url, pool, folder / f"worker-{pool}-{time.monotonic_ns()}.log", **options)
    try:
        yield worker
    finally:
        worker.close()


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 180) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.2)
