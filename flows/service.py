"""The processes of ``python -m flows.serve``: started, watched, ended in order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO

import httpx
import psutil

from flows.local_server import ROOT
from flows.safety import client_environment, may_listen
from flows.settings import SERVER_START_TIMEOUT_S

_GRACE_S = 60.0
"""Flow runs stop at the next row; a large batch may have to end first."""


class PartFailed(RuntimeError):
    """The server, the worker or the deploying ended by itself."""


class Stopped(Exception):
    """A signal asked for the end, which is how this command ends well."""


class Service:
    """The processes of this command and the wish to end them.

    Args:
        host: Address to listen on.
        port: Port to listen on.

    Raises:
        UsageError: Others could reach that address and use the server without an auth string.
    """

    def __init__(self, host: str, port: int) -> None:
        may_listen(host)
        self.host, self.port = host, port
        self.url = f"http://{_reached_at(host)}:{port}"
        self._stop = threading.Event()
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = os.environ | {
            "PREFECT_API_URL": f"{self.url}/api",
            "PYTHONPATH": os.pathsep.join(paths),
            # The browser may reach the server by another name, or through a tunnel.
            "PREFECT_SERVER_UI_API_URL": "/api",
            # What is started here are clients of this server, whatever other server the caller uses.
            **client_environment(),
            # The memo would be written to ~/.prefect even where PREFECT_HOME is another folder.
            "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
        }

    def start(self, part: str, *arguments: str, log: IO[bytes] | None = None) -> None:
        """Start ``prefect ARGUMENTS`` as a part of this command, its words on the terminal unless ``log``."""
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C is for this command, which ends its parts in order.
            start_new_session=True,
        )
        self._parts[part] = process

    def check(self) -> None:
        """Raise if the end is wished for, or if a part has ended.

        Raises:
            Stopped: A signal came.
            PartFailed: The server or the worker has ended.
        """
        if self._stop.is_set():
            raise Stopped
        for part, process in self._parts.items():
            if process.poll() is not None:
                raise PartFailed(
                    f"the {part} has ended with exit code {process.returncode}; see its words above"
                )

    def wait_until_healthy(self) -> None:
        """Wait until the server answers.

        Raises:
            PartFailed: It does not, in time.
        """
        deadline = time.monotonic() + SERVER_START_TIMEOUT_S
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/api/health", timeout=5).status_code == 200:
                    return
            self._stop.wait(0.3)
        raise PartFailed(f"the server did not answer within {SERVER_START_TIMEOUT_S:.0f} s")

    def deploy(self, file: Path) -> None:
        """Put the deployments of a ``prefect.yaml`` on the server.

        Raises:
            PartFailed: Prefect refused; the message holds what it said.
        """
        with subprocess.Popen(
            [
                sys.executable,
                "-m",
                "prefect",
                "--no-prompt",
                "deploy",
                "--all",
                "--prefect-file",
                str(file),
            ],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                said = _read_while(process, self.check)
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            raise PartFailed(f"the deployments could not be made:\n{said}")

    def wait(self) -> None:
        """Wait for a signal or for a part that ends; raises as ``check``."""
        while True:
            self.check()
            self._stop.wait(0.5)

    @contextlib.contextmanager
    def until_stopped(self) -> Iterator[None]:
        """Turn SIGINT, SIGTERM and SIGHUP into the wish to end, and end all parts on the way out."""
        before = {
            number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        for number in before:
            signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._stop.is_set():
            for process in self._family():
                with contextlib.suppress(psutil.Error):
                    process.kill()
        self._stop.set()

    def _family(self) -> list[psutil.Process]:
        return psutil.Process().children(recursive=True)

    def _end(self) -> None:
        """End flow runs, worker and server, in this order, so that each can still report to the next."""
        worker, server = self._parts.get("worker"), self._parts.get("server")
        everyone = self._family()
        if worker is not None and worker.poll() is None:
            with contextlib.suppress(psutil.Error):
                runs = psutil.Process(worker.pid).children(recursive=True)
                if runs:
                    print("stopping the flow runs at their next row (once more kills) ...", flush=True)
                _terminate(runs, _GRACE_S)
        for part in (worker, server):
            if part is not None and part.poll() is None:
                with contextlib.suppress(psutil.Error):
                    _terminate([psutil.Process(part.pid)], 15)
        _terminate([process for process in everyone if process.is_running()], 5)
        for process in self._parts.values():
            process.wait()


def _reached_at(host: str) -> str:
    """Return the address by which this machine reaches a server that listens on ``host``."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def _terminate(processes: list[psutil.Process], grace: float) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=grace)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def _read_while(process: subprocess.Popen[bytes], check: Callable[[], None]) -> str:
    assert process.stdout is not None
    said: list[bytes] = []
    stream = process.stdout
    reader = threading.Thread(target=lambda: said.append(stream.read()), daemon=True)
    reader.start()
    while process.poll() is None:
        check()
        reader.join(0.3)
    reader.join(5)
    return b"".join(said).decode(errors="replace").strip()
