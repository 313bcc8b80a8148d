"""A Prefect API server that belongs to one command: started with it, gone with it, reachable from here only.

Prefect can start such a server by itself, but that one sits in the terminal's process group, so Ctrl-C kills
it before the flow has reported its end, and it outlives a command that is killed. This one has a session of
its own and ends when the pipe to the command closes, whatever closed it. Its records go to the same database
as those of ``prefect server start`` (under ``PREFECT_HOME``), so runs can be looked at later.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"

# What Prefect sets for its own temporary server, plus what shortens the start: no block types (the flows use
# none, a full server registers them later; the memo would keep it from that), no automations, no cleaning up.
_ENVIRONMENT = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "false",
}
_STOP_TIMEOUT_S = 8.0


class ServerFailed(RuntimeError):
    """The temporary server did not come up; the message holds the end of its log."""


class LocalServer:
    """The server's process, seen from the command that owns it; it starts at once."""

    def __init__(self) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | _ENVIRONMENT
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.local_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        self._ready = False
        # Prefect sends its last logs and events in exit handlers too; registered later, they run earlier.
        atexit.register(self.stop)

    def wait(self, timeout: float, check: Callable[[], None] = lambda: None) -> str:
        """Return the API's URL once the server answers.

        Args:
            timeout: Seconds to wait at most.
            check: Called a few times a second, to stop the waiting by raising.

        Raises:
            ServerFailed: The server died or took too long.
        """
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            check()
            readable, _, _ = select.select([self._process.stdout], [], [], 0.2)
            if readable:
                port = self._process.stdout.readline().decode().strip()
                if not port:
                    raise ServerFailed(
                        f"Prefect's temporary server ended while it started:\n{self.log_tail()}"
                    )
                self._ready = True
                return f"http://{HOST}:{port}/api"
        raise ServerFailed(
            f"Prefect's temporary server did not answer within {timeout:.0f} s:\n{self.log_tail()}"
        )

    @property
    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self._process.poll() is None

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines that the server logged."""
        self._log.seek(0)
        return "\n".join(self._log.read().decode(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End the server and wait for it; harmless when it has ended."""
        atexit.unregister(self.stop)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if not self._ready:
            return  # It ends by itself once its database is whole.
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _serve() -> None:
    """The server's own process: bind a free port, say which once requests are answered, end with the pipe."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    home = get_current_settings().home
    listener = socket.socket()
    listener.bind((HOST, 0))

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            with _locked(home / "dgm4-asap-start.lock"):
                await super().startup(sockets)
            if self.started:
                print(listener.getsockname()[1], flush=True)

    server = Server(uvicorn.Config(create_app(), log_level="error", lifespan="on"))

    def end_with_owner() -> None:
        while sys.stdin.buffer.read(1):
            pass
        # The end waits for a database that is being created: half a one would fail every later start.
        server.should_exit = True
        while not server.started:
            time.sleep(0.1)
        time.sleep(_STOP_TIMEOUT_S - 2)
        os._exit(0)

    threading.Thread(target=end_with_owner, daemon=True).start()
    server.run(sockets=[listener])
    # All is closed; taking the interpreter apart would only keep the command waiting for seconds more.
    sys.stderr.flush()
    os._exit(0)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock among processes: two first starts at once would both create the database."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    _serve()
