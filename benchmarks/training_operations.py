"""Floating-point operations of a step, and the most that a device does per second in a matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

_REPEATS = 20


def operations_of(step: Callable[[], object]) -> int:
    """Return the operations of all matrix products and convolutions in a step; a multiply-add is two.

    Counted in the real step, forward, backward and momentum model, without compilation. Fused attention is
    taken apart while counting, because not every fused kernel has a formula in torch.

    Args:
        step: Runs one optimizer step, without recomputed blocks: repeated work is no progress.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            torch.compiler.set_stance("force_eager"),
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            step()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops())


def matrix_peak(device: torch.device, precision: str) -> float:
    """Return the operations per second of the fastest of several square matrix products.

    Args:
        device: Where.
        precision: ``float32`` or ``bfloat16``.
    """
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    sides = (4096, 8192, 12288) if device.type == "cuda" else (512, 1024)
    return max(_product(device, kind, side) for side in sides)


def _product(device: torch.device, kind: torch.dtype, side: int) -> float:
    a, b = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    for _ in range(2):
        a @ b
    best = float("inf")
    for _ in range(_REPEATS):
        _wait(device)
        started = time.perf_counter()
        a @ b
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
