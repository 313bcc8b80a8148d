"""Speed, waiting and memory of a run, and what the user sees of it."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Self, TextIO, TypeVar

import torch
from tqdm import tqdm

T = TypeVar("T")


class Means:
    """Means of named values since the last `read`; a name may be absent from some steps."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Add the values of one step."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Return the means and start over."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, tuple[float, int]]:
        """Return the sum and the count of each name."""
        return {name: (total, self._counts[name]) for name, total in self._sums.items()}

    def load_state_dict(self, state: Mapping[str, tuple[float, int]]) -> None:
        """Go on from what `state_dict` returned."""
        self._sums = {name: total for name, (total, _) in state.items()}
        self._counts = {name: count for name, (_, count) in state.items()}


class Speed:
    """Rows per second and the share of time spent waiting for data, since the last `read`.

    Args:
        clock: Seconds that never jump, unlike the time of day.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Forget the time so far: it went into an evaluation or a checkpoint, not into training."""
        self._start = self._clock()
        self._waited = 0.0
        self._rows = 0

    def waiting_for(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield from a loader and measure how long each item takes to come."""
        iterator = iter(batches)
        while True:
            start = self._clock()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._waited += self._clock() - start
            yield item

    def add(self, rows: int) -> None:
        """Count the rows of an optimizer step, over all processes."""
        self._rows += rows

    def read(self) -> dict[str, float]:
        """Return ``speed/samples_per_s`` and ``speed/data_wait_share`` (0 to 1), and start over."""
        elapsed = max(self._clock() - self._start, 1e-9)
        values = {
            "speed/samples_per_s": self._rows / elapsed,
            "speed/data_wait_share": min(1.0, self._waited / elapsed),
        }
        self.restart()
        return values


def peak_memory_gib(device: torch.device) -> float:
    """Return the most memory used so far: of a GPU by tensors, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


class Progress:
    """A bar on a terminal, one plain line per record elsewhere; nothing on ranks other than 0.

    Args:
        total: Optimizer steps of the run.
        done: Steps done before, when a run is resumed.
        is_main: Whether this is rank 0.
        stream: Where to, standard error by default.
    """

    def __init__(self, total: int, done: int = 0, is_main: bool = True, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total, self._done, self._is_main = total, done, is_main
        self._bar: tqdm | None = None
        if is_main and self._stream.isatty():
            self._bar = tqdm(total=total, initial=done, unit="step", file=self._stream, dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self) -> None:
        """Count an optimizer step."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()

    def show(self, values: Mapping[str, float]) -> None:
        """Show a record as far as it has them: loss, gradient norm, rates, speed, and the unweighted terms.

        The terms stand last: a terminal that is too narrow cuts the end.
        """
        parts = {short: form.format(values[name]) for name, (short, form) in _SHOWN.items() if name in values}
        for name, value in values.items():
            if name.startswith("loss/") and name not in _SHOWN:
                parts[name.removeprefix("loss/")] = f"{value:.3f}"
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(f"{short}={text}" for short, text in parts.items()))
        else:
            line = ", ".join(f"{short} {text}" for short, text in parts.items())
            self.write(f"step {self._done}/{self._total}: {line}")

    def write(self, line: str) -> None:
        """Write a line of its own, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        elif self._is_main:
            print(line, file=self._stream, flush=True)


_SHOWN = {
    "loss/total": ("loss", "{:.4f}"),
    "grad_norm": ("grad", "{:.2f}"),
    "lr/new": ("lr", "{:.1e}"),
    "lr/towers": ("lr_towers", "{:.1e}"),
    "speed/samples_per_s": ("rows/s", "{:.1f}"),
    "speed/data_wait_share": ("wait", "{:.0%}"),
}
