"""Which rows of a shard have a text already, and which of the others the engine is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.carrying.carrier import Carrier
from pipeline.carrying.inputs import TextInputs
from pipeline.engines.base import Request, Result
from pipeline.jobs.base import Job, Row


@dataclass(frozen=True)
class Division:
    """The requests of a shard, divided.

    Attributes:
        keys: The key of each request.
        hashes: The input hash of each request, in the same order.
        known: Input hash to the row of an older version that was made from the same.
        first: Every other input hash to the first request that has it.
    """

    keys: Sequence[str]
    hashes: Sequence[str]
    known: Mapping[str, Row]
    first: Mapping[str, Request]

    @property
    def asked(self) -> list[Request]:
        """What the engine is asked: each distinct input once."""
        return list(self.first.values())

    @property
    def carried(self) -> int:
        """Rows whose text is carried over."""
        return sum(digest in self.known for digest in self.hashes)

    @property
    def shared(self) -> int:
        """Rows that get what the engine answers under another key."""
        pairs = zip(self.keys, self.hashes, strict=True)
        return sum(digest not in self.known and self.first[digest].key != key for key, digest in pairs)

    def answered(self, answers: Mapping[str, Result]) -> dict[str, Result]:
        """Return the engine's results by the keys of all requests they answer, twins included.

        Args:
            answers: The engine's results by the keys that it was asked.
        """
        found = {}
        for key, digest in zip(self.keys, self.hashes, strict=True):
            first = self.first.get(digest)
            if first is not None and first.key in answers:
                found[key] = dataclasses.replace(answers[first.key], key=key)
        return found

    def result(self, key: str, digest: str, answered: Mapping[str, Result]) -> Result | None:
        """Return the result of a request: carried over, or what it was answered.

        Args:
            key: The request's key.
            digest: Its input hash.
            answered: What ``answered`` returns, after the gates.
        """
        old = self.known.get(digest)
        if old is not None:
            return Result(key, old["text"], old["finish_reason"], old["tokens_in"], old["tokens_out"])
        return answered.get(key)

    def part(self, mine: slice) -> Division:
        """Return the division of some of the requests, in their order."""
        return dataclasses.replace(self, keys=self.keys[mine], hashes=self.hashes[mine])

    def finish(self, row: Row, digest: str) -> Row:
        """Return a table row with its input hash, and with the flags that a carried one had."""
        flags = {"flags": self.known[digest]["flags"]} if digest in self.known else {}
        return {**row, **flags, "input_hash": digest}


def divide(
    job: Job,
    samples: Sequence[Row],
    requests: Sequence[Request],
    inputs: TextInputs,
    carrier: Carrier | None,
) -> Division:
    """Divide the requests of a shard.

    Args:
        job: The job.
        samples: The shard's samples.
        requests: What would be asked about them, in the same order.
        inputs: What the rows are made from beside the requests.
        carrier: Where older texts are looked for; None asks the engine for all.
    """
    hashes = [
        inputs.hash_of(request, job.image_key(sample), job.compared_with(sample))
        for sample, request in zip(samples, requests, strict=True)
    ]
    known = carrier.find(hashes) if carrier is not None else {}
    first: dict[str, Request] = {}
    for digest, request in zip(hashes, requests, strict=True):
        if digest not in known:
            first.setdefault(digest, request)
    return Division([request.key for request in requests], hashes, known, first)
