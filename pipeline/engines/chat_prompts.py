"""Chat messages into token ids and back, the same for every engine; no model is loaded for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import transformers

from pipeline.config.models import ModelConfig
from pipeline.engines.checkpoint import is_old_chatglm
from pipeline.engines.loading import load_part
from pipeline.errors import UsageError

_MARK = "CONTENT0GOES0HERE"


class ChatPrompts(Protocol):
    """What an engine needs of a chat model's tokenizer.

    Attributes:
        ends: Token ids that the tokenizer names as ends of an answer.
    """

    ends: set[int]

    def encode(self, message: str) -> list[int]:
        """Return the token ids of one user message in the model's chat format, up to where it answers."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Return the text of generated token ids, special tokens left out, stripped."""
        ...


def chat_prompts(folder: Path, config: ModelConfig) -> ChatPrompts:
    """Return the chat format of a checked checkpoint folder.

    Raises:
        UsageError: the tokenizer cannot be loaded, or it has no chat template.
    """
    if is_old_chatglm(folder) and not (folder / "tokenizer.json").is_file():
        from pipeline.engines.chatglm import SentencePiecePrompts, is_sentencepiece

        if is_sentencepiece(folder / "tokenizer.model"):
            return SentencePiecePrompts(folder)
        if not config.trust_remote_code:
            raise UsageError(
                f"{folder / 'tokenizer.model'} is no SentencePiece model: this is a GLM-4 of the old format, "
                f"whose tokenizer is code. Take the repository whose name ends in -hf (glm-4-9b-chat-hf), or "
                f"set trust_remote_code: true"
            )
    return TemplatePrompts(folder, config)


class TemplatePrompts:
    """The checkpoint's own tokenizer and chat template, through transformers."""

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        self.tokenizer = load_part(transformers.AutoTokenizer, folder, config, "the tokenizer")
        if not self.tokenizer.chat_template:
            raise UsageError(
                f"model folder {folder} has no chat template (chat_template.jinja, or chat_template in "
                f"tokenizer_config.json); use a chat model, not a base model"
            )
        end = self.tokenizer.eos_token_id
        self.ends: set[int] = set() if end is None else {end}
        added = self.tokenizer.added_tokens_decoder.values()
        self._special = [str(token) for token in added if token.special]
        before, mark, after = self._templated(_MARK).partition(_MARK)
        if not mark:
            raise UsageError(f"the chat template in {folder} drops the user's message; use another model")
        try:
            self._before, self._after = self._ids(before), self._ids(after)
        except Exception as error:  # code of a checkpoint that no longer fits the library
            raise UsageError(
                f"the tokenizer in {folder} loads but does not tokenise under transformers "
                f"{transformers.__version__}: {type(error).__name__}: {error}. Use a checkpoint with a "
                f"tokenizer.json"
            ) from error

    def encode(self, message: str) -> list[int]:
        """Return the token ids of a user message, put into the chat template.

        A news text that happens to contain a control token of the template, such as ``<|user|>``, is read as
        the characters it consists of; it cannot end the message.
        """
        if any(token in message for token in self._special):
            content = self._ids(message, split_special_tokens=True)
            return self._before + content + self._after
        return self._ids(self._templated(message))

    def decode(self, ids: list[int]) -> str:
        """Return the text of generated token ids, special tokens left out, stripped."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def _templated(self, content: str) -> str:
        message = [{"role": "user", "content": content}]
        return self.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)

    def _ids(self, text: str, **options: Any) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, **options)["input_ids"]
