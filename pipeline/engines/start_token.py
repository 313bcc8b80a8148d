"""Which token a prompt starts with, told the same way to every engine."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)


def corrected_start(tokenizer: Any) -> int | None:
    """Return the start token that prompts get instead of the tokenizer's own; None when that one is right.

    The Vicuna checkpoints were trained with ``</s>`` as start token and declare it, while their
    tokenizer.json may still put ``<s>`` first; the difference costs accuracy (huggingface/transformers
    pull request 23460). Only for decoder-only language models: the others have no start token here.
    """
    declared: int | None = tokenizer.bos_token_id
    if declared is None:
        return None
    marked = tokenizer("a")["input_ids"]
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    if marked[1:] != bare or marked[0] == declared:
        return None
    log.info("prompts start with %s, as the tokenizer declares", tokenizer.bos_token)
    return declared
