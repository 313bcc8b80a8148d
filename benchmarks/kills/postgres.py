"""A Postgres cluster of its own on a free port, as an unprivileged user, from Debian's programs."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

REMEDY = "needs Postgres' programs: apt-get install postgresql"
USER = DATABASE = "prefect"
_TIMEOUT_S = 60.0


def programs() -> Path | None:
    """Return the folder of the newest installed ``initdb`` and ``postgres``, None where there is none."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]), reverse=True
    )
    if found:
        return found[0].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


class Postgres:
    """A cluster with the database and the user that ``docker/compose.yaml`` has; a context manager.

    Args:
        port: Port on the loopback.
        password: What clients must know; connections over TCP are refused without it.

    Raises:
        RuntimeError: Postgres is not installed, or did not start; the message holds its words.
    """

    def __init__(self, port: int, password: str) -> None:
        found = programs()
        if found is None:
            raise RuntimeError(REMEDY)
        self.programs, self.port, self._password = found, port, password
        # Not below a folder that only the caller may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.log = self.folder / "log"
        self._as_user: dict[str, Any] = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        secret = self.folder / "password"
        secret.write_text(password)
        if self._as_user:
            for path in (self.folder, secret):
                os.chown(path, self._as_user["user"], self._as_user["group"])
        self._run("initdb", "-D", "data", "--username", USER, "--pwfile", "password", "--no-sync",
                  "--auth-host=scram-sha-256", "--auth-local=scram-sha-256")  # fmt: skip
        secret.unlink()

    def __enter__(self) -> Postgres:
        self.start()
        self._run("createdb", "--maintenance-db", "postgres", DATABASE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the cluster, after a kill too, and wait until it takes connections.

        Raises:
            RuntimeError: It did not.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", "data", "-p", str(self.port), "-k", str(self.folder)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as_user,
            )
        deadline = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            ready = subprocess.run(
                [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
            )
            if ready.returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"Postgres did not start:\n{self.log.read_text()}")

    def kill(self) -> None:
        """Kill all of its processes at once, as a machine that goes off does."""
        assert self._process is not None
        # Postgres gives each of its processes a group of its own; the session is what they share.
        session = os.getsid(self._process.pid)
        for number in [int(path.name) for path in Path("/proc").glob("[0-9]*")]:
            with contextlib.suppress(OSError):
                if os.getsid(number) == session:
                    os.kill(number, signal.SIGKILL)
        self._process.wait()

    def dump(self, file: Path) -> None:
        """Back the database up as ``docs/cluster-server.md`` tells.

        Raises:
            RuntimeError: ``pg_dump`` failed.
        """
        file.write_bytes(self._run("pg_dump", "--format=custom", DATABASE))

    def restore(self, file: Path) -> None:
        """Put a backup in the place of the database.

        Raises:
            RuntimeError: ``pg_restore`` failed.
        """
        with file.open("rb") as stream:
            self._run("pg_restore", "--clean", "--if-exists", "--dbname", DATABASE, stdin=stream)

    def query(self, sql: str) -> list[str]:
        """Return the lines that a statement gives, columns divided by ``|``."""
        return self._run("psql", "-At", "-d", DATABASE, "-c", sql).decode().splitlines()

    def _run(self, program: str, *arguments: str, stdin: Any = subprocess.DEVNULL) -> bytes:
        given = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": USER,
            "PGPASSWORD": self._password,
        }
        result = subprocess.run(
            [self.programs / program, *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **given},
            stdin=stdin,
            capture_output=True,
            check=False,
            **self._as_user,
        )
        if result.returncode != 0:
            raise RuntimeError(f"{program} ended with {result.returncode}:\n{result.stderr.decode()}")
        return result.stdout


def _unprivileged() -> dict[str, Any]:
    """Return the user for child processes: Postgres refuses to run as root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("needs a user that is not root: there is neither postgres nor nobody")
