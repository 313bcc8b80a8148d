"""Rows to samples, samples to batches."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from schemas.vocabulary import MANIPULATION_TYPES
from training.config.sections import DataConfig
from training.data.augment import flip_cxcywh, rand_augment, row_generator
from training.data.batch import IGNORED, NO_WORD, Batch
from training.data.cache import ImageCache
from training.data.images import load_square, normalise, refuse_replaced, to_tensor
from training.data.rows import Rows
from training.data.tokens import PADDING, WordTokenizer
from training.errors import DataError

NO_ID = -1
"""Content id of a text that is not there."""

_MULTIPLE = 8  # lengths of texts are rounded up to it, so that kernels see few shapes
_COUNTS = ("words_dropped", "marked_words_dropped", "captions_cut", "explanations_cut", "images_not_cached")


@dataclass(frozen=True)
class Sample:
    """One row before it joins a batch; fields as in `Batch`, texts without padding."""

    index: int
    image: Tensor
    text: list[int]
    text_word: list[int]
    caption: list[int]
    explanation: list[int]
    labelled: bool
    is_fake: bool
    types: list[float]
    box: Tensor
    has_box: bool
    word_labels: list[int]
    image_id: int
    text_id: int
    caption_id: int
    explanation_id: int
    size: tuple[int, int]
    words: int


class RowDataset(Dataset[Sample]):
    """Joined rows as samples; what a row gives depends on seed, epoch and its index, not on who asks."""

    def __init__(
        self,
        rows: Rows,
        tokenizer: WordTokenizer,
        data: DataConfig,
        image_size: int,
        *,
        train: bool,
        augment: bool = True,
        seed: int = 0,
        epoch: int = 0,
        workers: int = 0,
    ) -> None:
        """Open the images' folder or cache.

        Args:
            rows: The joined rows.
            tokenizer: Of the towers.
            data: Settings of texts, augmentation and annotations.
            image_size: Side of the square image in pixels.
            train: Hide the annotations of ``data.unlabelled_share``, and augment.
            augment: False: never augment.
            seed: Seed of the run.
            epoch: Epoch, from 0.
            workers: Processes that will read; each counts for itself.

        Raises:
            DataError: The image root is not a folder and there is no cache.
            UsageError: The cache's images are of another size.
        """
        self.rows = rows
        self.tokenizer = tokenizer
        self.data = data
        self.image_size = image_size
        self.train = train
        self.augment = train and augment
        self.seed = seed
        self.epoch = epoch
        self.cache = None if data.image_cache is None else ImageCache(data.image_cache, image_size)
        if self.cache is None and not rows.image_root.is_dir():
            raise DataError(f"{rows.image_root}: the image root is not a folder; set data.image_root to it")
        # A row of its own per process: adding to shared memory is not atomic.
        self._counts = torch.zeros(workers + 1, len(_COUNTS), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        row = self.rows[index]
        text = self.tokenizer.encode(row["words"], self.data.max_words)
        labelled = not (self.train and is_unlabelled(row["sample_id"], self.data.unlabelled_share))
        image, size = self._image(row)
        box = _box(row, size) if labelled else None
        if self.augment:
            image, box = self._augmented(image, box, index)
        marked = set(row["fake_text_pos"])
        self._count("words_dropped", len(row["words"]) - text.kept)
        self._count("marked_words_dropped", sum(position >= text.kept for position in marked))
        caption = self._auxiliary(row["caption"], "captions_cut")
        explanation = self._auxiliary(row["explanation"], "explanations_cut")
        return Sample(
            index=index,
            image=image,
            text=text.ids,
            text_word=text.word,
            caption=caption,
            explanation=explanation,
            labelled=labelled,
            is_fake=labelled and row["is_fake"],
            types=[float(labelled and row[name]) for name in MANIPULATION_TYPES],
            box=torch.zeros(4) if box is None else box,
            has_box=box is not None,
            word_labels=[
                int(word in marked) if labelled and word != NO_WORD else IGNORED for word in text.word
            ],
            image_id=content_id(row["image_key"] or row["image_path"]),
            text_id=content_id(row["text"]),
            caption_id=tokens_id(caption),
            explanation_id=tokens_id(explanation),
            size=size,
            words=len(row["words"]),
        )

    def counts(self) -> dict[str, int]:
        """Return what was left out or not found so far, over all workers, repeated reads counted again.

        ``words_dropped`` of the news texts, ``marked_words_dropped`` (those of them that are manipulated),
        ``captions_cut`` and ``explanations_cut`` at the most tokens, ``images_not_cached``. Only of what this
        process and its workers read; `training.data.left_out` adds up processes.
        """
        return dict(zip(_COUNTS, self._counts.sum(0).tolist(), strict=True))

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Make a batch; texts are padded to one length, captions and explanations to another."""
        length = self._length(len(s.text) for s in samples)
        auxiliary = self._length(len(t) for s in samples for t in (s.caption, s.explanation))
        return Batch(
            index=torch.tensor([s.index for s in samples]),
            image=normalise(torch.stack([s.image for s in samples])),
            text=_padded([s.text for s in samples], length, PADDING),
            text_word=_padded([s.text_word for s in samples], length, NO_WORD),
            caption=_padded([s.caption for s in samples], auxiliary, PADDING),
            caption_mask=torch.tensor([bool(s.caption) for s in samples]),
            explanation=_padded([s.explanation for s in samples], auxiliary, PADDING),
            explanation_mask=torch.tensor([bool(s.explanation) for s in samples]),
            labelled=torch.tensor([s.labelled for s in samples]),
            is_fake=torch.tensor([s.is_fake for s in samples]),
            types=torch.tensor([s.types for s in samples]),
            box=torch.stack([s.box for s in samples]),
            has_box=torch.tensor([s.has_box for s in samples]),
            word_labels=_padded([s.word_labels for s in samples], length, IGNORED),
            image_id=torch.tensor([s.image_id for s in samples]),
            text_id=torch.tensor([s.text_id for s in samples]),
            caption_id=torch.tensor([s.caption_id for s in samples]),
            explanation_id=torch.tensor([s.explanation_id for s in samples]),
            size=torch.tensor([s.size for s in samples], dtype=torch.float32),
            words=torch.tensor([s.words for s in samples]),
        )

    def _length(self, lengths: Iterable[int]) -> int:
        return min(-(-max(max(lengths), 1) // _MULTIPLE) * _MULTIPLE, self.tokenizer.max_tokens)

    def _auxiliary(self, text: str | None, cut: str) -> list[int]:
        if text is None:
            return []
        words = text.split()
        encoded = self.tokenizer.encode(words)
        self._count(cut, int(encoded.kept < len(words)))
        return encoded.ids

    def _image(self, row: dict[str, Any]) -> tuple[Tensor, tuple[int, int]]:
        """Return (3, H, W) uint8, and width and height of the original."""
        noted = (row["width"], row["height"])
        if self.cache is not None:
            cached = None if row["image_key"] is None else self.cache.get(row["image_key"])
            if cached is not None:
                return cached, noted
            self._count("images_not_cached", 1)
        path = self.rows.image_root / row["image_path"]
        picture = load_square(path, self.image_size, row["sample_id"])
        refuse_replaced(picture, noted, path, row["sample_id"])
        return to_tensor(picture.image), (picture.width, picture.height)

    def _augmented(self, image: Tensor, box: Tensor | None, index: int) -> tuple[Tensor, Tensor | None]:
        generator = row_generator(self.seed, self.epoch, index)
        if generator.random() < self.data.flip:
            image = image.flip(-1)
            box = None if box is None else flip_cxcywh(box)
        data = self.data
        image = rand_augment(
            image, data.augment_ops, data.augment_magnitude, data.augment_probability, generator
        )
        return image, box

    def _count(self, what: str, amount: int) -> None:
        if amount:
            worker = get_worker_info()
            self._counts[0 if worker is None else worker.id + 1, _COUNTS.index(what)] += amount


def content_id(content: str | None) -> int:
    """Return a 63-bit hash that is the same on every machine, `NO_ID` for None."""
    if content is None:
        return NO_ID
    return _hash(content.encode())


def tokens_id(tokens: Sequence[int]) -> int:
    """Return the same of what the model reads of a text: texts that are cut to equal tokens are equal.

    Their features are, so that one must not be a negative of the other. No tokens give `NO_ID`.
    """
    return _hash(array("q", tokens).tobytes()) if tokens else NO_ID


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") >> 1


def is_unlabelled(sample_id: str, share: float) -> bool:
    """Return whether a row's annotations are hidden; a larger share hides the same rows and more."""
    return content_id(sample_id) < share * 2**63


def _box(row: dict[str, Any], size: tuple[int, int]) -> Tensor | None:
    """Return (4,) cxcywh, 0 to 1, of the row's xyxy in pixels."""
    if row["fake_image_box"] is None:
        return None
    x1, y1, x2, y2 = row["fake_image_box"]
    width, height = size
    return torch.tensor(
        [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
    )


def _padded(values: Sequence[list[int]], length: int, fill: int) -> Tensor:
    return torch.tensor([row + [fill] * (length - len(row)) for row in values])
