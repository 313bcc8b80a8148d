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
        hashes: The input hash of each request, in the requests' order.
        known: Input hash to the row of an older version that was made from the same.
        first: Every other input hash to the first request that has it.
    """

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
        return len(self.hashes) - self.carried - len(self.first)

    def result(self, request: Request, digest: str, answers: Mapping[str, Result]) -> Result | None:
        """Return the result of a request: carried over, answered, or its twin's answer under its own key.

        Args:
            request: The request.
            digest: Its input hash.
            answers: The engine's results by key.
        """
        old = self.known.get(digest)
        if old is not None:
            return Result(request.key, old["text"], old["finish_reason"], old["tokens_in"], old["tokens_out"])
        answer = answers.get(self.first[digest].key)
        return None if answer is None else dataclasses.replace(answer, key=request.key)

    def answered(self, requests: Sequence[Request], answers: Mapping[str, Result]) -> dict[str, Result]:
        """Return the engine's results by the keys of all requests they answer, twins included.

        Args:
            requests: All requests, in the order of ``hashes``.
            answers: The engine's results by key.
        """
        found = {}
        for request, digest in zip(requests, self.hashes, strict=True):
            answer = answers.get(self.answered_as(digest))
            if answer is not None:
                found[request.key] = dataclasses.replace(answer, key=request.key)
        return found

    def part(self, mine: slice) -> Division:
        """Return the division of some of the requests, in their order."""
        return dataclasses.replace(self, hashes=self.hashes[mine])

    def answered_as(self, digest: str) -> str:
        """Return the key under which the engine answers an input; empty for one that is known."""
        return "" if digest in self.known else self.first[digest].key

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
        inputs.hash_of(request, job.image_key(sample))
        for sample, request in zip(samples, requests, strict=True)
    ]
    known = carrier.find(hashes) if carrier is not None else {}
    first: dict[str, Request] = {}
    for digest, request in zip(hashes, requests, strict=True):
        if digest not in known:
            first.setdefault(digest, request)
    return Division(hashes, known, first)
