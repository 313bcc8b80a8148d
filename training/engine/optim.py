"""AdamW with separate peaks for towers and new parts, its schedule, and its state by parameter name."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from training.config.sections import OptimConfig
from training.errors import DataError

log = logging.getLogger(__name__)

# Raw parameters (not the weight of a layer) that are positions in a space or scales, not linear maps.
_UNDECAYED = ("embed", "position", "token", "scale", "temperature")
# torch.compile and DDP put these in front of names.
_WRAPPERS = ("_orig_mod.", "module.")


def clean_name(name: str) -> str:
    """Return a parameter's name as the bare model spells it, without the marks of wrappers."""
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name.replace("._orig_mod.", ".")


def decays(name: str, parameter: Tensor, owner: nn.Module) -> bool:
    """Tell whether weight decay applies: not to vectors, biases, norms, embeddings and scales."""
    leaf = name.rpartition(".")[2]
    if parameter.ndim < 2 or isinstance(owner, nn.Embedding) or leaf.endswith("bias"):
        return False
    return not any(word in leaf for word in _UNDECAYED)


def parameter_groups(
    model: nn.Module, towers_prefixes: Iterable[str], config: OptimConfig
) -> list[dict[str, Any]]:
    """Sort the trainable parameters into towers and new parts, each with and without weight decay.

    Args:
        model: Frozen parameters (towers, momentum copies) are left out.
        towers_prefixes: Names of the modules that hold pretrained towers, e.g. ``"visual"``.
        config: Peaks and weight decay.

    Returns:
        Up to four groups for an optimizer, the empty ones left out. ``name`` is ``towers/decay``,
        ``towers/no_decay``, ``new/decay`` or ``new/no_decay``; ``lr`` is the peak.

    Raises:
        ValueError: A prefix names no parameter.
    """
    prefixes = tuple(f"{prefix.rstrip('.')}." for prefix in towers_prefixes)
    groups: dict[str, dict[str, Any]] = {}
    for part, peak in (("towers", config.lr_towers), ("new", config.lr_new)):
        for kind, decay in (("decay", config.weight_decay), ("no_decay", 0.0)):
            name = f"{part}/{kind}"
            groups[name] = {"name": name, "params": [], "lr": peak, "weight_decay": decay}
    found: set[str] = set()
    for raw, parameter in model.named_parameters():
        name = clean_name(raw)
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        found.update([prefix] if prefix else [])
        if parameter.requires_grad:
            owner = model.get_submodule(raw.rpartition(".")[0])
            kind = "decay" if decays(name, parameter, owner) else "no_decay"
            groups[f"{'towers' if prefix else 'new'}/{kind}"]["params"].append(parameter)
    if lost := set(prefixes) - found:
        raise ValueError(f"no parameter is named {', '.join(sorted(lost))}*")
    return [group for group in groups.values() if group["params"]]


def adamw(groups: list[dict[str, Any]], config: OptimConfig, device: torch.device) -> AdamW:
    """Return AdamW over groups of `parameter_groups`; one fused kernel per group on a GPU."""
    return AdamW(groups, betas=config.betas, eps=config.eps, fused=device.type == "cuda")


def learning_rate_factor(step: int, total: int, warmup: int, min_ratio: float) -> float:
    """Return the share of the peak at an optimizer step: a linear rise, then half a cosine.

    A pure function, so that a resumed run and one with other micro-batches or processes get the same rates.

    Args:
        step: Optimizer steps done before this one.
        total: Optimizer steps of the whole run; later ones stay at ``min_ratio``.
        warmup: Steps of the rise: step ``s`` gets ``(s + 1) / warmup``. At most ``total``.
        min_ratio: Share at the end of the cosine.
    """
    warmup = min(warmup, total)
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


class CosineWarmup:
    """Sets the rates of an optimizer's groups; counts optimizer steps only.

    Not a torch scheduler and not to be prepared by accelerate, which would step it once per process.
    """

    def __init__(self, optimizer: Optimizer, total: int, warmup: int, min_ratio: float) -> None:
        """Take each group's current rate as its peak, and set the rates of the first step."""
        if warmup > total:
            log.warning("warm-up of %d steps is cut to the run's %d optimizer steps", warmup, total)
        self._optimizer = optimizer
        self._curve = (total, warmup, min_ratio)
        self._peaks = [group["lr"] for group in optimizer.param_groups]
        self._steps = 0
        self._apply()

    def step(self) -> None:
        """Set the rates of the next optimizer step."""
        self._steps += 1
        self._apply()

    def rates(self) -> dict[str, float]:
        """Return the current rate of towers and new parts, as far as they are trained."""
        return {group["name"].partition("/")[0]: group["lr"] for group in self._optimizer.param_groups}

    def state_dict(self) -> dict[str, int]:
        """Return the steps done; peaks and curve follow from the configuration."""
        return {"steps": self._steps}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue after the steps done and set the rates."""
        self._steps = state["steps"]
        self._apply()

    def _apply(self) -> None:
        factor = learning_rate_factor(self._steps, *self._curve)
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor


def flatten_optimizer(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state as ``PARAMETER/KEY`` -> tensor, step counters included.

    Parameters that never had a gradient have no state and no entry. Rates and weight decay are not state:
    they follow from the configuration and the schedule.
    """
    return {
        f"{name}/{key}": value.detach()
        for name, parameter in _named(optimizer, model)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def unflatten_optimizer(
    optimizer: Optimizer, model: nn.Module, flat: Mapping[str, Tensor], source: str = "optimizer state"
) -> None:
    """Put a state of `flatten_optimizer` back, whatever the order of groups and parameters is now.

    Args:
        optimizer: Optimizer over parameters of ``model``.
        model: Gives the names.
        flat: ``PARAMETER/KEY`` -> tensor.
        source: File the state came from, for messages.

    Raises:
        DataError: A tensor is missing, left over or of another shape than its parameter.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for entry, value in flat.items():
        name, _, key = entry.rpartition("/")
        parts.setdefault(name, {})[key] = value
    keys = {key for entries in parts.values() for key in entries}
    state: dict[int, dict[str, Tensor]] = {}
    for index, (name, parameter) in enumerate(_named(optimizer, model)):
        entries = parts.pop(name, {})
        for key in sorted(keys if entries else ()):
            if key not in entries:
                raise DataError(f"{source}: {name}/{key} is missing; resume from another checkpoint")
            shape, wanted = tuple(entries[key].shape), tuple(parameter.shape)
            if key != "step" and shape != wanted:
                raise DataError(f"{source}: {name}/{key} has shape {shape}, the model's {name} has {wanted}")
        if entries:
            state[index] = {key: value.clone() for key, value in entries.items()}
    if parts:
        raise DataError(f"{source}: no trained parameter is named {', '.join(sorted(parts)[:3])}")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _named(optimizer: Optimizer, model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield name and parameter in the order in which the optimizer numbers them."""
    names = {id(parameter): clean_name(name) for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield names[id(parameter)], parameter
