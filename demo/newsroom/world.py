"""The world: stories, and the rows of a DGM4-shaped data set made from them.

A story is one source item: a person, what happened, a picture, a text. A row is a story as it is or
manipulated. Stories belong to one split, so the splits share no source item.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from demo.newsroom import texts
from demo.newsroom.cast import CAST
from demo.newsroom.scene import EXPRESSIONS, OBJECTS, OPPOSITES, PLACES, Scene
from demo.newsroom.view import Box, View, choose_view, face_box, head_box

AGENCIES = ("guardian", "usa_today", "washington_post", "bbc")
SWAPPERS = ("infoswap", "simswap")
EDITORS = ("StyleCLIP", "HFGI")
PROPORTIONS: dict[str, float] = {
    "orig": 33.7,
    "face_swap": 21.3,
    "face_attribute": 18.0,
    "text_swap": 9.0,
    "text_attribute": 3.8,
    "face_swap&text_swap": 5.4,
    "face_swap&text_attribute": 2.3,
    "face_attribute&text_swap": 4.6,
    "face_attribute&text_attribute": 1.9,
}
"""Share in percent of each `fake_cls`, as published for DGM4."""
SPLIT_SHARES: dict[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}
ORPHAN_SHARE = 0.12
"""Share of manipulated rows whose story has no `orig` row in the data set."""
DEFAULT_TRACES = 0.5


@dataclass(frozen=True, slots=True)
class Story:
    """One source item as it really happened."""

    number: int
    scene: Scene
    text: str
    view: View
    agency: str

    @property
    def image(self) -> str:
        """DGM4 path of the unmanipulated picture."""
        folder, file = divmod(self.number, 1000)
        return f"DGM4/origin/{self.agency}/{folder + 1:04d}/{file + 1:04d}.jpg"


@dataclass(frozen=True, slots=True)
class Item:
    """One row of the data set with everything that is known about it.

    Attributes:
        split: `train`, `val` or `test`.
        annotation: The row as DGM4's metadata JSON has it.
        scene: What the pixels of the row's picture show, after any manipulation.
        original_scene: What the unmanipulated picture of the same story shows.
        original_text: The unmanipulated text, also when no `orig` row holds it.
        view: Framing of the picture.
        pasted: Box of the pasted face in pixels, or None for an unmanipulated picture.
        traces: Strength of the blending traces of the paste, 0 to 1.
        trace_seed: Seed of the traces.
    """

    split: str
    annotation: dict[str, object]
    scene: Scene
    original_scene: Scene
    original_text: str
    view: View
    pasted: Box | None
    traces: float
    trace_seed: int

    @property
    def image(self) -> str:
        """DGM4 path of the picture; rows with the same path show the same picture."""
        return str(self.annotation["image"])

    @property
    def text(self) -> str:
        """The row's text, manipulated or not."""
        return str(self.annotation["text"])

    @property
    def fake_cls(self) -> str:
        """The row's manipulation class."""
        return str(self.annotation["fake_cls"])


def quotas(total: int, shares: dict[str, float]) -> dict[str, int]:
    """Splits `total` by shares into whole numbers that add up to it (largest remainder)."""
    scale = total / sum(shares.values())
    exact = {key: share * scale for key, share in shares.items()}
    counts = {key: int(value) for key, value in exact.items()}
    by_remainder = sorted(exact, key=lambda key: counts[key] - exact[key])
    for key in by_remainder[: total - sum(counts.values())]:
        counts[key] += 1
    return counts


def _happening(rng: random.Random, person: int) -> Scene:
    return Scene(
        person=person,
        face=person,
        expression=rng.choice(tuple(EXPRESSIONS)),
        object=rng.choice(tuple(OBJECTS)),
        place=rng.choice(tuple(PLACES)),
    )


def _story(seed: int, number: int) -> Story:
    rng = random.Random(f"newsroom story {seed} {number}")
    scene = _happening(rng, rng.randrange(len(CAST)))
    return Story(number, scene, texts.write(scene, rng), choose_view(rng), rng.choice(AGENCIES))


def _other_text(story: Story, told: dict[int, list[Story]], rng: random.Random) -> str:
    """A text about the same person in which expression, thing and place all differ."""

    def differs(scene: Scene) -> bool:
        mine = story.scene
        return (
            scene.expression != mine.expression and scene.object != mine.object and scene.place != mine.place
        )

    if rng.random() < 0.8 and (same := [s for s in told.get(story.scene.person, ()) if differs(s.scene)]):
        return rng.choice(same).text
    while True:
        scene = _happening(rng, story.scene.person)
        if differs(scene):
            return texts.write(scene, rng)


def _new_expression(expression: str, rng: random.Random) -> str:
    opposite = OPPOSITES[expression]
    if rng.random() < 0.6:
        return opposite
    good = ("smile", "laugh", "calm")
    return rng.choice([e for e in EXPRESSIONS if (e in good) != (expression in good)])


