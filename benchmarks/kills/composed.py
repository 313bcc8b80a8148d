"""The services of ``docker/compose.yaml`` as processes of this machine: same commands and environment.

What differs is said here and nowhere else: addresses are the loopback's, ports are free ones, secrets lie in
a temporary folder instead of ``/run/secrets``, and the virtual environment is the checkout's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from benchmarks.kills.postgres import Postgres
from scripts.check_docker import compose

ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 300.0


class Stack:
    """Postgres, server and worker; ``running`` makes one.

    Args:
        folder: Where secrets, logs and Prefect's home go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.auth_string, self.password = f"admin:{secrets.token_hex(24)}", secrets.token_hex(24)
        self.port, health, database = free_ports(3)
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.database = Postgres(database, self.password)
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        kept = {"database_password": self.password, "api_auth_string": self.auth_string}
        (folder / "secrets").mkdir(parents=True)
        for name, value in kept.items():
            (folder / "secrets" / name).write_text(f"{value}\n")
        self._services = compose(values={f"{name.upper()}_FILE": name for name in kept})["services"]
        server = {
            "PREFECT_SERVER_API_HOST": "127.0.0.1",
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
            "PREFECT_SERVER_DATABASE_PORT": str(database),
        }
        client = {"PREFECT_API_URL": self.url}
        self._here = {
            "server": server,
            "deploy": client,
            "worker": client | {"PREFECT_WORKER_WEBSERVER_PORT": str(health)},
        }

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment of a service: what compose gives it, at this machine's addresses."""
        given = {
            name: str(value).replace("/run/secrets", str(self.folder / "secrets"))
            for name, value in self._services[service]["environment"].items()
        }
        others = (
            *("PREFECT_API_", "PREFECT_SERVER_API_", "PREFECT_SERVER_DATABASE_"),
            # Without bytecode each process compiles Prefect anew: seconds that no container takes.
            "PYTHONDONTWRITEBYTECODE",
        )
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(others)},
            **given,
            **self._here[service],
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(self.folder / f"home-{service}"),
            "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
        }

    def start(
        self, service: str, command: list[str] | None = None, variables: dict[str, str] | None = None
    ) -> None:
        """Start a service's command through the images' entry point; its words go to ``SERVICE.log``.

        Args:
            service: Its name in the compose file.
            command: Instead of the one there.
            variables: More of its environment.
        """
        argv = command or self._services[service]["command"]
        with (self.folder / f"{service}.log").open("ab") as log:
            self._parts[service] = subprocess.Popen(
                ["/bin/sh", str(ROOT / "docker/entrypoint.sh"), *argv],
                cwd=ROOT,
                env=self.environment(service) | (variables or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_server(self) -> None:
        """Start the server with its image's command and wait until it answers.

        Raises:
            RuntimeError: It does not.
        """
        self.start("server", ["prefect", "server", "start"])
        self.wait_until(self._healthy, "server")

    def deploy(self) -> None:
        """Make the pool and the deployments as compose does.

        Raises:
            RuntimeError: Prefect refused.
        """
        self.start("deploy")
        self.finish("deploy")

    def finish(self, service: str) -> None:
        """Wait for a service that ends by itself.

        Raises:
            RuntimeError: It failed; the message holds its words.
        """
        if self._parts.pop(service).wait(_TIMEOUT_S) != 0:
            raise RuntimeError(f"{service} failed:\n{self.said(service)}")

    def kill(self, service: str) -> None:
        """Kill a service and all that it started by SIGKILL."""
        process = self._parts.pop(service)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for each in family:
            with contextlib.suppress(psutil.Error):
                each.kill()
        process.wait()

    def said(self, service: str) -> str:
        """Return what a service has printed."""
        return (self.folder / f"{service}.log").read_text(errors="replace")

    @contextlib.contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """Provide a client that the server lets in."""
        settings = {PREFECT_API_URL: self.url, PREFECT_API_AUTH_STRING: self.auth_string}
        with temporary_settings(settings), get_client(sync_client=True) as client:
            yield client

    def wait_until(self, condition: Callable[[], bool], *needed: str, timeout: float = _TIMEOUT_S) -> float:
        """Wait for a condition and return the seconds it took.

        Raises:
            RuntimeError: It took too long, or a service that it needs has ended.
        """
        started = time.monotonic()
        while not condition():
            for service in needed:
                if self._parts[service].poll() is not None:
                    raise RuntimeError(f"the {service} has ended:\n{self.said(service)[-4000:]}")
            if time.monotonic() > started + timeout:
                logs = "\n".join(
                    f"--- {path.name}\n{path.read_text()[-4000:]}" for path in self.folder.glob("*.log")
                )
                raise RuntimeError(f"waited {timeout:.0f} s in vain:\n{logs}")
            time.sleep(0.1)
        return time.monotonic() - started

    def stop(self) -> None:
        """End worker, server and database, in this order."""
        for service in ("worker", "server", *self._parts):
            process = self._parts.get(service)
            if process is None or process.poll() is not None:
                continue
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            for each in [*family, psutil.Process(process.pid)] if process.poll() is None else family:
                with contextlib.suppress(psutil.Error):
                    each.kill()
            process.wait()

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


@contextlib.contextmanager
def running(folder: Path, *, worker: bool = True) -> Iterator[Stack]:
    """Start Postgres, the server, the deployments and a worker; end them all.

    Raises:
        RuntimeError: A part did not start; the message holds its words.
    """
    stack = Stack(folder)
    with stack.database:
        try:
            stack.start_server()
            stack.deploy()
            if worker:
                stack.start("worker")
            yield stack
        finally:
            stack.stop()


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody listens on now."""
    with contextlib.ExitStack() as probes:
        taken = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in taken:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in taken]
