"""Signs of life of the processes of a run, exchanged through the store that they met through.

A process that is killed tells nobody. On the same machine its launcher sees it; on another machine the
collectives of gloo fail at once, but those of NCCL may wait for as long as the run's timeout, an hour, when
the machine is gone without closing its connections.
"""

from __future__ import annotations

import os
import threading
import time

from training.distributed import rank, world_size
from training.failures import default_store, failed_elsewhere

LOOK_EVERY = 2.0
_BEAT_EVERY = 5
"""Looks per sign of life: a process asks for all others' signs at once, which adds up in large runs."""
_LEFT = -1


def lost_after() -> float:
    """Return the seconds without a sign of life after which a process counts as lost."""
    return float(os.environ.get("TRAINING_LOST_AFTER", "120"))


class Lives(threading.Thread):
    """Gives signs of life and looks for those of the others, in a thread: the store may not answer.

    Time is counted in looks, not by the clock: a run that was suspended as a whole is not a lost one.

    Attributes:
        failed: Exit code of a process that has told that it failed, or None.
    """

    def __init__(self) -> None:
        super().__init__(name="lives", daemon=True)
        self.failed: int | None = None
        self._store = default_store()
        self._others = [number for number in range(world_size()) if number != rank()]
        self._left = threading.Event()
        self._looks = 0
        self._answers = 0
        self._seen: dict[int, tuple[int, int]] = {}

    def end(self) -> None:
        """Stop; the others do not wait for further signs."""
        self._left.set()
        self.join(LOOK_EVERY)

    def lost(self) -> str | None:
        """Return who is lost, in words, or None. To be called once every `LOOK_EVERY` seconds."""
        self._looks += 1
        silent = lost_after() / LOOK_EVERY
        for number, (_, at) in sorted(self._seen.items()):
            if self._answers - at > silent:
                return f"no sign of life from rank {number} for {lost_after():.0f} s"
        if self._looks - self._answers > silent:
            return f"the machine of rank 0 has not answered for {lost_after():.0f} s"
        return None

    def run(self) -> None:
        """Look until the end."""
        turn = 0
        while not self._left.wait(LOOK_EVERY):
            try:
                self.failed = failed_elsewhere()
                if turn % _BEAT_EVERY == 0:
                    self._beat()
            except Exception:  # noqa: S112 - `lost` counts the answers that are missing
                continue
            turn += 1
            self._answers = self._looks
        if self._store is not None:
            self._say(_LEFT)

    def _beat(self) -> None:
        if self._store is None:
            return
        self._store.set(_name(rank()), str(int(time.time() * 1000)))
        for number in self._others:
            # Those that have not begun, or that have left the loop, owe no signs.
            if not self._store.check([_name(number)]):
                continue
            sign = int(self._store.get(_name(number)))
            if sign == _LEFT:
                self._seen.pop(number, None)
            elif self._seen.get(number, (0, 0))[0] != sign:
                self._seen[number] = (sign, self._answers)

    def _say(self, sign: int) -> None:
        try:
            if self._store is not None:
                self._store.set(_name(rank()), str(sign))
        except Exception:  # noqa: S110 - the store is gone, and with it everyone who could read this
            pass


def _name(number: int) -> str:
    return f"training/alive/{number}"
