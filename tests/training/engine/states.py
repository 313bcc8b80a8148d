"""A small model trained for a few steps, and the state that a checkpoint of it holds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.config.sections import OptimConfig
from training.engine.checkpoint import Counters, TrainState
from training.engine.optim import adamw, flatten_optimizer, parameter_groups
from training.engine.seeds import rng_state

OPTIM = OptimConfig(lr_towers=0.001, lr_new=0.01, weight_decay=0.1)


class Small(nn.Module):
    """A tower and a head, with one parameter of every kind that weight decay treats differently."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))
        self.token_embedding = nn.Embedding(5, 6)
        self.positional_embedding = nn.Parameter(torch.randn(3, 6))
        self.patch_position = nn.Parameter(torch.randn(3, 6))
        self.patch_embedding = nn.Linear(6, 6, bias=False)
        self.log_temperature = nn.Parameter(torch.zeros(1, 1))
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        fused = self.tower(x)[:, None] + self.positional_embedding + self.patch_position
        fused = fused + self.token_embedding.weight[:3]
        return self.patch_embedding(fused) * self.log_temperature.exp()


def small(seed: int = 0) -> tuple[Small, torch.optim.AdamW]:
    torch.manual_seed(seed)
    model = Small()
    return model, adamw(parameter_groups(model, ["tower"], OPTIM), OPTIM, torch.device("cpu"))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Use the global random generator, so that a resumed run must have it back."""
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()


def state(
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    metrics: dict[str, float] | None = None,
) -> TrainState:
    return TrainState(
        Counters(step, epoch=1, position=step % 10, schedule={"steps": step}, best={"score": 0.1 + 0.2}),
        model=model.state_dict(),
        momentum={name: value / 3 for name, value in model.state_dict().items()},
        queues={"image.features": torch.randn(7, 3), "image.valid": torch.tensor(5)},
        optimizer=flatten_optimizer(optimizer, model),
        rng=rng_state(),
        metrics=metrics or {},
    )
