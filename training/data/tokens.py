"""Words to tokens: every word is tokenized on its own, so that every token knows its word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from training.data.batch import NO_WORD
from training.errors import UsageError

PADDING = 0
"""Token id of padding, for every tokenizer; no token of a word has it."""

_KNOWN_WORDS = 1 << 16  # kept with their tokens, those used last; captions of a large set have millions


@dataclass(frozen=True)
class Encoded:
    """A tokenized text.

    Attributes:
        ids: Token ids: begin, the tokens of each kept word, end.
        word: Index of each token's word, `NO_WORD` for begin and end.
        kept: Words that are there with all their tokens; the words after them were dropped.
    """

    ids: list[int]
    word: list[int]
    kept: int


class WordTokenizer:
    """The tokenizer of a pair of towers, one word at a time.

    A text is cleaned as the towers' own tokenizer does, yet word by word: the split at white space is the one
    of ``samples.words``, whatever the cleaning makes of a word.
    """

    def __init__(self, towers: str, max_tokens: int | None = None) -> None:
        """Open the tokenizer.

        Args:
            towers: open_clip model name, or ``local-dir:FOLDER``.
            max_tokens: Most tokens of a text with begin and end; the towers' context length by default.

        Raises:
            UsageError: No such tokenizer, one without begin and end, or more tokens than the context length.
        """
        self.towers = towers
        tokenizer = _open(towers)
        self.context_length: int = tokenizer.context_length
        self.max_tokens = self.context_length if max_tokens is None else max_tokens
        if self.max_tokens > self.context_length:
            raise UsageError(
                f"data.max_tokens: {max_tokens} is more than the {self.context_length} tokens that the text "
                f"tower of {towers} reads; give at most {self.context_length}"
            )
        self._clean: Any = getattr(tokenizer, "clean_fn", str)
        self._inner: Any = getattr(tokenizer, "tokenizer", None)
        self._simple: Any = tokenizer if self._inner is None else None
        self.begin, self.end = self._ends()
        self._reserved = {PADDING, self.begin, self.end}
        self.placeholder = self._placeholder()
        self._word: Callable[[str], tuple[int, ...]] = lru_cache(_KNOWN_WORDS)(self._tokens)

    def encode(self, words: Sequence[str], max_words: int | None = None) -> Encoded:
        """Tokenize words until one does not fit.

        Args:
            words: Words without white space.
            max_words: Most words that are kept.
        """
        ids, owner, kept = [self.begin], [NO_WORD], 0
        for position, word in enumerate(words[:max_words]):
            tokens = self._word(word)
            if len(ids) + len(tokens) >= self.max_tokens:
                break
            ids += tokens
            owner += [position] * len(tokens)
            kept += 1
        return Encoded([*ids, self.end], [*owner, NO_WORD], kept)

    def encode_text(self, text: str) -> list[int]:
        """Tokenize a caption or an explanation; words that do not fit are dropped."""
        return self.encode(text.split()).ids

    def __reduce__(self) -> tuple[type[WordTokenizer], tuple[str, int]]:
        return WordTokenizer, (self.towers, self.max_tokens)

    def _tokens(self, word: str) -> tuple[int, ...]:
        # A text may spell a special token, and CLIP's vocabulary uses id 0: they would end or hide words.
        raw = (self.placeholder if i in self._reserved else i for i in self._raw(word))
        return tuple(raw) or (self.placeholder,)

    def _raw(self, word: str) -> list[int]:
        if self._inner is None:
            return list(self._simple.encode(word))
        return list(self._inner.encode(self._clean(word), add_special_tokens=False))

    def _ends(self) -> tuple[int, int]:
        if self._inner is None:
            return self._simple.sot_token_id, self._simple.eot_token_id
        # Tokenizers in BERT's manner name the two ends differently.
        begin = _first(self._inner.bos_token_id, self._inner.cls_token_id)
        end = _first(self._inner.eos_token_id, self._inner.sep_token_id)
        if begin is None or end is None:
            raise UsageError(
                f"model.towers: the tokenizer of {self.towers} has no begin or no end token; "
                "take towers whose tokenizer has both, such as ViT-B-16"
            )
        return begin, end

    def _placeholder(self) -> int:
        """Return the id that stands for what has no usable id: the unknown token, else a lone mark."""
        unknown = None if self._inner is None else self._inner.unk_token_id
        candidates = [unknown, *self._raw("!"), *self._raw("?")]
        usable = [i for i in candidates if i is not None and i not in self._reserved]
        if not usable:
            raise UsageError(f"model.towers: the tokenizer of {self.towers} knows neither ! nor ?")
        return int(usable[0])


def _open(towers: str) -> Any:
    import open_clip

    if ":" not in towers and towers not in open_clip.list_models():
        raise UsageError(f"model.towers: open_clip has no model {towers!r}")
    try:
        return open_clip.get_tokenizer(towers)
    except (OSError, ValueError) as error:
        raise UsageError(f"model.towers: the tokenizer of {towers} cannot be opened: {error}") from None


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
