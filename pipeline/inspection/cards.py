"""A card of the page: one sample with its picture, texts and what was written about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.inspection.pictures import Picture
from pipeline.inspection.sampling import Row
from pipeline.inspection.words import Run, clip, news_runs, original_runs


class Box(NamedTuple):
    """Edited face, xywh in pixels of the picture in the file."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Written:
    """A caption or an explanation, or why there is none.

    Attributes:
        stage: ``captions`` or ``explanations``.
        state: ``written``, ``aside`` (by a gate), ``failed`` or ``waiting`` (nothing was tried yet).
        text: The text, or the failure's message; empty when waiting.
        kind: ``manipulation`` or ``description``; empty for captions and where there is no text.
        flags: What the gates noticed.
        error_class: Code of the failure, or empty.
        prompt_id: Prompt template the text answers, or empty.
        tokens_in: Prompt tokens.
        tokens_out: Generated tokens.
    """

    stage: str
    state: str
    text: str = ""
    kind: str = ""
    flags: tuple[str, ...] = ()
    error_class: str = ""
    prompt_id: str = ""
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def codes(self) -> list[str]:
        """Flags and failure class as the page's filter names them."""
        return [f"{self.stage}:{code}" for code in (*self.flags, self.error_class) if code]


@dataclass(frozen=True)
class Card:
    """What the page shows of a sample.

    Attributes:
        number: Place on the page, from 1.
        sample_id: Its key.
        source_id: The data set's own id.
        split: Its split.
        fake_cls: Its class.
        types: Manipulation types that make up the class; ``("orig",)`` when there is none.
        image_path: Where the picture lies below the image root.
        picture: The picture.
        box: The edited face, or None.
        news: The news text.
        original: The text before the manipulation, or None when unknown or the same.
        original_from: How the original was found.
        caption: Caption of the picture; None when the table does not exist.
        explanation: Explanation of the sample; None when the table does not exist.
    """

    number: int
    sample_id: str
    source_id: int
    split: str
    fake_cls: str
    types: tuple[str, ...]
    image_path: str
    picture: Picture
    box: Box | None
    news: tuple[Run, ...]
    original: tuple[Run, ...] | None
    original_from: str | None
    caption: Written | None
    explanation: Written | None

    @property
    def news_text(self) -> str:
        """The news text as one string."""
        return " ".join(run.text for run in self.news)

    @property
    def alt(self) -> str:
        """What the picture shows, for those who cannot see it: the caption, else the news text."""
        if self.caption is not None and self.caption.state == "written" and self.caption.text.strip():
            return self.caption.text
        return f"No caption; the news text is: {self.news_text}"

    @property
    def codes(self) -> list[str]:
        """Every flag and failure of the sample's texts."""
        return [code for text in (self.caption, self.explanation) if text is not None for code in text.codes]


def written(
    stage: str, text_column: str, row: Row | None, failure: Row | None, set_aside: Row | None = None
) -> Written:
    """Return what became of one key of a generated table.

    Args:
        stage: Name of the table.
        text_column: Its column with the text.
        row: The key's row, if there is one.
        failure: The key's entry in the failures ledger, if there is one.
        set_aside: The key's row that a gate set aside, if there is one.
    """
    state = "written" if row is not None else "aside"
    row = row or set_aside
    if row is not None:
        return Written(
            stage=stage,
            state=state,
            text=clip(row[text_column]),
            kind=row.get("kind", ""),
            flags=tuple(row["flags"]),
            prompt_id=clip(row["prompt_id"]),
            tokens_in=row["tokens_in"],
            tokens_out=row["tokens_out"],
        )
    if failure is not None:
        return Written(
            stage=stage, state="failed", text=clip(failure["message"]), error_class=failure["error_class"]
        )
    return Written(stage=stage, state="waiting")


def make_card(
    number: int,
    sample: Row,
    pictures: Mapping[str, Picture],
    caption: Written | None,
    explanation: Written | None,
) -> Card:
    """Return the card of a sample."""
    picture = pictures[sample["image_path"]]
    if picture.uri is None:
        # The frame keeps the recorded shape, so that the box still says where the face was.
        picture = Picture(None, sample["width"] or 0, sample["height"] or 0, clip(picture.problem or "", 300))
    original = sample["original_text"]
    known = original is not None and original.split() != sample["words"]
    return Card(
        number=number,
        sample_id=clip(sample["sample_id"]),
        source_id=sample["source_id"],
        split=sample["split"],
        fake_cls=sample["fake_cls"],
        types=tuple(sample["fake_cls"].split("&")),
        image_path=clip(sample["image_path"], 500),
        picture=picture,
        box=_box(sample["fake_image_box"]),
        news=tuple(news_runs(sample["words"], sample["fake_text_pos"])),
        original=tuple(original_runs(original, sample["words"])) if known else None,
        original_from=sample["original_from"],
        caption=caption,
        explanation=explanation,
    )


def _box(corners: list[float] | None) -> Box | None:
    if corners is None:
        return None
    x1, y1, x2, y2 = corners
    return Box(x1, y1, x2 - x1, y2 - y1)
