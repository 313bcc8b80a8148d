"""The chat format of ChatGLM3, from the files of its repository and without running code that comes with it.

The published repository has its vocabulary as a SentencePiece model, and everything else about the tokenizer
as Python code, which does not run under transformers 5 (its ``_pad`` lacks an argument). What that code does
is short: nine control tokens follow the vocabulary, and a prompt is ``[gMASK] sop <|user|>``, a newline, the
message, ``<|assistant|>``, with newline and message tokenised separately.
"""

from __future__ import annotations

from pathlib import Path

import sentencepiece

_CONTROL = (
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "sop",
    "eop",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
)
"""Control tokens in the order of their ids, the first right behind the SentencePiece vocabulary."""


def is_sentencepiece(path: Path) -> bool:
    """Return whether a file is a SentencePiece model; GLM-4 has a list of byte pairs under the same name."""
    try:
        sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError):
        return False
    return True


class SentencePiecePrompts:
    """ChatGLM3's tokenizer and chat format.

    Attributes:
        ends: The end of a document, and the turns of the user and of a tool: where ChatGLM3 stops answering.
    """

    def __init__(self, folder: Path) -> None:
        self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        self._words: int = self._pieces.vocab_size()
        control = {token: self._words + place for place, token in enumerate(_CONTROL)}
        newline = self._pieces.encode("\n")
        self._before = [control["[gMASK]"], control["sop"], control["<|user|>"], *newline]
        self._after = [control["<|assistant|>"]]
        self.ends = {self._pieces.eos_id(), control["<|user|>"], control["<|observation|>"]}

    def encode(self, message: str) -> list[int]:
        """Return the token ids of one user message; a control token in it is read as plain characters."""
        return self._before + self._pieces.encode(message) + self._after

    def decode(self, ids: list[int]) -> str:
        """Return the text of generated token ids, control tokens left out, stripped."""
        return self._pieces.decode([token for token in ids if token < self._words]).strip()
