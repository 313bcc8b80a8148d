"""Stop before a loss or gradient that is NaN or infinite reaches the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from training.engine.files import write_json
from training.errors import NonFiniteLoss
from training.failures import share

GRADIENT = "gradient"


def check_finite(
    terms: Mapping[str, Tensor],
    grad_norm: Tensor | None,
    step: int,
    *,
    rows: Sequence[int] = (),
    run_dir: Path | None = None,
) -> None:
    """Raise on every rank if any rank has a term or gradient that is not finite.

    Called before the optimizer step, so that the weights are still good. One reduction and one wait for the
    device per call, however many terms there are.

    Args:
        terms: 0-d tensors on one device, the same names on every rank.
        grad_norm: 0-d tensor, norm of the gradient before clipping.
        step: Optimizer step that would follow.
        rows: Index of this rank's rows in the split; those of offending ranks are written down.
        run_dir: Folder for ``nonfinite.json``.

    Raises:
        NonFiniteLoss: Names the terms, the step and the remedy.
    """
    values = {name: terms[name].detach() for name in sorted(terms)}
    if grad_norm is not None:
        values[GRADIENT] = grad_norm.detach()
    if not values:
        return
    broken = torch.stack([~torch.isfinite(value) for value in values.values()])
    anywhere = broken.to(torch.int32)
    if dist.is_initialized():
        dist.all_reduce(anywhere, op=dist.ReduceOp.MAX)
    names = [name for name, flag in zip(values, anywhere.tolist(), strict=True) if flag]
    if not names:
        return
    mine = {
        "rank": dist.get_rank() if dist.is_initialized() else 0,
        "values": {n: str(v.item()) for (n, v), bad in zip(values.items(), broken, strict=True) if bad},
        "rows": [int(row) for row in rows],
    }
    where = _write_down(mine, step, run_dir)
    # A broken term breaks the gradient too; the gradient alone is named only when no term explains it.
    blamed = [name for name in names if name != GRADIENT] or names
    error = NonFiniteLoss(
        f"{', '.join(blamed)} became NaN or infinite before optimizer step {step}; the weights were not "
        f"changed{where}. Lower optim.lr_new and optim.lr_towers or optim.clip_norm, with train.precision "
        "bfloat16 try float32, then resume from the last checkpoint"
    )
    raise share(error)


def _write_down(mine: dict[str, Any], step: int, run_dir: Path | None) -> str:
    ranks = [mine]
    if dist.is_initialized():
        gathered: list[dict[str, Any]] = [{}] * dist.get_world_size()
        dist.all_gather_object(gathered, mine)
        ranks = gathered
    if run_dir is None:
        return ""
    path = run_dir / "nonfinite.json"
    if mine["rank"] == 0:
        write_json(path, {"step": step, "ranks": [rank for rank in ranks if rank["values"]]})
    return f", and the rows are listed in {path}"
