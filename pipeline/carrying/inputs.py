"""The content hash of everything that a generated text, and what the gates make of it, follows from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pipeline.engines.base import Request

_OF_THE_TABLE = ("samples", "schema_version")
"""Fields of a version's fingerprint that no single text depends on."""

_PROMPT = "prompt."
"""Templates: a text depends on its own prompt, as rendered, and on no other."""


def settings_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a version's fingerprint that decide every text of the version."""
    return {
        name: value
        for name, value in fields.items()
        if name not in _OF_THE_TABLE and not name.startswith(_PROMPT)
    }


@dataclass(frozen=True)
class TextInputs:
    """What the rows of a run are made from, beside their requests.

    Attributes:
        settings: Model, engine, generation parameters, image preprocessing: see ``settings_of``.
        sampled: Tokens are drawn, from a stream that follows from (seed, key). Else equal inputs give equal
            texts under any key.
    """

    settings: str
    sampled: bool

    @classmethod
    def of(cls, fields: Mapping[str, Any], *, sampled: bool) -> Self:
        """Return the inputs of a version with these fingerprint fields."""
        return cls(json.dumps(settings_of(fields), sort_keys=True, ensure_ascii=False), sampled)

    def hash_of(self, request: Request, image_key: str | None, compared_with: Sequence[str] = ()) -> str:
        """Return the 64 hex digits that a row carries as ``input_hash``.

        Args:
            request: What the engine is asked.
            image_key: Content hash of the request's picture; None when there is none.
            compared_with: Words that the gates look for in the text and that the prompt need not show.
        """
        stream = [request.seed, request.key] if self.sampled else None
        parts = [self.settings, request.prompt, image_key, stream, list(compared_with)]
        return hashlib.sha256(
            json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")
        ).hexdigest()
