"""Where two engines write different greedy texts: how near the tie was that rounding decided."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.engines import Request

NEAR = 1e-3
"""Difference of two logits in float32 below which either token may win; logits here are about 1 to 20."""


@torch.inference_mode()
def margin(engine: Any, request: Request, other: str) -> float:
    """Return the margin between the two likeliest tokens where ``other`` leaves the greedy text.

    Args:
        engine: A TransformersEngine with a chat model.
        request: The row.
        other: What the other engine wrote.
    """
    adapter = engine.adapter
    row = adapter.encode(request)
    made = adapter.model.generate(
        input_ids=torch.tensor([row.ids]), output_logits=True, return_dict_in_generate=True
    )
    ids = made.sequences[0, len(row.ids) :].tolist()
    for step, logits in enumerate(made.logits):
        if not other.startswith(adapter.prompts.decode(ids[: step + 1])) or ids[step] in adapter.ends:
            first, second = logits[0].float().topk(2).values.tolist()
            return first - second
    raise AssertionError(f"{request.key}: the texts are the same")


def assert_same_texts(engine: Any, requests: list[Request], found: dict, expected: dict) -> None:
    """Check that at least 98 % of the rows agree, and that every other one is a near tie."""
    differ = [request for request in requests if found[request.key].text != expected[request.key].text]
    margins = {request.key: margin(engine, request, found[request.key].text) for request in differ}
    assert len(differ) <= 0.02 * len(requests), margins
    assert all(value < NEAR for value in margins.values()), margins
    same = expected.keys() - margins.keys()
    assert {key: found[key] for key in same} == {key: expected[key] for key in same}
