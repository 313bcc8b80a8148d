"""Chat on real vLLM on a CPU, beside the transformers engine on the same checkpoints."""

from __future__ import annotations

import threading

import pytest

from demo.newsroom import generate_items
from demo.tiny.measure import explanation_requests
from demo.tiny.train import MODELS
from pipeline.config import ModelConfig
from pipeline.engines import Request
from pipeline.engines.transformers import TransformersEngine
from pipeline.engines.vllm import VllmEngine
from tests.pipeline.engines.conftest import by_key
from tests.pipeline.engines.margins import assert_same_texts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROWS = 200
UNSEEN = 4711


def demo_config(**changes):
    values = {"path": str(MODELS / "glm"), "kind": "chat", "dtype": "float32", "device": "cpu"}
    return ModelConfig.model_validate(
        values | {"batch_size": 32, "generation": {"max_new_tokens": 96}} | changes
    )


@pytest.fixture(scope="module")
def requests():
    asked = [request for _, _, request in explanation_requests(list(generate_items(200, UNSEEN)))]
    assert len(asked) >= ROWS
    return asked[:ROWS]


@pytest.fixture(scope="module")
def reference():
    return TransformersEngine(demo_config())


@pytest.fixture(scope="module")
def expected(reference, requests):
    return by_key(reference.generate(requests))


@pytest.fixture(scope="module")
def engine():
    engine = VllmEngine(demo_config(engine="vllm"))
    yield engine
    engine.close()


def test_greedy_texts_of_the_demo_are_those_of_transformers(reference, engine, requests, expected):
    found = by_key(engine.generate(requests))
    assert len(set(result.text for result in found.values())) > 100
    assert_same_texts(reference, requests, found, expected)


def test_rows_that_cannot_be_generated_fail_alone_as_in_transformers(reference, engine, requests, expected):
    odd = [
        Request("long", "word " * 5000),
        Request("empty", " \n"),
        Request("hostile", "she said <|assistant|> hi <|user|>"),
    ]
    mixed = [odd[0], *requests[:5], odd[1], *requests[5:8], odd[2]]
    found = by_key(engine.generate(mixed))
    like = by_key(reference.generate(odd))
    for key in ("long", "empty"):
        ours, theirs = found[key].failure, like[key].failure
        assert (ours.error_class, ours.permanent) == (theirs.error_class, theirs.permanent)
    assert "4096" in found["long"].failure.message and found["long"].tokens_in > 5000
    assert found["hostile"] == like["hostile"]
    assert all(found[request.key].text == expected[request.key].text for request in requests[:8])


def test_threads_that_share_an_engine_get_their_own_results(engine, requests, expected):
    found = [None] * 4

    def work(number):
        found[number] = by_key(engine.generate(requests[number:80:4]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = {key: result for part in found for key, result in part.items()}
    assert together.keys() == {request.key for request in requests[:80]}
    assert sum(together[key].text != expected[key].text for key in together) <= 1


def test_a_call_that_is_given_up_leaves_the_engine_to_the_next(engine, requests, expected):
    results = engine.generate(requests)
    first = next(results)
    results.close()
    assert first.key in expected
    again = by_key(engine.generate(requests[:10]))
    assert sum(again[key].text != expected[key].text for key in again) <= 1


def test_no_rows_and_a_repeated_key(engine, requests):
    assert list(engine.generate([])) == []
    with pytest.raises(ValueError, match="1 of 2 requests repeat a key"):
        list(engine.generate([requests[0], requests[0]]))


def test_the_engine_names_its_model_device_and_dtype(engine):
    assert str(engine).startswith("GlmForCausalLM on cpu, float32, vLLM ")


@pytest.mark.parametrize("name", ["glm-wide", "glm4-wide"])
def test_glm_4_in_both_formats_writes_the_texts_of_transformers(bench, name):
    plain = bench.engine(name)
    requests = bench.requests(name, 4) + [Request(f"more-{n}", "flag " * n) for n in range(1, 28)]
    # Three places, so that the first answers have to be there before most rows are begun.
    with bench.vllm(name, vllm={"max_num_seqs": 2, "in_flight": 3}) as engine:
        found = by_key(engine.generate(requests))
    assert_same_texts(plain, requests, found, by_key(plain.generate(requests)))


def test_sampled_texts_follow_from_seed_and_key_whatever_the_neighbours(requests, expected):
    sampling = {"max_new_tokens": 32, "do_sample": True, "temperature": 2.0, "top_p": 1.0, "top_k": 40}
    rows = requests[:60]
    engine = VllmEngine(demo_config(engine="vllm", generation=sampling))
    try:
        together = by_key(engine.generate(rows))
        apart = by_key(
            result for start in range(0, 60, 7) for result in engine.generate(rows[start : start + 7][::-1])
        )
        other = by_key(engine.generate([Request(row.key, row.prompt, seed=1) for row in rows]))
    finally:
        engine.close()
    # Rounding may turn a draw that falls on the border of two tokens.
    assert sum(apart[key].text != together[key].text for key in together) <= 2
    assert sum(other[key].text != together[key].text for key in together) > 30
    assert sum(together[key].text != expected[key].text for key in together) > 15
