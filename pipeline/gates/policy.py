"""What becomes of a flagged text: kept, generated again with other sampling, or set aside.

All of it happens within a shard before its commit, so a run that is stopped leaves no half-judged row, and a
text follows from its seed, key and attempt alone, whatever rows it was generated with.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.gates import GatesConfig
from pipeline.engines.base import Engine, Request, Result, Sampling
from pipeline.gates import Case, flags_of

Flags = Callable[[Sequence[Case]], list[list[str]]]


@dataclass(frozen=True)
class Again:
    """What it took to generate a text again.

    Attributes:
        attempts: How often.
        tokens_in: Prompt tokens of all attempts.
        tokens_out: Tokens generated in all attempts.
    """

    attempts: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True)
class Judged:
    """Some texts after the gates.

    Attributes:
        results: The answer of each key that is kept or set aside, and the failures.
        first: Flags of each first text.
        flags: Flags of each text that was taken in the end.
        again: Keys whose texts were generated again.
        set_aside: Keys whose rows are quarantined.
        curable: Flags whose policy is to generate again.
        seconds: Time it took to generate again.
    """

    results: Mapping[str, Result]
    first: Mapping[str, list[str]]
    flags: Mapping[str, list[str]]
    again: Mapping[str, Again]
    set_aside: frozenset[str]
    curable: frozenset[str]
    seconds: float = 0.0

    @property
    def attempts(self) -> int:
        """Texts that were generated again."""
        return sum(again.attempts for again in self.again.values())

    @property
    def tokens_in(self) -> int:
        """Prompt tokens of those."""
        return sum(again.tokens_in for again in self.again.values())

    @property
    def tokens_out(self) -> int:
        """Tokens generated for those."""
        return sum(again.tokens_out for again in self.again.values())

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Per flag: how many texts or rows.

        ``raised`` by first texts; ``regenerated``: of these, rows that were generated again; ``cured``: of
        these, rows that ended without it; ``quarantined``: rows that were set aside with it; ``kept``: rows
        of the table that have it.
        """
        counts: dict[str, Counter[str]] = {}

        def note(flag: str, what: str) -> None:
            none = Counter(raised=0, regenerated=0, cured=0, quarantined=0, kept=0)
            counts.setdefault(flag, none)[what] += 1

        for key, first in self.first.items():
            last = self.flags[key]
            for flag in first:
                note(flag, "raised")
                if key in self.again and flag in self.curable:
                    note(flag, "regenerated")
                    if flag not in last:
                        note(flag, "cured")
            for flag in last:
                note(flag, "quarantined" if key in self.set_aside else "kept")
        return {flag: dict(found) for flag, found in counts.items()}

    def part(self, keys: Iterable[str]) -> Judged:
        """Return what is said of some of the keys; the seconds stay with the whole."""
        mine = set(keys)
        return Judged(
            {key: value for key, value in self.results.items() if key in mine},
            {key: value for key, value in self.first.items() if key in mine},
            {key: value for key, value in self.flags.items() if key in mine},
            {key: value for key, value in self.again.items() if key in mine},
            self.set_aside & mine,
            self.curable,
        )

    def stats(self) -> dict[str, Any]:
        """Return what a shard's marker says about its gates; empty when no gate noticed anything."""
        counts = self.counts
        return {"gates": counts, "attempts": self.attempts} if counts else {}


@dataclass
class _Candidate:
    """A text of a key, by the attempt that wrote it."""

    attempt: int
    result: Result
    flags: list[str] = field(default_factory=list)


