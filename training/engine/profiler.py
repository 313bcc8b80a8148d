"""torch.profiler over a few optimizer steps."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from training.config.sections import ProfileConfig


class Profiler:
    """Writes RUN/profile/steps-A-B.pt.trace.json in Chrome's trace format.

    Args:
        config: Without ``enabled`` nothing happens. Steps are counted from the start of this process, not
            from that of the run.
        run_dir: RUN.
        is_main: Only rank 0 records.
    """

    def __init__(self, config: ProfileConfig, run_dir: Path, is_main: bool = True) -> None:
        self._profile: profile | None = None
        if not (config.enabled and is_main):
            return
        self._file = run_dir / "profile" / f"steps-{config.start}-{config.start + config.steps}.pt.trace.json"
        # The profiler's own start-up distorts the first step it sees; that one is not recorded.
        warmup = min(1, config.start)
        self._profile = profile(
            activities=[ProfilerActivity.CPU]
            + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else []),
            schedule=schedule(wait=config.start - warmup, warmup=warmup, active=config.steps, repeat=1),
            on_trace_ready=self._write,
            record_shapes=True,
        )

    def __enter__(self) -> Self:
        if self._profile is not None:
            self._profile.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._profile is not None:
            self._profile.stop()

    def step(self) -> None:
        """Count an optimizer step."""
        if self._profile is not None:
            self._profile.step()

    def _write(self, finished: profile) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        finished.export_chrome_trace(str(self._file))