def _manipulate(story: Story, fake_cls: str, copy: int, told: dict[int, list[Story]], seed: int) -> Item:
    rng = random.Random(f"newsroom row {seed} {story.number} {copy}")
    scene, text, image = story.scene, story.text, story.image
    positions: list[int] = []
    pasted: Box | None = None
    if "face_swap" in fake_cls:
        face = rng.choice([i for i in range(len(CAST)) if i != scene.person])
        pasted = head_box(story.view, CAST[scene.face], CAST[face])
        scene = replace(scene, face=face)
        image = f"DGM4/manipulation/{rng.choice(SWAPPERS)}/{story.number + 1:06d}-{copy:02d}.jpg"
    elif "face_attribute" in fake_cls:
        scene = replace(scene, expression=_new_expression(scene.expression, rng))
        pasted = face_box(story.view)
        image = f"DGM4/manipulation/{rng.choice(EDITORS)}/{story.number + 1:06d}-{copy:02d}.jpg"
    if "text_swap" in fake_cls:
        text = _other_text(story, told, rng)
        positions = texts.changed_positions(story.text, text)
    elif "text_attribute" in fake_cls:
        text, positions = texts.reverse(story.text, rng)
    return Item(
        split="",
        annotation={
            "id": story.number + 1,
            "image": image,
            "text": text,
            "fake_cls": fake_cls,
            "fake_image_box": list(pasted) if pasted else [],
            "fake_text_pos": positions,
            "mtcnn_boxes": [list(face_box(story.view))],
        },
        scene=scene,
        original_scene=story.scene,
        original_text=story.text,
        view=story.view,
        pasted=pasted,
        traces=0.0,
        trace_seed=rng.getrandbits(32),
    )


def _split_items(split: str, total: int, seed: int, first: int, traces: float) -> tuple[list[Item], int]:
    """The rows of one split, and the number of the first story that the next split may use."""
    rng = random.Random(f"newsroom split {seed} {split} {total}")
    counts = quotas(total, PROPORTIONS)
    pristine = counts.pop("orig")
    classes = [name for name, count in counts.items() for _ in range(count)]
    rng.shuffle(classes)
    orphans = round(ORPHAN_SHARE * len(classes)) if pristine else len(classes)
    orphan_stories = (orphans + 1) // 2
    stories = [_story(seed, first + i) for i in range(pristine + orphan_stories)]
    # Each orphan story gets two rows; the rest is dealt evenly to the stories with an `orig` row.
    deal = [pristine + i // 2 for i in range(orphans)]
    deal += [i % max(pristine, 1) for i in range(len(classes) - orphans)]
    rows = [(i, "orig") for i in range(pristine)]
    rows += list(zip(deal, classes, strict=True))
    told: dict[int, list[Story]] = {}
    for story in stories:
        told.setdefault(story.scene.person, []).append(story)

    items: list[Item] = []
    seen: set[tuple[object, ...]] = set()
    copies: dict[int, int] = {}
    for index, fake_cls in rows:
        while True:
            story = stories[index]
            copy = copies.get(story.number, 0)
            copies[story.number] = copy + 1
            item = _manipulate(story, fake_cls, copy, told, seed)
            key = (item.annotation["id"], item.image, item.text)
            if key not in seen:
                break
            # A short text can be reversed in one way only: tell this row about a story of its own.
            index = len(stories)
            stories.append(_story(seed, first + index))
        seen.add(key)
        items.append(replace(item, split=split, traces=traces))
    rng.shuffle(items)
    return items, first + len(stories)


def generate_items(
    n: int,
    seed: int,
    *,
    shares: dict[str, float] | None = None,
    traces: float = DEFAULT_TRACES,
) -> Iterator[Item]:
    """Makes the rows of a world without drawing anything.

    Args:
        n: Number of rows over all splits.
        seed: Worlds of different seeds have the same cast and words, but other stories.
        shares: Relative sizes of the splits; default `SPLIT_SHARES`.
        traces: Strength of the blending traces of pasted faces, 0 to 1.

    Yields:
        Rows split by split, each split shuffled. The same arguments always give the same rows.

    Raises:
        ValueError: If `n` is negative, `traces` is outside 0 to 1, or `shares` are not usable.
    """
    shares = SPLIT_SHARES if shares is None else shares
    if n < 0:
        raise ValueError(f"the number of samples is {n}; give 0 or more")
    if not 0.0 <= traces <= 1.0:
        raise ValueError(f"the strength of the traces is {traces}; give a number from 0 to 1")
    if min(shares.values(), default=0) < 0 or sum(shares.values()) <= 0:
        raise ValueError(f"split shares are {shares}; give shares of at least 0 with a sum above 0")
    first = 100
    for split, total in quotas(n, shares).items():
        items, first = _split_items(split, total, seed, first, traces)
        yield from items
