"""One machine's part of a training under a scheduler: ``accelerate launch`` with an exit code that says why.

    python -m training.launch LAUNCHER_ARGUMENTS training/train.py --config C --to RUN

Takes what ``accelerate launch`` takes. The exit code is the trainer's (see training.train), or 128
and the signal's number where a trainer was killed; a stop signal reaches every trainer once, with one process
too, however often and from wherever it comes; and a launcher that still waits for the other machines can be
stopped. SIGUSR1 is passed on: each trainer prints where its threads are.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Sequence

import psutil

INTERRUPTED = 3
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK_EVERY = 2.0
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")


class Relay(threading.Thread):
    """Passes signals of the launcher on to its trainers.

    A thread reads them from a socket: while the launcher waits for another machine inside torch, Python runs
    no handlers.

    Attributes:
        stopped: A stop signal came.
    """

    def __init__(self) -> None:
        super().__init__(name="relay", daemon=True)
        self.stopped = False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        for number in (*STOPS, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)  # only so that the signal does not end the launcher
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        """Pass on what comes."""
        told: set[int] = set()
        while True:
            ready, _, _ = select.select([self._reader], [], [], _LOOK_EVERY)
            numbers = self._reader.recv(64) if ready else b""
            if signal.SIGUSR1 in numbers:
                _send(signal.SIGUSR1)
            self.stopped = self.stopped or any(number in numbers for number in STOPS)
            if not self.stopped:
                continue
            # Also those that were just being started.
            told |= set(_send(signal.SIGTERM, told))
            if not told:
                print("stopped before the trainers were started", file=sys.stderr, flush=True)
                os._exit(INTERRUPTED)

    def code(self, code: int) -> int:
        """Return the launcher's exit code for that of a trainer, negative where a signal ended it."""
        if self.stopped and code == -signal.SIGTERM:
            return INTERRUPTED  # before it had begun to train, or after it had saved
        return 128 - code if code < 0 else code


def _send(number: signal.Signals, but: Collection[int] = ()) -> list[int]:
    """Send the trainers a signal, but for some; return which got it."""
    trainers = [child.pid for child in psutil.Process().children() if child.pid not in but]
    for trainer in trainers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(trainer, number)
    return trainers


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    relay = Relay()
    relay.start()
    # Writing a checkpoint to a slow disk takes longer than the 30 s after which torch kills.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "300")
    # Torch's own handler gives up waiting for the trainers when a second signal comes.
    os.environ["PET_SIGNALS_TO_HANDLE"] = "SIGQUIT"

    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        launch_command(launch_command_parser().parse_args(argv))
    except ChildFailedError as error:
        return relay.code(error.get_first_failure()[1].exitcode)
    except subprocess.CalledProcessError as error:
        return relay.code(error.returncode)
    except Exception:
        # Another machine's launcher ended while this one waited for it.
        if relay.stopped:
            return INTERRUPTED
        raise
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