def judge(
    gates: GatesConfig,
    flags: Flags,
    case: Callable[[Request, Result], Case],
    requests: Sequence[Request],
    results: Mapping[str, Result],
    engine: Engine | None,
    check: Callable[[], None] = lambda: None,
) -> Judged:
    """Flag the texts of a shard, generate again what the policy asks to, and say what is set aside.

    Of several texts one that need not be set aside is taken before one that must; among those, the one with
    the fewest flags that have a policy, then the one with the fewest flags, then the earliest.

    Args:
        gates: The policy.
        flags: The gates: cases in, the flags of each out.
        case: Turns an answer into what the gates look at.
        requests: What was asked.
        results: The answers by key, in any order; requests without one are left alone.
        engine: Generates again; None when nothing was written.
        check: Called with every new answer; stops by raising.

    Raises:
        EngineDead: The device is gone.
    """
    asked = [request for request in requests if request.key in results]
    written = [request for request in asked if results[request.key].failure is None]
    texts = {request.key: [_Candidate(0, results[request.key])] for request in written}
    _flag(flags, case, [(request, texts[request.key][0]) for request in written])
    again: dict[str, Again] = {}
    seconds = 0.0
    for attempt in range(1, gates.attempts + 1):
        todo = [request for request in written if _wants_another(gates, texts[request.key])]
        if not todo:
            break
        assert engine is not None
        started = time.monotonic()
        new = _generate(engine, [resampled(request, gates, attempt) for request in todo], check)
        seconds += time.monotonic() - started
        for key, result in new.items():
            before = again.get(key, Again())
            again[key] = Again(
                before.attempts + 1,
                before.tokens_in + result.tokens_in,
                before.tokens_out + result.tokens_out,
            )
        # A row that fails now has its earlier texts to fall back on.
        made = [
            (request, _Candidate(attempt, new[request.key]))
            for request in todo
            if new[request.key].failure is None
        ]
        _flag(flags, case, made)
        for request, candidate in made:
            texts[request.key].append(candidate)
    best = {key: min(candidates, key=lambda text: _rank(gates, text)) for key, candidates in texts.items()}
    return Judged(
        results=dict(results) | {key: text.result for key, text in best.items()},
        first={key: candidates[0].flags for key, candidates in texts.items()},
        flags={key: text.flags for key, text in best.items()},
        again=again,
        set_aside=frozenset(key for key, text in best.items() if quarantines(gates, text.flags)),
        curable=frozenset(flag for flag, policy in gates.policy.items() if policy == "regenerate"),
        seconds=seconds,
    )


def resampled(request: Request, gates: GatesConfig, attempt: int) -> Request:
    """Return a request for a new attempt: random numbers of its own, hotter with each attempt."""
    temperature = gates.again.temperature + (attempt - 1) * gates.again.temperature_step
    return dataclasses.replace(request, sampling=Sampling(attempt, temperature, gates.again.top_p))


def quarantines(gates: GatesConfig, flags: Iterable[str]) -> bool:
    """Return whether a text that ends with these flags is set aside."""
    policies = {gates.policy.get(flag, "keep") for flag in flags}
    return "quarantine" in policies or ("regenerate" in policies and gates.after_attempts == "quarantine")


def gates_of(gates: GatesConfig) -> Flags:
    """Return the gates that a configuration turns on: cases in, the flags of each out."""

    def flags(cases: Sequence[Case]) -> list[list[str]]:
        found = [flags_of(case) for case in cases]
        if gates.clip is not None:
            from pipeline.gates.image_mismatch import mismatches

            for mine, mismatch in zip(found, mismatches(gates.clip, cases), strict=True):
                if mismatch:
                    mine.append("image_mismatch")
        return found

    return flags


def _generate(engine: Engine, requests: Sequence[Request], check: Callable[[], None]) -> dict[str, Result]:
    new = {}
    answers = engine.generate(requests)
    try:
        for result in answers:
            new[result.key] = result
            check()
    finally:
        close = getattr(answers, "close", None)
        if close is not None:
            close()
    return new


def _flag(
    flags: Flags,
    case: Callable[[Request, Result], Case],
    made: Sequence[tuple[Request, _Candidate]],
) -> None:
    found = flags([case(request, candidate.result) for request, candidate in made])
    for (_, candidate), mine in zip(made, found, strict=True):
        candidate.flags = mine


def _wants_another(gates: GatesConfig, texts: list[_Candidate]) -> bool:
    return all(_with_policy(gates, text.flags, "regenerate") for text in texts)


def _with_policy(gates: GatesConfig, flags: Iterable[str], *policies: str) -> list[str]:
    return [flag for flag in flags if gates.policy.get(flag, "keep") in policies]


def _rank(gates: GatesConfig, text: _Candidate) -> tuple[bool, int, int, int]:
    acting = _with_policy(gates, text.flags, "regenerate", "quarantine")
    return quarantines(gates, text.flags), len(acting), len(text.flags), text.attempt
