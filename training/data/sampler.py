"""Which rows make which batch, for any number of processes and micro-batches."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from training.errors import UsageError

log = logging.getLogger(__name__)

_ORDER = 0x6F726472  # keeps this stream apart from those that augment rows


class EffectiveBatches(Sampler[list[int]]):
    """One process's micro-batches of an epoch.

    An optimizer step takes the next ``batch_size`` rows of a permutation that depends on seed and epoch only.
    They are cut into ``world * accumulate`` contiguous chunks whose sizes differ by one at most; a process
    takes ``accumulate`` neighbouring ones, so that gathering in rank order restores the order. What is left
    at the end makes a smaller step, or none when it cannot give every chunk a row.

    Attributes:
        steps: Optimizer steps of the whole epoch, whatever ``start`` is.
        dropped: Rows of the epoch that are in no step.
    """

    def __init__(
        self,
        n_rows: int,
        batch_size: int,
        accumulate: int,
        world: int,
        rank: int,
        seed: int,
        epoch: int,
        start: int = 0,
        shuffle: bool = True,
    ) -> None:
        """Plan the epoch.

        Args:
            n_rows: Rows of the data set.
            batch_size: Rows per optimizer step over all processes.
            accumulate: Micro-batches per optimizer step of each process.
            world: Number of processes.
            rank: This process.
            seed: Seed of the run.
            epoch: Epoch, from 0.
            start: Optimizer steps that are skipped; their rows are not read.
            shuffle: Whether rows are permuted.

        Raises:
            UsageError: A step, or the whole data set, has too few rows to give every chunk one.
        """
        self.chunks = world * accumulate
        for what, rows in (("train.batch_size", batch_size), ("the training split has", n_rows)):
            if rows < self.chunks:
                raise UsageError(
                    f"{what} {rows} rows, fewer than {world} processes times {accumulate} micro-batches; "
                    "lower train.accumulate, use fewer processes, or give more rows"
                )
        self.n_rows = n_rows
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.rank = rank
        self.seed = seed
        self.epoch = epoch
        self.start = start
        self.shuffle = shuffle
        full, rest = divmod(n_rows, batch_size)
        self.steps = full + (rest >= self.chunks)
        self.dropped = rest if rest < self.chunks else 0
        if self.dropped and rank == 0:
            log.info("epoch %d: the last %d rows cannot fill %d chunks", epoch, self.dropped, self.chunks)

    def __len__(self) -> int:
        return max(self.steps - self.start, 0) * self.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.n_rows)
        if self.shuffle:
            order = np.random.default_rng([_ORDER, self.seed, self.epoch]).permutation(self.n_rows)
        first = self.rank * self.accumulate
        for step in range(self.start, self.steps):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            for chunk in np.array_split(rows, self.chunks)[first : first + self.accumulate]:
                yield chunk.tolist()


class EvalBatches(Sampler[list[int]]):
    """One process's batches of an evaluation: a contiguous part of the rows, none twice, none padded.

    Parts differ by one row at most, so processes may have different numbers of batches, and none at all.
    """

    def __init__(self, n_rows: int, batch_size: int, world: int = 1, rank: int = 0) -> None:
        base, extra = divmod(n_rows, world)
        self.first = rank * base + min(rank, extra)
        self.stop = self.first + base + (rank < extra)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-(self.stop - self.first) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(self.first, self.stop, self.batch_size):
            yield list(range(start, min(start + self.batch_size, self.stop)))
