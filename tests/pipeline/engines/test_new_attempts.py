"""Requests with a sampling of their own, beside greedy ones, on real models."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline.engines import Request, Sampling
from pipeline.engines.vllm import VllmEngine
from tests.pipeline.engines.conftest import by_key

HOT = 1.9


def sampled(requests, attempt, temperature=HOT):
    return [dataclasses.replace(r, sampling=Sampling(attempt, temperature, 0.95)) for r in requests]


def mixed(requests):
    """Greedy rows, first attempts and second attempts in turn, under keys of their own."""
    out = []
    for number, request in enumerate(requests * 3):
        request = dataclasses.replace(request, key=f"{request.key}-{number}")
        out += [request] if number % 3 == 0 else sampled([request], number % 3)
    return out


def check(alone, engine, requests, greedy):
    found = by_key(engine.generate(requests))
    assert found == alone
    for request in requests:
        if request.sampling is None:
            assert found[request.key].text == greedy[request.prompt, request.image]
    changed = [r.key for r in requests if found[r.key].text != greedy[r.prompt, r.image]]
    assert len(changed) > len(requests) // 3
    others = [r if r.sampling is None else sampled([r], r.attempt + 2)[0] for r in requests]
    again = by_key(engine.generate(others))
    assert sum(again[key].text != found[key].text for key in changed) > len(changed) // 2


@pytest.mark.parametrize("name", ["glm", "instructblip-llama-v5", "instructblip-t5-v5"])
def test_transformers_draws_a_rows_attempts_whatever_its_batch(bench, name):
    requests = mixed(bench.requests(name))
    single, many = bench.engine(name, batch_size=1), bench.engine(name, batch_size=8)
    greedy = {
        (request.prompt, request.image): result.text
        for request in bench.requests(name)
        for result in single.generate([request])
    }
    check(by_key(single.generate(requests)), many, requests, greedy)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_vllm_draws_a_rows_attempts_whatever_its_neighbours(bench):
    engine = VllmEngine(bench.config("glm-wide", engine="vllm"))
    try:
        asked = bench.requests("glm")
        requests = mixed(asked)
        greedy = {
            (request.prompt, request.image): result.text
            for request in asked
            for result in engine.generate([request])
        }
        alone = {}
        for request in requests:
            alone |= by_key(engine.generate([request]))
        check(alone, engine, requests, greedy)
    finally:
        engine.close()


@pytest.mark.parametrize("values", [(0, 1.0), (1, 0.0), (1, 1.0, 0.0), (1, 1.0, 1.5), (1, float("nan"))])
def test_a_sampling_that_means_nothing_is_refused(values):
    with pytest.raises(ValueError, match="attempt starts at 1"):
        Sampling(*values)


def test_a_request_knows_its_attempt():
    assert Request("a", "b").attempt == 0
    assert Request("a", "b", sampling=Sampling(2, 0.7)).attempt == 2
