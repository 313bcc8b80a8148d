"""One optimizer step: keys, forward and backward of each micro-batch, update, momentum, queues."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from training.config.sections import Config
from training.data.batch import Batch
from training.distributed import mean_over_processes
from training.engine.guard import check_finite
from training.engine.keys import Counts, Keys, gather_keys
from training.engine.objective import Objective, Queues
from training.engine.optim import CosineWarmup
from training.engine.sharding import whole
from training.model import AsapModel, FeatureQueue, ModelOutput, MomentumEncoder


@dataclass(frozen=True)
class StepResult:
    """What an optimizer step did.

    Attributes:
        terms: Unweighted terms, means over the effective batch and all processes.
        total: The weighted sum.
        grad_norm: Norm of the gradient before clipping.
        part_norms: The same of towers and of new parts, as far as they are trained.
        rows: Rows of the effective batch.
        temperature: Of the contrastive terms.
        alpha: Share of the soft targets.
        rates: Learning rates of this step, of towers and new parts.
    """

    terms: dict[str, float]
    total: float
    grad_norm: float
    part_norms: dict[str, float]
    rows: int
    temperature: float
    alpha: float
    rates: dict[str, float]


def build_queues(config: Config, joint: int) -> nn.ModuleDict:
    """Return the queues that the configuration needs, by name; ``joint`` is E."""
    contrast, lma = config.contrast, config.loss.lma
    names = ["image", "text"] if config.loss.dgm.mac > 0 else []
    if lma.queue and lma.text in ("caption", "both"):
        names += ["captioned_image", "caption"]
    if lma.queue and lma.text in ("explanation", "both"):
        names += ["explained", "explanation"]
    if contrast.queue_size == 0:
        names = []
    # L_exp tells keys apart by their explanation and by what it explains.
    contents = {"explained": 2, "explanation": 2}
    return nn.ModuleDict(
        {name: FeatureQueue(contrast.queue_size, joint, contents.get(name, 1)) for name in names}
    )


class Stepper:
    """Runs optimizer steps.

    Args:
        model: As `Accelerator.prepare` returned it.
        inner: The same model without wrappers.
        momentum: Follows ``inner``.
        queues: From `build_queues`.
        optimizer: As `Accelerator.prepare` returned it.
        schedule: Stepped once per optimizer step.
        config: The run's configuration.
        accelerator: Precision, device, gradient synchronisation.
    """

    def __init__(
        self,
        model: nn.Module,
        inner: AsapModel,
        momentum: MomentumEncoder,
        queues: nn.ModuleDict,
        optimizer: torch.optim.Optimizer,
        schedule: CosineWarmup,
        config: Config,
        accelerator: Accelerator,
    ) -> None:
        self.model = model
        self.inner = inner
        self.momentum = momentum
        self.queues = queues
        self.optimizer = optimizer
        self.schedule = schedule
        self.config = config
        self.accelerator = accelerator
        self.objective = Objective(config, inner.grid)

    def run(self, micro: Sequence[Batch], step: int, alpha: float, run_dir: Path | None = None) -> StepResult:
        """Run one optimizer step.

        Args:
            micro: This process's micro-batches of the effective batch, on its device.
            step: Optimizer steps done before this one.
            alpha: Share of the soft targets.
            run_dir: Where the rows of a step that is not finite are listed.

        Raises:
            NonFiniteLoss: A term or the gradient is not finite; weights, momentum and queues are unchanged.
        """
        self.model.train()
        terms, keys, counts = self.backward(micro, step, alpha)
        total = sum((self.objective.weights[name] * value for name, value in terms.items()), torch.zeros(()))
        parts = self._part_norms()
        norm = self._clip()
        rows = [row for batch in micro for row in batch.index.tolist()]
        check_finite(terms, norm, step, rows=rows, run_dir=run_dir)
        rates = self.schedule.rates()
        self.optimizer.step()
        self.inner.bound_temperature()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.momentum.update(self.inner)
        self._enqueue(keys)
        values = mean_over_processes(torch.stack([*terms.values(), total.to(norm.device)])).tolist()
        return StepResult(
            terms=dict(zip(terms, values, strict=False)),
            total=values[-1],
            grad_norm=norm.item(),
            part_norms={name: part.item() for name, part in parts.items()},
            rows=len(keys.ids["image"]),
            temperature=whole(self.inner.temperature()).item(),
            alpha=alpha,
            rates=rates,
        )

    def backward(
        self, micro: Sequence[Batch], step: int, alpha: float
    ) -> tuple[dict[str, Tensor], Keys, Counts]:
        """Add the gradient of the effective batch to the parameters; nothing else changes.

        Returns:
            The detached terms of this process, summed over its micro-batches; the keys; the counts.
        """
        with self.accelerator.autocast():
            keys, counts, soft = gather_keys(micro, self.momentum, self.config, step)
        sums: dict[str, Tensor] = {}
        start = 0
        for place, (batch, targets) in enumerate(zip(micro, soft, strict=True)):
            last = place == len(micro) - 1
            silent: Callable[[nn.Module], contextlib.AbstractContextManager[None]] = self.accelerator.no_sync
            with contextlib.nullcontext() if last else silent(self.model):
                with self.accelerator.autocast():
                    output = self._forward(batch)
                terms = self.objective.terms(
                    batch,
                    output,
                    targets,
                    keys,
                    counts,
                    dict(self.queues.items()),  # type: ignore[arg-type]
                    start=start,
                    temperature=self.inner.temperature(),
                    alpha=alpha,
                    seed=self.config.train.seed * 1_000_003 + step,
                )
                loss = sum(self.objective.weights[name] * term for name, term in terms.items())
                self.accelerator.backward(loss + _tie(output, self.inner))
            for name, term in terms.items():
                sums[name] = sums.get(name, torch.zeros_like(term)) + term.detach()
            start += len(batch)
        return sums, keys, counts

    def _forward(self, batch: Batch) -> ModelOutput:
        text = self.config.loss.lma.text
        output: ModelOutput = self.model(
            batch.image,
            batch.text,
            batch.caption if text in ("caption", "both") else None,
            batch.explanation if text in ("explanation", "both") else None,
            fuse_explanation=self.config.loss.lma.ied > 0,
            **self.objective.guidance(batch),
        )
        return output

    def _part_norms(self) -> dict[str, Tensor]:
        gradients: dict[str, list[Tensor]] = {}
        for group in self.optimizer.param_groups:
            own = [p.grad for p in group["params"] if p.grad is not None]
            gradients.setdefault(group["name"].partition("/")[0], []).extend(own)
        return {name: whole(nn.utils.get_total_norm(own)) for name, own in gradients.items()}

    def _clip(self) -> Tensor:
        limit = self.config.optim.clip_norm
        norm = self.accelerator.clip_grad_norm_(
            self.model.parameters(), float("inf") if limit is None else limit
        )
        return whole(norm) if isinstance(norm, Tensor) else torch.tensor(norm)

    def _enqueue(self, keys: Keys) -> None:
        queues: Queues = dict(self.queues.items())  # type: ignore[arg-type]
        anchor = self.config.loss.lma.explanation_anchor
        sources: dict[str, tuple[str, tuple[str, ...], str]] = {
            "image": ("image", ("image",), "image"),
            "text": ("text", ("text",), "text"),
            "captioned_image": ("image", ("caption",), "caption"),
            "caption": ("caption", ("caption",), "caption"),
            "explained": (anchor, ("explanation", anchor), "explanation"),
            "explanation": ("explanation", ("explanation", anchor), "explanation"),
        }
        for name, queue in queues.items():
            features, ids, valid = sources[name]
            rows = keys.valid[valid]
            queue.enqueue(keys.features[features][rows], keys.contents(*ids)[rows])


def _tie(output: ModelOutput, model: AsapModel) -> Tensor:
    """Return a zero that depends on every output: no parameter lacks a gradient, whichever terms are on.

    Distributed training otherwise waits for the gradients of heads that no term uses.
    """
    parts = [output.binary, output.types, output.box, output.words, output.patch_logits]
    parts += [output.patch_embedding, output.features.image, output.features.text]
    parts += [p for p in (output.features.caption, output.features.explanation) if p is not None]
    parts += [p for p in (output.explanation_binary, output.unguided_words) if p is not None]
    return 0.0 * (sum(part.float().sum() for part in parts) + model.log_temperature.sum())
