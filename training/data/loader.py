"""Loaders: batches made by worker processes that outlive a signal meant for the run."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import threading
import weakref
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

import torch
from torch.utils.data import DataLoader

from training.config.sections import Config
from training.data.batch import Batch
from training.data.dataset import RowDataset
from training.data.rows import Rows
from training.data.sampler import EffectiveBatches, EvalBatches
from training.data.tokens import WordTokenizer
from training.errors import DataError

_running: weakref.WeakSet[Any] = weakref.WeakSet()
# The last one asks the trainer where it is, and a scheduler's command sends it to every process of a job.
_STOPS = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1}
_RAISED_IN_WORKER = f"{DataError.__module__}.{DataError.__qualname__}: "


class BatchLoader:
    """Batches of one process over one epoch or evaluation.

    Workers come from a fork server: forking the trainer itself would copy CUDA's state and threads' locks in
    whatever state they are, and spawning imports torch and open_clip anew in each worker of each epoch, which
    takes seconds. The server has them imported before the first worker is made.

    Attributes:
        dataset: The rows; its ``counts()`` say what was left out.
        batches: The plan of rows; ``steps`` of `EffectiveBatches` is the epoch's length.
    """

    def __init__(
        self,
        dataset: RowDataset,
        batches: EffectiveBatches | EvalBatches,
        *,
        workers: int,
        prefetch: int,
        pin_memory: bool,
    ) -> None:
        self.dataset = dataset
        self.batches = batches
        options: dict[str, Any] = {}
        if workers:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["open_clip", "training.data.dataset"])
            options = {
                "multiprocessing_context": context,
                "prefetch_factor": prefetch,
                "worker_init_fn": _start_worker,
            }
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=dataset.collate,
            pin_memory=pin_memory,
            **options,
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        if self._loader.num_workers:
            _allow_open_files()
        with _stops_held():
            iterator = iter(self._loader)
        _running.add(iterator)
        try:
            yield from self._batches(iterator)
        finally:
            _end_workers(iterator)

    def _batches(self, iterator: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            try:
                batch = next(iterator, None)
            except DataError as error:
                # torch puts the worker's traceback before the message; the sentence is what helps.
                raise DataError(str(error).rpartition(_RAISED_IN_WORKER)[2].strip()) from None
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise DataError(
                    f"a process that reads images died ({error}); it may have run out of memory or of shared "
                    "memory (/dev/shm): lower data.workers, data.prefetch or the batch size"
                ) from error
            if batch is None:
                return
            yield batch


def train_loader(
    rows: Rows,
    tokenizer: WordTokenizer,
    config: Config,
    *,
    epoch: int,
    start: int = 0,
    world: int = 1,
    rank: int = 0,
    pin_memory: bool = False,
) -> BatchLoader:
    """Make the loader of an epoch: micro-batches, ``train.accumulate`` per optimizer step.

    Args:
        rows: The joined training rows.
        tokenizer: Of the towers.
        config: Of the run.
        epoch: Epoch, from 0.
        start: Optimizer steps of this epoch that are done already.
        world: Number of processes.
        rank: This process.
        pin_memory: Put batches where a CUDA device copies them from without waiting.

    Raises:
        UsageError: Too few rows per step, or an image cache of another size.
        DataError: The image root is not a folder.
    """
    dataset = RowDataset(
        rows,
        tokenizer,
        config.data,
        config.model.image_size,
        train=True,
        augment=not config.train.overfit_one_batch,
        seed=config.train.seed,
        epoch=epoch,
        workers=config.data.workers,
    )
    batches = EffectiveBatches(
        len(rows),
        config.train.batch_size,
        config.train.accumulate,
        world,
        rank,
        config.train.seed,
        epoch,
        start,
    )
    return _loader(dataset, batches, config, pin_memory)


def eval_loader(
    rows: Rows,
    tokenizer: WordTokenizer,
    config: Config,
    *,
    world: int = 1,
    rank: int = 0,
    pin_memory: bool = False,
) -> BatchLoader:
    """Make the loader of an evaluation: this process's part of the rows, in order; arguments as above."""
    dataset = RowDataset(
        rows, tokenizer, config.data, config.model.image_size, train=False, workers=config.data.workers
    )
    batches = EvalBatches(len(rows), config.train.eval_batch_size, world, rank)
    return _loader(dataset, batches, config, pin_memory)


def _loader(
    dataset: RowDataset, batches: EffectiveBatches | EvalBatches, config: Config, pin_memory: bool
) -> BatchLoader:
    return BatchLoader(
        dataset, batches, workers=config.data.workers, prefetch=config.data.prefetch, pin_memory=pin_memory
    )


@contextlib.contextmanager
def _stops_held() -> Iterator[None]:
    """Hold the signals back that are meant for the trainer while workers start.

    A scheduler signals every process of a job. Workers and their server inherit the held-back state, so there
    is no moment in which a signal ends one before it can ignore it. The trainer itself still gets it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        # Starting the tracker lets SIGTERM and SIGINT through again, so it has to run before the workers.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_workers(iterator: Any) -> None:
    """End the workers of an epoch, finished or given up."""
    _running.discard(iterator)
    workers = getattr(iterator, "_workers", ())
    if workers:
        iterator._shutdown_workers()
    for worker in workers:
        if worker.is_alive():  # stuck in a read; SIGTERM, which torch has tried, does not reach it
            worker.kill()


@atexit.register
def _end_all_workers() -> None:
    """End what an error left running: Python waits at its exit for workers, and they ignore its SIGTERM."""
    for iterator in list(_running):
        _end_workers(iterator)


def _start_worker(_: int) -> None:
    for stop in _STOPS:
        signal.signal(stop, signal.SIG_IGN)
    torch.set_num_threads(1)
    # torch's own watch looks at the parent, which is the fork server, and that one lives as long as a worker.
    trainer = multiprocessing.parent_process()
    assert trainer is not None
    threading.Thread(target=_end_with, args=(trainer.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this process when the trainer dies, even by SIGKILL."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _allow_open_files() -> None:
    """Raise the soft limit of open files: every tensor that waits in the queue is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
