"""What both trainings share: the optimizer, the schedule, the progress bar, and saving a checkpoint."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long and how fast to train.

    Attributes:
        steps: Optimizer steps.
        batch: Rows per step.
        rate: Peak learning rate of the matrices (Muon, in units of AdamW's through the 0.2 RMS rule).
        other_rate: Peak learning rate of embeddings, norms and biases (AdamW).
        warmup: Steps of linear warm-up; the rate then falls linearly to zero at the last step.
        seed: Seed of weights and data.
    """

    steps: int
    batch: int
    rate: float = 4e-3
    other_rate: float = 4e-3
    warmup: int = 50
    seed: int = 1


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, for weight matrices.

    Source: Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the
    quintic Newton-Schulz coefficients are theirs. The update is scaled to an RMS of 0.2 so that AdamW's
    learning rates apply (Liu et al., "Muon is scalable for LLM training", arXiv:2502.16982). Written out in
    float32: torch's own version computes in bfloat16, which processors without bfloat16 units emulate slowly.
    """

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient; gradients of shape (rows, columns, ...) are flattened."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                average = state.setdefault("average", torch.zeros_like(weight))
                average.lerp_(weight.grad, 1 - group["momentum"])
                update = _orthogonal(weight.grad.lerp(average, group["momentum"]).flatten(1))
                scale = 0.2 * max(update.shape) ** 0.5
                weight.add_(update.view_as(weight), alpha=-group["lr"] * scale)


def _orthogonal(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


def train(
    model: torch.nn.Module,
    recipe: Recipe,
    batches: Iterable[Any],
    loss_of: Callable[[Any], torch.Tensor],
    *,
    label: str,
    line: int | None = 0,
) -> list[float]:
    """Train a model in place.

    Args:
        model: Float32 model; all its parameters are trained.
        recipe: Steps, rates, seed.
        batches: At least `recipe.steps` batches.
        loss_of: Computes the scalar loss of one batch.
        label: Name on the progress bar.
        line: Terminal line of the progress bar, which shows the loss averaged over about 20 steps; None for
            no bar.

    Returns:
        The loss of every step.
    """
    matrices, others = _groups(model)
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=recipe.rate),
        torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    peaks = (recipe.rate, recipe.other_rate)
    model.train()
    losses: list[float] = []
    shown = 0.0
    bar = tqdm(
        zip(range(recipe.steps), batches, strict=False),
        total=recipe.steps,
        desc=label,
        position=line,
        disable=line is None,
    )
    for step, batch in bar:
        share = min(1.0, (step + 1) / recipe.warmup) * (1 - step / recipe.steps)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * share
            optimizer.zero_grad(set_to_none=True)
        loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        shown = losses[-1] if step == 0 else 0.95 * shown + 0.05 * losses[-1]
        bar.set_postfix(loss=f"{shown:.4f}")
    model.eval()
    return losses


def _groups(model: torch.nn.Module) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, weight in model.named_parameters():
        inner = (
            weight.ndim >= 2
            and id(weight) not in embeddings
            and weight.shape[0] > 1
            and "position" not in name
        )
        (matrices if inner else others).append(weight)
    return matrices, others


def save_checkpoint(model: Any, tokenizer_or_processor: Any, folder: Path) -> None:
    """Write a checkpoint with `save_pretrained`; the folder is the old one or the new one, never a mix.

    Weights are stored in float16 (half the size; the values are small) while ``config.json`` says float32, so
    every loader computes in float32.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        model.save_pretrained(building, state_dict=_halved(model.state_dict()))
        tokenizer_or_processor.save_pretrained(building)
        for path in (building, *building.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        retired = folder.with_name(f".{folder.name}-old-{os.getpid()}")
        if folder.exists():
            folder.rename(retired)
        building.rename(folder)
        shutil.rmtree(retired, ignore_errors=True)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _halved(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Float16 copies; weights that share memory (tied embeddings) still do, so they are written once."""
    copies = {weight.data_ptr(): weight.to(torch.float16) for weight in weights.values()}
    return {name: copies[weight.data_ptr()] for name, weight in weights.items()}
