"""What a job is, and how the rows it needs are found again in ``samples``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import RunConfig
from pipeline.engines.base import Engine, Request, Result
from pipeline.errors import UsageError
from pipeline.gates import Case
from pipeline.gates.policy import Judged, gates_of, judge
from pipeline.jobs.planning import plan_shards
from pipeline.prompts import Prompt, load_prompt
from schemas import Table

Row = dict[str, Any]


class Job(ABC):
    """One kind of text for one kind of key.

    Attributes:
        table: The table the job writes.
        key: The column of ``samples`` that keys it.
        columns: Columns of ``samples`` the job reads, the key among them.
        together: Column whose equal values make equal prompts likely; None where each key has its own.
    """

    table: ClassVar[str]
    key: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    together: ClassVar[str | None] = None

    def __init__(self, config: RunConfig) -> None:
        self.config = config.job(self.table)
        self.model = config.model_for(self.table)
        self.prompts: dict[str, Prompt] = {
            use: load_prompt(name) for use, name in self.config.prompts.items()
        }

    @abstractmethod
    def request(self, sample: Row, image_root: Path) -> Request:
        """Return what the engine is asked for a sample."""

    @abstractmethod
    def row(self, sample: Row, result: Result, flags: list[str]) -> Row:
        """Return the table's row for a sample, the text it got and the flags of that text."""

    def image_key(self, sample: Row) -> str | None:
        """Return the content hash of the picture that a sample's text is made from, None without one."""
        return None

    def compared_with(self, sample: Row) -> Sequence[str]:
        """Return words that the gates look for in a sample's text, beside what its request shows."""
        return ()

    def case(self, sample: Row, request: Request, result: Result) -> Case:
        """Return what the gates look at."""
        assert result.text is not None and result.finish_reason is not None
        return Case(result.text, request.prompt, result.finish_reason, image=request.image)

    def judge(
        self,
        samples: Sequence[Row],
        requests: Sequence[Request],
        results: Mapping[str, Result],
        engine: Engine | None,
        check: Callable[[], None] = lambda: None,
    ) -> Judged:
        """Return what the gates and the policy make of the texts of some samples.

        Args:
            samples: The samples.
            requests: What was asked about them, in the same order.
            results: The answers by key.
            engine: Generates again what the policy asks to; None where there is no answer to judge.
            check: Called with every new answer; stops by raising.
        """
        sample_of = {request.key: sample for sample, request in zip(samples, requests, strict=True)}

        def case(request: Request, result: Result) -> Case:
            return self.case(sample_of[request.key], request, result)

        gates = self.config.gates
        return judge(gates, gates_of(gates), case, requests, results, engine, check)

    def generated(self, prompt: Prompt, result: Result, flags: list[str]) -> Row:
        """Return the columns that both tables share."""
        return {
            "prompt_id": prompt.prompt_id,
            "finish_reason": result.finish_reason,
            "tokens_in": result.tokens_in,
            "tokens_out": result.tokens_out,
            "flags": flags,
        }

    def plan(self, samples: Table) -> Iterator[pa.Table]:
        """Yield the plan, one table per shard; see ``plan_shards``."""
        return plan_shards(samples, self.key, self.config.shard_size, self.together)

    def samples_of(self, samples: Table, entries: pa.Table) -> list[Row]:
        """Return the samples that plan entries point to, in the entries' order.

        Only the row groups concerned are read.

        Raises:
            UsageError: A row no longer holds the planned key.
        """
        found: dict[str, Row] = {}
        for number in entries.column("input_file").unique().to_pylist():
            mine = entries.filter(pa.compute.equal(entries.column("input_file"), number))
            wanted = dict(
                zip(mine.column("input_row").to_pylist(), mine.column("key").to_pylist(), strict=True)
            )
            file = samples.files[number]
            for index, sample in rows_at(file, sorted(wanted), list(self.columns)):
                if sample[self.key] != wanted[index]:
                    raise UsageError(
                        f"{file}, row {index}: holds {self.key} {sample[self.key]!r}, the plan says "
                        f"{wanted[index]!r}; the samples table was changed under the run. Run ingest, then "
                        "start a --new-version"
                    )
                found[sample[self.key]] = sample
        return [found[key] for key in entries.column("key").to_pylist()]


def rows_at(file: Path, indexes: list[int], columns: list[str]) -> Iterator[tuple[int, Row]]:
    """Yield rows of a Parquet file by their number, reading only the row groups concerned.

    Args:
        file: The file.
        indexes: Numbers of the rows, ascending.
        columns: Columns to read.
    """
    parquet = pq.ParquetFile(file)
    start = 0
    for group in range(parquet.metadata.num_row_groups):
        size = parquet.metadata.row_group(group).num_rows
        inside = [index for index in indexes if start <= index < start + size]
        if inside:
            table = parquet.read_row_group(group, columns=columns)
            picked = table.take([index - start for index in inside]).to_pylist()
            yield from zip(inside, picked, strict=True)
        start += size
