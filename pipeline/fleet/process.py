"""A worker's process, seen from whoever started it: its log passed on, its end told, never left behind."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import IO

from pipeline.fleet.order import Order, WorkerEnd
from pipeline.fleet.seats import VISIBLE, Seat
from pipeline.fleet.worker import parse_end
from pipeline.identity import environment

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
"""A Ray node may have been started in any folder; the worker's module is found from here."""

TAIL = 20
"""Lines of a dead worker's log that are kept for the message."""

STOP_S = 25.0
"""Seconds between SIGTERM and SIGKILL; a worker ends by itself within 20."""


class WorkerProcess:
    """One worker; it starts at once."""

    def __init__(self, order: Order, seat: Seat) -> None:
        self.seat = seat
        self._tail: deque[str] = deque(maxlen=TAIL)
        variables = {**os.environ, **environment(order.run, seat.name)}
        if seat.devices is not None:
            variables[VISIBLE] = seat.devices
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.fleet.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables,
            cwd=ROOT,
            # Ctrl-C is for the run, which stops its workers in order.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order.as_dict()).encode() + b"\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def wait(self) -> WorkerEnd:
        """Pass the log on in this thread until the worker has ended."""
        assert self._process.stdout is not None and self._process.stderr is not None
        said: list[bytes] = []
        stdout = self._process.stdout
        reader = threading.Thread(target=lambda: said.append(stdout.read()), daemon=True)
        reader.start()
        self._pass_on(self._process.stderr)
        code = self._process.wait()
        # What the worker started, e.g. vLLM, may hold its pipes open for a moment longer.
        reader.join(timeout=5)
        self._close()
        end = parse_end(b"".join(said).decode(errors="replace"))
        message = str(end["message"]) if end is not None else "\n".join(self._tail)
        return WorkerEnd(self.seat.name, code, message, socket.gethostname(), tuple(self._tail))

    def stop(self) -> None:
        """Tell the worker to stop at the next row; ``wait`` sees it end. One that does not is killed."""
        if self._process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        threading.Thread(target=self._kill_late, daemon=True).start()

    def _kill_late(self) -> None:
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _pass_on(self, stream: IO[bytes]) -> None:
        for raw in stream:
            text = raw.decode(errors="replace").rstrip()
            if not text:
                continue
            line = _parsed(text)
            if line is None:
                # Of a library, or a traceback.
                self._tail.append(text)
                log.info("[%s] %s", self.seat.name, text, extra={"identity": {"worker": self.seat.name}})
                continue
            message = line["message"] + (f"\n{line['error']}" if "error" in line else "")
            self._tail.append(message)
            fields = {name: line[name] for name in ("run", "worker", "table", "shard") if name in line}
            logging.getLogger(str(line["logger"])).log(
                logging.getLevelName(line["level"]),
                "[%s] %s",
                self.seat.name,
                message,
                extra={"identity": fields},
            )

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _parsed(text: str) -> dict[str, str] | None:
    if not text.startswith("{"):
        return None
    try:
        line = json.loads(text)
        return line if {"message", "level", "logger"} <= set(line) else None
    except (ValueError, TypeError):
        return None
