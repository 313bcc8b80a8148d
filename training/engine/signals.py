"""Stopping on request: after an optimizer step, all ranks after the same one."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self

import torch
import torch.distributed as dist

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """Turns SIGTERM and SIGINT into a flag while the block runs; a second SIGINT interrupts at once.

    A signal may reach one rank only, or the ranks at different steps. `agreed` therefore asks all of them.
    """

    def __init__(self) -> None:
        self.requested = False
        self._interrupts = 0
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
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
        return self.requested

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt
        self.requested = True
