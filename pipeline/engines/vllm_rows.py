"""One request into what vLLM's engine takes, and one of its outputs into a result; runs where vLLM runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.config.models import ModelConfig
from pipeline.engines.adapter import check_length
from pipeline.engines.base import Failure, Request, Result
from pipeline.engines.chat_prompts import chat_prompts
from pipeline.engines.images import load_pixels
from pipeline.engines.loading import checkpoint_ends
from pipeline.engines.sampling import row_seed
from pipeline.engines.vllm_instructblip.prompt import CaptionPrompts, caption_request
from pipeline.errors import UsageError


@dataclass(slots=True)
class Ready:
    """A row that vLLM can take.

    Attributes:
        prompt: vLLM's engine input: token ids, and for captions the preprocessed picture.
        sampling: vLLM's ``SamplingParams``.
        tokens_in: What the language model reads: prompt and, for captions, the picture's query tokens.
    """

    prompt: Any
    sampling: Any
    tokens_in: int


@dataclass(slots=True)
class Refused:
    """A row that vLLM is not asked for.

    Attributes:
        failure: Why.
        tokens_in: Tokens of its prompt, where it has been counted.
    """

    failure: Failure
    tokens_in: int = 0


class Rows:
    """Prepares the rows of one model; ``prepare`` may be called from several threads.

    Attributes:
        ends: Token ids that end a text: the checkpoint's and the tokenizer's together, as in the transformers
            engine.
    """

    def __init__(self, folder: Path, config: ModelConfig, engine: Any) -> None:
        """Load the tokenizers.

        Args:
            folder: The checked checkpoint folder.
            config: The model's configuration.
            engine: vLLM's ``LLMEngine``.

        Raises:
            UsageError: a tokenizer cannot be loaded, or nothing names an end token.
        """
        self._generation = config.generation
        self._render = engine.renderer.render_cmpl
        self._limit: int = engine.model_config.max_model_len
        self._vocabulary: int = engine.model_config.get_vocab_size()
        # Tokenizers hold state while they encode.
        self._tokenizer_lock = threading.Lock()
        if config.kind == "instructblip":
            self._captions: CaptionPrompts | None = CaptionPrompts(folder)
            tokenizer = self._captions.tokenizer
            end = tokenizer.eos_token_id
            self.ends: set[int] = set() if end is None else {end}
            self._decode = lambda ids: tokenizer.decode(ids, skip_special_tokens=True).strip()
        else:
            self._captions = None
            self._chat = chat_prompts(folder, config)
            self.ends = set(self._chat.ends)
            self._decode = self._chat.decode
        self.ends |= checkpoint_ends(folder, config)
        if not self.ends:
            raise UsageError(f"the tokenizer and generation_config.json of {folder} name no end token")
        # Settings that vLLM does not take are a fault of the configuration, not of each row.
        self._sampling(Request("", ""))

    def prepare(self, request: Request) -> Ready | Refused:
        """Return the row, tokenised, its picture read and preprocessed; or why it cannot be generated."""
        try:
            with self._tokenizer_lock:
                encoded = self._encode(request.prompt)
        except Exception as error:  # one odd text must not end the run
            why = f"tokenising failed: {type(error).__name__}: {error}"
            return Refused(Failure("engine_error", True, why))
        if isinstance(encoded, Refused):
            return encoded
        ids, tokens_in = encoded
        if self._captions is None:
            (prompt,) = self._render([{"prompt_token_ids": ids}])
        else:
            prompt = load_pixels(request, lambda image: self._with_picture(request.prompt, image))
            if isinstance(prompt, Failure):
                return Refused(prompt, tokens_in)
        return Ready(prompt, self._sampling(request), tokens_in)

    def result(self, key: str, ids: list[int], tokens_in: int) -> Result:
        """Return the result of generated token ids, end token included where there is one."""
        end = next((place for place, token in enumerate(ids) if token in self.ends), None)
        kept = ids if end is None else ids[:end]
        with self._tokenizer_lock:
            text = self._decode(kept)
        return Result(key, text, "length" if end is None else "stop", tokens_in, len(kept))

    def _encode(self, prompt: str) -> tuple[list[int], int] | Refused:
        new = self._generation.max_new_tokens
        if self._captions is not None:
            ids, tokens_in = self._captions.encode(prompt)
            too_long = self._captions.refusal(prompt, new)
        else:
            ids = self._chat.encode(prompt)
            tokens_in, too_long = len(ids), None
            strange = max(ids, default=0)
            # Looked up in the embedding table, it would end vLLM's process and all rows in it.
            if strange >= self._vocabulary:
                why = (
                    f"the prompt has the token id {strange}, but the model knows {self._vocabulary} tokens; "
                    f"tokenizer and weights are not of the same model, download both again"
                )
                return Refused(Failure("engine_error", True, why), tokens_in)
        too_long = too_long or check_length(
            tokens_in,
            new,
            self._limit,
            what="vLLM's context (vllm.max_model_len, or what its cache allows)",
        )
        return (ids, tokens_in) if too_long is None else Refused(too_long, tokens_in)

    def _with_picture(self, prompt: str, image: Image.Image) -> Any:
        assert self._captions is not None
        with self._tokenizer_lock:
            request = caption_request(self._captions, prompt, image)
        (rendered,) = self._render([request])
        return rendered

    def _sampling(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        choice, own = self._generation, request.sampling
        sampled = choice.do_sample or own is not None
        temperature = choice.temperature if own is None else own.temperature
        return SamplingParams(
            max_tokens=choice.max_new_tokens,
            temperature=temperature if sampled else 0.0,
            top_p=choice.top_p if own is None else own.top_p,
            top_k=choice.top_k,
            repetition_penalty=choice.repetition_penalty,
            seed=row_seed(request) if sampled else None,
            stop_token_ids=sorted(self.ends),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
        )
