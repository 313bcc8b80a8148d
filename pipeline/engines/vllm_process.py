"""The other end of ``vllm_host``: start it, talk to it, notice its death, leave nothing of it behind."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

log = logging.getLogger(__name__)

_KEPT_LINES = 200
_END_S = 10.0


OnResults = Callable[[list[tuple[tuple[int, int], Any]]], None]
OnDeath = Callable[["HostProcess"], None]


class StartFailed(Exception):
    """The process did not get as far as serving rows.

    Attributes:
        log: The last lines that it and its workers wrote.
    """

    def __init__(self, message: str, log: Sequence[str]) -> None:
        super().__init__(message)
        self.log = list(log)


class HostProcess:
    """A running ``vllm_host`` with its model loaded.

    Attributes:
        pid: Its process id; the process group of everything vLLM starts has the same number.
        facts: What it told about the model.
        dead: Set when it is gone, before ``on_death`` is called.
        why: The reason of its death, as far as it is known.
        waited_s: Seconds in which the model idled because no row was prepared yet.
    """

    def __init__(
        self,
        environment: dict[str, str],
        model: dict[str, str],
        on_results: OnResults,
        on_death: OnDeath,
    ) -> None:
        """Start it and wait until the model is loaded.

        Args:
            environment: All environment variables of the process.
            model: Keyword arguments of ``vllm_host.Host``.
            on_results: Called in a thread with what the process sends.
            on_death: Called once in that thread when the process is gone without having been closed.

        Raises:
            StartFailed: The model could not be loaded.
        """
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "pipeline.engines.vllm_host", str(theirs.fileno()), str(os.getpid())]
        # A session of its own: Ctrl-C in the terminal is for us to handle, and the group can be ended as one.
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self.pid = self._process.pid
        self._end = weakref.finalize(self, _end_group, self._process)
        self._connection = Connection(ours.detach())
        self._sending = threading.Lock()
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._serving = threading.Event()
        self.dead = threading.Event()
        self.closed = False
        self.waited_s = 0.0
        self.why = "killed from outside, or the kernel ended it for memory"
        log_pipe = self._process.stderr
        assert log_pipe is not None
        self._log_thread = _thread("vllm-log", _read_log, log_pipe, self._lines, self._serving)
        try:
            self._connection.send(model)
            self.facts = self._wait_until_ready()
        except BaseException:
            self.close()
            raise
        self._serving.set()
        _thread("vllm-results", self._receive, on_results, on_death)

    def send(self, message: tuple[str, Any]) -> None:
        """Send a message; to a dead process it goes unheard, and ``on_death`` tells the rest."""
        with self._sending, contextlib.suppress(OSError):
            self._connection.send(message)

    def close(self) -> None:
        """End the process and everything it started; nothing is called afterwards."""
        self.closed = True
        self.dead.set()
        self._end()

    def last_words(self) -> str:
        """Return the last line of an error in the process's log, or nothing."""
        return next((line.strip() for line in reversed(self._lines) if "Error" in line), "")

    def _wait_until_ready(self) -> dict[str, Any]:
        try:
            kind, content = self._connection.recv()
        except (EOFError, OSError):
            kind, content = "refused", f"the process ended while it was loading the model: {self.why}"
        if kind == "refused":
            self.close()
            self._log_thread.join(_END_S)
            raise StartFailed(content, self._lines)
        facts: dict[str, Any] = content
        return facts

    def _receive(self, on_results: OnResults, on_death: OnDeath) -> None:
        try:
            while True:
                kind, content = self._connection.recv()
                if kind == "results":
                    on_results(content)
                elif kind == "waited":
                    self.waited_s = content
                else:
                    self.why = content
        except (EOFError, OSError):
            pass
        self.dead.set()
        if not self.closed:
            on_death(self)


def _thread(name: str, target: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True, name=name)
    thread.start()
    return thread


def _read_log(pipe: Any, lines: deque[str], serving: threading.Event) -> None:
    """Keep the last lines of the process's log, and pass on what matters: warnings, once it serves."""
    for raw in pipe:
        line = raw.decode("utf-8", "replace").rstrip()
        if not line:
            continue
        lines.append(line)
        matters = serving.is_set() and (" WARNING " in line or " ERROR " in line)
        log.log(logging.WARNING if matters else logging.DEBUG, "vLLM: %s", line)
    pipe.close()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group. It holds nothing that a clean end would save, so it is not asked."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
