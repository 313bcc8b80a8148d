from __future__ import annotations

import time
from pathlib import Path

from pipeline.config import ModelConfig
from pipeline.engines import Request
from pipeline.engines.echo import EchoEngine


def answers(requests, **echo):
    config = ModelConfig.model_validate({"kind": "chat", "engine": "echo", "echo": echo})
    return list(EchoEngine(config).generate(requests))


REQUESTS = [Request(str(n), "Describe this", Path(f"{n}.jpg")) for n in range(400)]


def test_the_same_request_gets_the_same_answer_and_others_differ():
    first, second = answers(REQUESTS), answers(REQUESTS[::-1])[::-1]
    assert first == second
    assert len({result.text for result in first}) > 390
    assert answers([Request("0", "Describe this", Path("0.jpg"), seed=1)])[0].text != first[0].text


def test_the_chosen_share_of_keys_fails_in_every_attempt():
    failed = {result.key for result in answers(REQUESTS, failure_share=0.25) if result.failure}
    assert 70 < len(failed) < 130
    assert failed == {result.key for result in answers(REQUESTS, failure_share=0.25) if result.failure}


def test_latency_is_spent_on_each_request():
    started = time.monotonic()
    answers(REQUESTS[:5], latency_s=0.02)
    assert time.monotonic() - started >= 0.1


def test_the_token_limit_cuts():
    config = ModelConfig.model_validate(
        {"kind": "chat", "engine": "echo", "generation": {"max_new_tokens": 5}}
    )
    results = list(EchoEngine(config).generate(REQUESTS))
    assert {result.finish_reason for result in results} == {"stop", "length"}
    assert all(result.tokens_out == len(result.text.split()) <= 5 for result in results)
