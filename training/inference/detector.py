"""The detector: a picture and a text in, a verdict out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from schemas.vocabulary import MANIPULATION_TYPES
from training.data.batch import NO_WORD
from training.data.images import normalise, read_square, square_of, to_tensor
from training.data.tokens import PADDING, Encoded, WordTokenizer
from training.errors import DataError, UsageError
from training.inference.source import Source, load_model, open_source, open_tokenizer
from training.inference.verdict import Box, Thresholds, Verdict
from training.metrics.boxes import NEARLY_ZERO, corners
from training.model import AsapModel, ModelOutput

Picture = Path | str | Image.Image
Pair = tuple[Picture, str]


@dataclass(frozen=True)
class Prepared:
    """A pair as the model reads it: (3, H, W) uint8, tokens, words, and the original's width and height."""

    image: Tensor
    text: Encoded
    words: list[str]
    size: tuple[int, int]


class Detector:
    """Says whether a picture and its text were manipulated, how, and where.

    Pictures and texts go through the same code as in evaluation, so verdicts are the evaluated predictions.

    >>> detector = Detector.from_pretrained("out/runs/demo")
    >>> detector("photo.jpg", "The minister smiles on Tuesday.").p_fake
    """

    def __init__(
        self,
        model: AsapModel,
        tokenizer: WordTokenizer,
        source: Source,
        device: torch.device,
    ) -> None:
        self.model = model.to(device)
        self.tokenizer = tokenizer
        self.source = source
        self.device = device
        self._size = source.config.model.image_size
        self._most_words = source.config.data.max_words
        self._half = source.config.train.precision == "bfloat16"

    @classmethod
    def from_pretrained(cls, path: Path | str, device: str = "auto") -> Detector:
        """Open a trained model; nothing is downloaded.

        Args:
            path: Folder written by ``training/export.py``, a checkpoint, or a run (its best checkpoint, else
                its last).
            device: ``cpu``, ``cuda``, ``cuda:1``; ``auto``: the GPU where there is one.

        Raises:
            UsageError: There is no such model, or no such device.
            DataError: Its files are damaged.
        """
        source = open_source(path)
        chosen = _device(device)
        return cls(load_model(source), open_tokenizer(source), source, chosen)

    @property
    def thresholds(self) -> Thresholds:
        """From which probabilities something is called so."""
        return self.source.thresholds

    def __call__(self, image: Picture, text: str) -> Verdict:
        """Judge one pair.

        Args:
            image: Path of an image file, or a picture.
            text: The text shown with it.

        Raises:
            DataError: The picture does not decode, or the text has no words.
        """
        return self._judge([self.prepare(image, text)])[0]

    def batch(self, pairs: Sequence[Pair], batch_size: int = 32) -> list[Verdict]:
        """Judge many pairs.

        Raises:
            DataError: As for one pair; names the pair's position.
        """
        found = []
        for position, verdict in enumerate(self.stream(pairs, batch_size)):
            if isinstance(verdict, DataError):
                raise DataError(f"pair {position}: {verdict}")
            found.append(verdict)
        return found

    def stream(self, pairs: Iterable[Pair], batch_size: int = 32) -> Iterator[Verdict | DataError]:
        """Judge pairs in order, batch by batch; a pair that cannot be read yields its error in its place."""
        if batch_size < 1:
            raise UsageError(f"the batch size is {batch_size}; it must be at least 1")
        remaining = iter(pairs)
        # Decoding lets other threads run, so the next batch is read while the model works on this one.
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

            def submit() -> list[Future[Prepared | DataError]]:
                return [pool.submit(self._try, *pair) for pair in islice(remaining, batch_size)]

            waiting = submit()
            while waiting:
                following = submit()
                ready = [future.result() for future in waiting]
                good = iter(self._judge([r for r in ready if isinstance(r, Prepared)]))
                for each in ready:
                    yield next(good) if isinstance(each, Prepared) else each
                waiting = following

    def prepare(self, image: Picture, text: str) -> Prepared:
        """Read one pair; arguments and errors as for a call."""
        words = text.split()
        if not words:
            raise DataError("the text is empty: the detector judges a picture together with its text")
        encoded = self.tokenizer.encode(words, self._most_words)
        if not encoded.kept:
            raise DataError(
                f"no word of the text can be read: its first one, {_shortened(words[0])!r}, alone takes "
                f"more than the {self.tokenizer.max_tokens - 2} tokens that the model reads; put spaces into "
                "it or remove it"
            )
        if isinstance(image, Image.Image):
            what, found = "the picture", lambda: square_of(image, self._size)
        else:
            path = Path(image)
            if not path.is_file():
                raise DataError(f"{path}: no such image file")
            what, found = str(path), lambda: read_square(path, self._size)
        try:
            picture = found()
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError and more
            reason = f"{type(error).__name__}: {error}"
            raise DataError(
                f"{what} does not decode as an image ({reason}); save it as JPEG or PNG"
            ) from error
        return Prepared(to_tensor(picture.image), encoded, words, (picture.width, picture.height))

    def _try(self, image: Picture, text: str) -> Prepared | DataError:
        try:
            return self.prepare(image, text)
        except DataError as error:
            return error

    @torch.inference_mode()
    def _judge(self, prepared: Sequence[Prepared]) -> list[Verdict]:
        if not prepared:
            return []
        image = normalise(torch.stack([p.image for p in prepared]))
        ids = pad_sequence(
            [torch.tensor(p.text.ids) for p in prepared], batch_first=True, padding_value=PADDING
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            output = self.model(image.to(self.device), ids.to(self.device))
        return self._verdicts(prepared, output)

    def _verdicts(self, prepared: Sequence[Prepared], output: ModelOutput) -> list[Verdict]:
        fake = output.binary.float().softmax(dim=-1)[:, 1].tolist()
        types = output.types.float().sigmoid()
        face = (1 - (1 - types[:, :2]).prod(dim=1)).tolist()
        boxes = output.box.float().cpu().numpy()
        words = output.words.float().softmax(dim=-1)[..., 1].cpu().numpy()
        return [
            self._verdict(pair, fake[n], types[n].tolist(), face[n], boxes[n : n + 1], words[n])
            for n, pair in enumerate(prepared)
        ]

    def _verdict(
        self,
        pair: Prepared,
        fake: float,
        types: list[float],
        face: float,
        box: np.ndarray,
        tokens: np.ndarray,
    ) -> Verdict:
        limits = self.thresholds
        scores = [0.0] * pair.text.kept
        for place, word in enumerate(pair.text.word):
            if word != NO_WORD:
                scores[word] = max(scores[word], float(tokens[place]))
        return Verdict(
            p_fake=fake,
            is_fake=fake > limits.fake,
            types=dict(zip(MANIPULATION_TYPES, types, strict=True)),
            box=_pixels(box, pair.size) if face >= limits.box else None,
            image_size=pair.size,
            words=tuple(zip(pair.words, scores, strict=False)),
            flagged=tuple(n for n, score in enumerate(scores) if score > limits.word),
            words_not_read=len(pair.words) - pair.text.kept,
            thresholds=limits,
        )


def _pixels(cxcywh: np.ndarray, size: tuple[int, int]) -> Box | None:
    """Return xyxy in pixels, cut to the picture; None for the zero box that stands for no box."""
    found = corners(cxcywh)
    if (found < NEARLY_ZERO).all():
        return None
    x1, y1, x2, y2 = (float(v) for v in found.clip(0, 1)[0])
    width, height = size
    return (x1 * width, y1 * height, x2 * width, y2 * height)


def _shortened(word: str) -> str:
    return word if len(word) <= 40 else f"{word[:40]}..."


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: {str(error).splitlines()[0]}; take cpu or auto") from None
    return device
