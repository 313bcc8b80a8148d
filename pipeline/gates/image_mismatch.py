"""``image_mismatch``: CLIP's cosine of a caption and its picture is low.

It costs a model of its own, so it is off unless the configuration names one, and only then is open_clip
imported. Radford et al. (2021, arXiv:2103.00020) give the score; Hessel et al. (2021, arXiv:2104.08718) use
it without a reference caption, as here.
"""

from __future__ import annotations

import difflib
import functools
import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.config.gates import LOCAL_DIR, ClipConfig
from pipeline.errors import UsageError
from pipeline.gates.case import Case
from pipeline.images import ImageError, open_rgb

log = logging.getLogger(__name__)

_DECODE_THREADS = 4

_lock = threading.Lock()


def mismatches(config: ClipConfig, cases: Sequence[Case]) -> list[bool]:
    """Return for each caption whether CLIP finds that it does not agree with its picture.

    Raises:
        UsageError: The CLIP model cannot be loaded, or the device lacks the memory.
    """
    scores = clip_scores(config, [(case.text, case.image) for case in cases])
    return [score is not None and score < config.min_score for score in scores]


def clip_scores(config: ClipConfig, pairs: Sequence[tuple[str, Path | None]]) -> list[float | None]:
    """Return the cosine of text and picture of each pair; None without a picture that can be read.

    A picture that has a caption was read for it, so an unreadable one here is a passing fault of the disk:
    the caption is not blamed for it.

    Raises:
        UsageError: The CLIP model cannot be loaded, or the device lacks the memory.
    """
    if not pairs:
        return []
    with _lock:
        scorer = _scorer(config.model, config.pretrained, config.device)
        size = config.batch_size
        batches = (pairs[start : start + size] for start in range(0, len(pairs), size))
        return [score for batch in batches for score in scorer.scores(batch)]


class Scorer:
    """A CLIP model of open_clip with its preprocessing."""

    def __init__(self, model: str, pretrained: str | None, device: str) -> None:
        """Load the model.

        Raises:
            UsageError: The name, tag, folder or file does not exist, or the device is not here.
        """
        import open_clip

        from pipeline.engines.loading import is_out_of_memory, pick_device

        self.device = pick_device(device)
        name = _checked(model, pretrained)
        started = time.monotonic()
        try:
            clip, _, preprocess = open_clip.create_model_and_transforms(
                name, pretrained=None if name.startswith(LOCAL_DIR) else pretrained, device=self.device
            )
            self._tokenizer: Any = open_clip.get_tokenizer(name)
        except (OSError, RuntimeError, ValueError) as error:
            if is_out_of_memory(error):
                raise UsageError(
                    f"gates.clip: {model} does not fit the memory of {self.device} beside the other "
                    f"model ({error}); set gates.clip.device: cpu, choose a smaller CLIP, or leave it room "
                    "with a lower vllm.gpu_memory_utilization"
                ) from error
            raise UsageError(
                f"gates.clip: {model} with pretrained {pretrained!r} cannot be loaded: {error}; where there "
                "is no network, give a local weights file as gates.clip.pretrained"
            ) from None
        self._clip: Any = clip.eval()
        self._preprocess: Any = preprocess
        self._pool = ThreadPoolExecutor(_DECODE_THREADS, thread_name_prefix="clip")
        log.info("CLIP %s for the gate image_mismatch ready in %.1f s", model, time.monotonic() - started)

    def scores(self, pairs: Sequence[tuple[str, Path | None]]) -> list[float | None]:
        """Return the cosines of one batch.

        Raises:
            UsageError: The batch does not fit the device's memory.
        """
        from pipeline.engines.loading import is_out_of_memory

        pixels = list(self._pool.map(self._read, (image for _, image in pairs)))
        known = [place for place, value in enumerate(pixels) if value is not None]
        scores: list[float | None] = [None] * len(pairs)
        if not known:
            return scores
        try:
            cosines = self._cosines([pairs[place][0] for place in known], [pixels[place] for place in known])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UsageError(
                f"gates.clip: {len(known)} captions and pictures at once do not fit the memory of "
                f"{self.device} ({error}); lower gates.clip.batch_size, or set gates.clip.device: cpu"
            ) from error
        for place, cosine in zip(known, cosines, strict=True):
            scores[place] = cosine
        return scores

    def _cosines(self, texts: list[str], pixels: list[Any]) -> list[float]:
        import torch

        with torch.inference_mode():
            images = torch.stack(pixels).to(self.device)
            tokens = self._tokenizer(texts).to(self.device)
            products = self._clip.encode_image(images, normalize=True) * self._clip.encode_text(
                tokens, normalize=True
            )
            return products.sum(-1).tolist()

    def _read(self, path: Path | None) -> Any:
        if path is None:
            return None
        try:
            return self._preprocess(open_rgb(path))
        except ImageError as error:
            log.warning("%s; its caption is not scored", error)
        except Exception as error:  # the picture decoded, but its shape defeats the resizing
            why = f"{type(error).__name__} while resizing: {error}"
            log.warning("%s: %s; its caption is not scored", path, why)
        return None


@functools.lru_cache(maxsize=2)
def _scorer(model: str, pretrained: str | None, device: str) -> Scorer:
    return Scorer(model, pretrained, device)


def check_clip(config: ClipConfig) -> None:
    """Check that a CLIP model and its weights are there, without loading them.

    The device is not looked at: a table may be planned on a machine that does not write it.

    Raises:
        UsageError: The name, tag, folder or file does not exist.
    """
    _checked(config.model, config.pretrained)


def _checked(model: str, pretrained: str | None) -> str:
    """Return the name as open_clip takes it, after checking that it and its weights exist."""
    import open_clip

    if os.sep in model or Path(model).is_dir():
        folder = Path(model)
        if not (folder / "open_clip_config.json").is_file():
            raise UsageError(
                f"gates.clip.model: {folder} has no open_clip_config.json; give a folder written by "
                "open_clip, or a model name such as ViT-B-32"
            )
        if pretrained is not None:
            raise UsageError(f"gates.clip.pretrained: {model} is a folder with its own weights; remove it")
        return f"{LOCAL_DIR}{folder}"
    if model not in open_clip.list_models():
        near = ", ".join(difflib.get_close_matches(model, open_clip.list_models(), 3)) or "ViT-B-32"
        raise UsageError(f"gates.clip.model: open_clip has no model {model!r}; nearest: {near}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained is None or not (Path(pretrained).is_file() or pretrained in tags):
        raise UsageError(
            f"gates.clip.pretrained: {pretrained!r} is neither a weights file nor a tag of {model}; its "
            f"tags: {', '.join(tags) or 'none'}"
        )
    return model
