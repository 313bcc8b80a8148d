"""``python -m flows.serve``: a Prefect server, a work pool, the deployments and a worker on this machine.

Everything listens on the loopback unless told otherwise, and ends with this command.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

import httpx
import psutil
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows.local_server import ROOT
from flows.settings import SERVER_START_TIMEOUT_S
from pipeline.errors import EXIT_OK, PipelineError, UsageError

EXIT_BROKEN = 1
DEPLOYMENTS = ROOT / "prefect.yaml"
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
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.url = f"http://{host}:{port}"
        self._stop = threading.Event()
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = os.environ | {
            "PREFECT_API_URL": f"{self.url}/api",
            "PYTHONPATH": os.pathsep.join(paths),
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

    def deploy(self) -> None:
        """Put the deployments of ``prefect.yaml`` on the server.

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
                str(DEPLOYMENTS),
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


def _make_pool(url: str, name: str) -> None:
    with temporary_settings({PREFECT_API_URL: f"{url}/api"}), get_client(sync_client=True) as client:
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(
                WorkPoolCreate(
                    name=name,
                    type="process",
                    description="Processes on this machine, one at a time: a model fills its device.",
                    concurrency_limit=1,
                )
            )


def _free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host}:{port} ({error.strerror}); is another server running there? "
                "Choose another with --port (make serve ARGS='--port 4300')"
            ) from error


def deployments(path: Path = DEPLOYMENTS) -> list[tuple[str, dict[str, str]]]:
    """Return ``flow/deployment`` and parameters of each deployment in ``prefect.yaml``."""
    entries = yaml.safe_load(path.read_text())["deployments"]
    return [(f"{e['entrypoint'].rpartition(':')[2]}/{e['name']}", e["parameters"]) for e in entries]


def _say_how(service: Service) -> None:
    lines = [
        "",
        f"Prefect is at {service.url}; Ctrl-C ends server, worker and runs.",
        "In another terminal:",
        f"  export PREFECT_API_URL={service.url}/api",
    ]
    for name, parameters in deployments():
        given = " ".join(f"--param {key}={value}" for key, value in parameters.items() if value is not True)
        lines.append(f"  .venv/bin/prefect deployment run '{name}' {given}")
    print("\n".join([*lines, ""]), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.serve",
        description="Start a Prefect server, a work pool, the deployments of prefect.yaml and a worker here.",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument("--port", type=int, default=4200, help="port to listen on (default: 4200)")
    args = parser.parse_args(argv)
    pool = yaml.safe_load(DEPLOYMENTS.read_text())["deployments"][0]["work_pool"]["name"]
    service = Service(args.host, args.port)
    log_file = get_current_settings().home / "server.log"
    try:
        _free(args.host, args.port)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with service.until_stopped():
            print(f"starting a Prefect server at {service.url}, its log: {log_file} ...", flush=True)
            with log_file.open("wb") as log:
                service.start(
                    "server", "server", "start", "--host", args.host, "--port", str(args.port), log=log
                )
            service.wait_until_healthy()
            _make_pool(service.url, pool)
            service.start(
                "worker", "worker", "start", "--pool", pool, "--type", "process", "--install-policy", "never"
            )
            service.deploy()
            _say_how(service)
            service.wait()
    except Stopped:
        print("stopped", flush=True)
        return EXIT_OK
    except (PipelineError, PartFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, PipelineError) else EXIT_BROKEN
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
