from __future__ import annotations

import pytest

from pipeline.engines.base import Failure, Request, Result, one_result_each


def result(key):
    return Result(key, "text", "stop", 1, 1)


REQUESTS = [Request("a", "x"), Request("b", "y")]


def test_every_request_with_one_result_passes_in_any_order():
    assert [r.key for r in one_result_each(REQUESTS, [result("b"), result("a")])] == ["b", "a"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [("a", "lost 1 requests, the first: 'b'"), ("aba", "'a' twice"), ("abc", "'c' twice, or it was never")],
)
def test_lost_doubled_and_unknown_results_are_found(keys, message):
    with pytest.raises(RuntimeError, match=message):
        list(one_result_each(REQUESTS, map(result, keys)))


def test_an_error_class_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="'oom' is not one of image_missing"):
        Failure("oom", False, "")


def test_a_result_is_either_a_text_or_a_failure():
    failure = Failure("engine_error", False, "why")
    with pytest.raises(ValueError, match="either"):
        Result("a", "text", "stop", 1, 1, failure)
    with pytest.raises(ValueError, match="either"):
        Result("a", None, None, 1, 0)
    with pytest.raises(ValueError, match="finish_reason 'eos'"):
        Result("a", "text", "eos", 1, 1)
    assert Result("a", "", "stop", 1, 0).text == ""
