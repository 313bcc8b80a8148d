"""Stopping on request: after an optimizer step, all ranks after the same one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any, Self

import torch
import torch.distributed as dist

from training.distributed import rank, world_size
from training.engine.lives import LOOK_EVERY, Lives

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_GRACE = 5.0
"""Seconds in which a process may end by itself after another one failed."""


def patience() -> float:
    """Return the seconds that a process waits for the others after a stop signal: as long as the launcher."""
    return float(os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "300"))


class StopSignal:
    """Turns SIGTERM and SIGINT into a flag while the block runs; a second SIGINT interrupts at once.

    A signal may reach one rank only, or the ranks at different steps. `agreed` therefore asks all of them.
    With several processes a thread watches over the block, because a process that waits in a collective for
    one that is gone would never look at the flag: it ends this process soon after another one has failed,
    when one gives no signs of life, and when no agreement was found within `patience` of a signal.
    """

    def __init__(self) -> None:
        self.requested = False
        self._interrupts = 0
        self._former: dict[signal.Signals, Any] = {}
        self._watch: _Watch | None = None

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._former[number] = signal.signal(number, self._note)
        if world_size() > 1:
            self._watch = _Watch()
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.end()
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def agreed(self, device: torch.device | str = "cpu") -> bool:
        """Return whether any rank was asked to stop. Every rank must call this at the same step.

        Args:
            device: Where the flag is exchanged: the rank's GPU under NCCL, the CPU under Gloo.
        """
        if dist.is_initialized():
            flag = torch.tensor(int(self.requested), dtype=torch.int32, device=device)
            dist.all_reduce(flag, op=dist.ReduceOp.MAX)
            self.requested = bool(flag.item())
        if self.requested and self._watch is not None:
            self._watch.met.set()
        return self.requested

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt
        self.requested = True


class _Watch(threading.Thread):
    """Ends this process where the main thread cannot.

    Python runs handlers of signals between its own instructions, so not while the main thread waits in a
    collective. The system hands the signal's number to a socket at once, and this thread reads it there.

    Attributes:
        met: Set once all processes have agreed to stop: from then on each of them saves and ends.
    """

    def __init__(self) -> None:
        super().__init__(name="stop-watch", daemon=True)
        self.met = threading.Event()
        self._left = threading.Event()
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._former = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def end(self) -> None:
        """Stop watching."""
        signal.set_wakeup_fd(self._former)
        self._left.set()
        self._writer.close()
        self.join(LOOK_EVERY)

    def run(self) -> None:
        """Look for signals, failures and signs of life until the block is left."""
        asked = failed = None
        lives = Lives()
        lives.start()
        looked = time.monotonic()
        while not self._left.is_set():
            if select.select([self._reader], [], [], LOOK_EVERY)[0]:
                numbers = self._reader.recv(64)
                if asked is None and any(number in numbers for number in _SIGNALS):
                    asked = time.monotonic()
            now = time.monotonic()
            if failed is None and lives.failed is not None:
                failed = now
            if failed is not None and now > failed + _GRACE:
                self._give_up(lives.failed or 2, "ended, because another process of the run has failed")
            if now >= looked + LOOK_EVERY:  # a signal cuts a look short
                looked = now
                if (lost := lives.lost()) is not None:
                    self._give_up(3, f"{lost}; ended, go on from the last checkpoint with --resume")
            if asked is not None and now > asked + patience() and not self.met.is_set():
                self._give_up(
                    3,
                    f"the processes did not agree within {patience():.0f} s of the stop signal; ended "
                    "without a checkpoint, go on from the last one with --resume",
                )
        lives.end()
        self._reader.close()

    def _give_up(self, code: int, why: str) -> None:
        if not self._left.is_set():
            with contextlib.suppress(OSError, ValueError):  # who read it may be gone as well
                print(f"rank {rank()}: {why}", file=sys.stderr, flush=True)
            os._exit(code)
