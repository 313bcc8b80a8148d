"""The loop: epochs, optimizer steps, records, validation, checkpoints, stopping and going on."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator

from training.config import Config, changed_keys
from training.data.batch import Batch
from training.data.left_out import log_left_out
from training.data.loader import eval_loader, train_loader
from training.data.rows import Rows
from training.distributed import all_succeed, from_first, rank, world_size
from training.engine.assembly import Run, assemble, open_rows
from training.engine.checkpoint import Counters, load_checkpoint, read_counters
from training.engine.evaluation import box_threshold, figures, predict, watched
from training.engine.meters import Means, Progress, Speed, peak_memory_gib
from training.engine.profiler import Profiler
from training.engine.signals import StopSignal
from training.engine.step import StepResult
from training.engine.store import CheckpointStore
from training.engine.trackers import Trackers
from training.errors import Interrupted, UsageError
from training.metrics.predictions import empty as no_predictions

log = logging.getLogger(__name__)

LOWER_IS_BETTER = ("eer",)


def own_random_streams() -> contextlib.AbstractContextManager[None]:
    """Leave the global random stream as it was: a DataLoader that starts takes a number from it.

    A resumed run starts more of them than a whole one and would get other dropout.
    """
    return torch.random.fork_rng(devices=())


def _counters(resume: Path, config: Config) -> Counters:
    """Return where a checkpoint is; refuse one whose steps have another size."""
    found = read_counters(resume)
    was = found.config.get("train", {}).get("batch_size", config.train.batch_size)
    if was != config.train.batch_size:
        raise UsageError(
            f"train.batch_size is {config.train.batch_size}, but {resume} counts steps of {was} rows: "
            f"go on with {was}, or choose another --to"
        )
    return found


class Loop:
    """Trains a run from where it is to its end.

    Args:
        config: Resolved.
        run_dir: RUN: checkpoints, records, joined rows.
        accelerator: Device, precision, processes.
        resume: Checkpoint to go on from, which `resolve_resume` has found whole, or None.

    Raises:
        TrainingError: The rows, the model, the checkpoint or ``train.best_metric`` cannot be used.
    """

    def __init__(
        self, config: Config, run_dir: Path, accelerator: Accelerator, resume: Path | None = None
    ) -> None:
        self.config = config
        self.run_dir = run_dir
        self.accelerator = accelerator
        self.is_main = rank() == 0
        self.step = self.epoch = self.position = 0
        self.best: dict[str, float] = {}
        self.metrics: dict[str, float] = {}
        # A wrong name would otherwise end the run at its first validation.
        all_succeed(lambda: watched(figures(no_predictions()), config.train.best_metric))
        before = None if resume is None else all_succeed(lambda: _counters(resume, config))
        keep = before.rows if before is not None and before.position else None
        self.rows = open_rows(config, config.data.train_splits, run_dir, accelerator, keep)
        in_use = (self.rows.path.name,)
        self.val = open_rows(config, (config.data.val_split,), run_dir, accelerator, in_use=in_use)
        if keep is not None and self.rows.path.name != keep:
            log.warning("the training rows changed since %s: the rest of its epoch has other rows", resume)
        first_epoch = 0 if before is None else before.steps_per_epoch
        self.run: Run = assemble(config, accelerator, len(self.rows), first_epoch)
        self.means = Means()
        if resume is not None:
            self._restore(resume)
        self.store = CheckpointStore(
            run_dir,
            config.train.keep_last,
            config.train.keep_best,
            config.train.best_metric,
            config.train.best_metric not in LOWER_IS_BETTER,
            rank(),
        )
        self._steps_now = self.run.steps_per_epoch
        self.speed = Speed()

    def _restore(self, resume: Path) -> None:
        state = all_succeed(lambda: load_checkpoint(resume, self.run.tensors(), rank(), deep=False))
        counters = state.counters
        all_succeed(lambda: self.run.restore(state, resume))
        self.step, self.epoch, self.position = counters.step, counters.epoch, counters.position
        self.best = dict(counters.best)
        self.metrics = dict(state.metrics)
        self.means.load_state_dict(counters.means)
        if self.metrics:
            # They may have come after the checkpoint, from a validation that a stop had cut short.
            self._note_best(watched(self.metrics, self.config.train.best_metric))
        if changed := changed_keys(counters.config, self.config):
            log.warning("settings changed since %s: %s", resume, "; ".join(changed))

    def train(self) -> dict[str, float]:
        """Train to the end and return the last validation's metrics.

        Raises:
            Interrupted: SIGTERM or SIGINT came; a checkpoint of the last whole step has been written.
            NonFiniteLoss: A loss or the gradient is not finite; nothing of that step was applied.
        """
        if self.is_main:
            log.info("training rows: %s", self.rows.report)
            log.info("validation rows: %s", self.val.report)
        with (
            StopSignal() as stop,
            all_succeed(self._open_trackers) as trackers,
            Progress(self.run.total, self.step, self.is_main) as progress,
            Profiler(self.config.train.profile, self.run_dir, self.is_main) as profiler,
        ):
            self._evaluate_if_left_out(stop, trackers, progress)
            self.speed.restart()
            for micro in self._effective_batches():
                result = self.run.stepper.run(micro, self.step, self._alpha(), self.run_dir)
                self.step += 1
                self.position += 1
                self._close_epoch()
                progress.step()
                profiler.step()
                self._record(result, trackers, progress)
                stopping = stop.agreed(self.accelerator.device)
                save = self._due(self.config.train.save_every)
                if self._due(self.config.train.eval_every) and not stopping:
                    stopping = self._evaluate(stop, trackers, progress)
                    save = from_first(self._is_among_best) or save
                if stopping or save:
                    self.save()
                # A run that was stopped before its last validation is not done, though all steps are.
                if stopping:
                    raise Interrupted(
                        f"stopped after optimizer step {self.step} of {self.run.total}; go on with --resume"
                    )
        return self.metrics

    def save(self) -> Path:
        """Write a checkpoint of the current step."""
        counters = Counters(
            step=self.step,
            epoch=self.epoch,
            position=self.position,
            schedule=self.run.schedule.state_dict(),
            best=self.best,
            config=self.config.model_dump(mode="json"),
            world_size=world_size(),
            rows=self.rows.path.name,
            steps_per_epoch=self.run.steps_per_epoch,
            means=self.means.state_dict(),
        )
        path = self.store.save(self.run.state(counters, self.metrics))
        self.speed.restart()
        return path

    def _effective_batches(self) -> Iterator[Sequence[Batch]]:
        """Yield this process's micro-batches of each optimizer step, epoch after epoch."""
        accumulate = self.config.train.accumulate
        one_batch = self.config.train.overfit_one_batch
        repeated: Sequence[Batch] | None = None
        while self.step < self.run.total:
            if self.position == 0 and self.step:
                self.rows = self._newer_rows()
            loader = train_loader(
                self.rows,
                self.run.tokenizer,
                self.config,
                # A resumed run must find the one batch that it started with.
                epoch=0 if one_batch else self.epoch,
                start=0 if one_batch else self.position,
                world=world_size(),
                rank=rank(),
                pin_memory=self.accelerator.device.type == "cuda",
            )
            self._steps_now = loader.batches.steps  # type: ignore[union-attr]
            if self.position >= self._steps_now:
                # Another number of processes or micro-batches can drop the short last step of an epoch.
                self._close_epoch()
                continue
            batches = self.speed.waiting_for(loader)
            epoch = self.epoch
            while self.step < self.run.total and self.epoch == epoch:
                if repeated is None:
                    with own_random_streams():
                        micro = [batch.to(self.accelerator.device) for batch in islice(batches, accumulate)]
                    if len(micro) < accumulate:
                        break
                    repeated = micro if one_batch else None
                else:
                    micro = list(repeated)
                yield micro
            log_left_out(loader.dataset, self.accelerator.device, f"epoch {epoch}")

    def _open_trackers(self) -> Trackers:
        return Trackers(self.config, self.run_dir, self.is_main, self.step)

    def _newer_rows(self) -> Rows:
        in_use = (self.rows.path.name, self.val.path.name)
        splits = self.config.data.train_splits
        rows = open_rows(self.config, splits, self.run_dir, self.accelerator, in_use=in_use)
        if rows.path.name != self.rows.path.name and self.is_main:
            log.info("new shards since the last epoch; training rows: %s", rows.report)
        return rows

    def _close_epoch(self) -> None:
        if self.position >= self._steps_now:
            self.epoch, self.position = self.epoch + 1, 0

    def _alpha(self) -> float:
        contrast = self.config.contrast
        rise = contrast.distill_warmup_epochs * self.run.steps_per_epoch
        return contrast.distill * (min(1.0, self.step / rise) if rise > 0 else 1.0)

    def _due(self, every: int | None) -> bool:
        """Tell whether something is due after this step: every so many, or each epoch, and at the end."""
        if self.step == self.run.total:
            return True
        return self.position == 0 if every is None else self.step % every == 0

    def _record(self, result: StepResult, trackers: Trackers, progress: Progress) -> None:
        weights = self.run.stepper.objective.weights
        self.metrics = {}
        self.speed.add(result.rows)
        self.means.add(
            {f"loss/{name}": value for name, value in result.terms.items()}
            | {f"weighted/{name}": weights[name] * value for name, value in result.terms.items()}
            | {"loss/total": result.total, "grad_norm": result.grad_norm}
            | {f"grad_norm/{part}": norm for part, norm in result.part_norms.items()}
            | {"temperature": result.temperature, "distill": result.alpha}
        )
        if self.step % self.config.train.log_every and self.step != self.run.total:
            return
        values = self.means.read() | self.speed.read()
        values["epoch"] = self.epoch + self.position / self._steps_now
        values["memory/peak_gib"] = peak_memory_gib(self.accelerator.device)
        values |= {f"lr/{name}": rate for name, rate in result.rates.items()}
        trackers.log(self.step, values)
        progress.show(values)

    def _evaluate_if_left_out(self, stop: StopSignal, trackers: Trackers, progress: Progress) -> None:
        """Do the validation that a stop cut short, so that a resumed run has every record of a whole one."""
        if self.step == 0 or self.metrics or not self._due(self.config.train.eval_every):
            return
        if self._evaluate(stop, trackers, progress):
            raise Interrupted(f"stopped during the validation of step {self.step}; go on with --resume")
        self.save()

    def _evaluate(self, stop: StopSignal, trackers: Trackers, progress: Progress) -> bool:
        """Validate; return whether it was given up because of a stop."""
        loader = eval_loader(
            self.val,
            self.run.tokenizer,
            self.config,
            world=world_size(),
            rank=rank(),
            pin_memory=self.accelerator.device.type == "cuda",
        )
        with own_random_streams():
            predictions, given_up = predict(
                self.run.model, loader, self.accelerator, box_threshold=box_threshold(self.config), stop=stop
            )
        if given_up:
            return True
        if predictions is not None:
            self.metrics = figures(predictions)
            value = watched(self.metrics, self.config.train.best_metric)
            self._note_best(value)
            trackers.log(self.step, {f"val/{name}": number for name, number in self.metrics.items()})
            shown = ("auc", "acc", "map", "word_f1", "iou_face_mean", "score")
            numbers = ", ".join(f"{name} {100 * self.metrics[name]:.2f}" for name in shown)
            progress.write(f"validation at step {self.step}: {numbers}")
        self.speed.restart()
        return False

    def _is_among_best(self) -> bool:
        """Tell, on rank 0, whether the last validation is one of the best, which are to have a checkpoint."""
        if not self.metrics:
            return False
        return self.store.is_among_best(self.step, watched(self.metrics, self.config.train.best_metric))

    def _note_best(self, value: float) -> None:
        name = self.config.train.best_metric
        sign = -1 if name in LOWER_IS_BETTER else 1
        if not math.isfinite(value):
            return
        if name not in self.best or sign * value > sign * self.best[name]:
            self.best[name] = value
