"""An engine without a model, for rehearsals: answers follow from a hash of the request.

The whole path (plan, shards, resume, flows) runs on it at any speed, and a second run writes the same rows.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence

from pipeline.config.models import EchoConfig, ModelConfig
from pipeline.engines.base import Failure, Request, Result, one_result_each

_WORDS = (
    "a the this one person picture text shows says names words place hand smile street crowd flag "
    "yellow green small large early late near under with without before after"
).split()


class EchoEngine:
    """Answers each request from sha256 of its seed, inputs and attempt; options in ``EchoConfig``.

    As with a real model, equal prompts about no picture get equal answers unless tokens are sampled. The key
    stands for the picture, whose content it names.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.options: EchoConfig = config.echo
        self.sampled = config.generation.do_sample
        self.limit = config.generation.max_new_tokens

    def __str__(self) -> str:
        return f"echo, a fake without a model, {self.options.latency_s:g} s per text"

    def generate(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result per request, in the order of the requests, each after ``latency_s``."""
        return one_result_each(requests, map(self._answer, requests))

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self, request: Request) -> Result:
        if self.options.latency_s:
            time.sleep(self.options.latency_s)
        key = request.key if request.image or self.sampled or request.attempt else ""
        identity = "\0".join((str(request.seed), key, request.prompt))
        digest = hashlib.sha256(identity.encode()).digest()
        tokens_in = len(request.prompt.split())
        if int.from_bytes(digest[:4], "big") < self.options.failure_share * 2**32:
            failure = Failure(
                "engine_error", False, f"echo was told to fail {self.options.failure_share:.0%}"
            )
            return Result.failed(request.key, failure, tokens_in)
        if int.from_bytes(digest[12:16], "big") < self.options.outage_share * 2**32:
            why = f"echo was told that memory runs out for {self.options.outage_share:.0%}"
            return Result.failed(request.key, Failure("out_of_memory", False, why), tokens_in)
        if request.attempt:  # After the failures, which are the same in every attempt.
            digest = hashlib.sha256(f"{identity}\0{request.attempt}".encode()).digest()
        words = [_WORDS[byte % len(_WORDS)] for byte in digest[4 : 8 + digest[31] % 16]]
        if int.from_bytes(digest[26:30], "big") < self.options.loop_share * 2**32:
            words = words[:4] * 4
        cut = len(words) > self.limit
        words = words[: self.limit]
        return Result(request.key, " ".join(words), "length" if cut else "stop", tokens_in, len(words))
