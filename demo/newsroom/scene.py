"""Scenes: the ground truth of what a picture shows, and the captions that state it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from demo.newsroom.cast import CAST, HAIR_COLOURS, HAIR_STYLES, Person

EXPRESSIONS: dict[str, str] = {
    "smile": "smiles",
    "laugh": "laughs",
    "calm": "looks calm",
    "frown": "frowns",
    "weep": "weeps",
    "shout": "shouts",
}
OBJECTS: dict[str, str] = {
    "trophy": "a trophy",
    "microphone": "a microphone",
    "book": "a book",
    "flowers": "flowers",
    "umbrella": "an umbrella",
    "dog": "a dog",
    "football": "a football",
    "newspaper": "a newspaper",
    "guitar": "a guitar",
    "cake": "a cake",
    "balloon": "a balloon",
    "flag": "a flag",
}
PLACES: dict[str, str] = {
    "stadium": "in a stadium",
    "parliament": "in front of a parliament",
    "harbour": "at a harbour",
    "school": "in a school",
    "hospital": "in a hospital",
    "market": "at a market",
    "mountains": "in the mountains",
    "street": "in a street",
    "courtroom": "in a courtroom",
    "theatre": "on a theatre stage",
}
OPPOSITES: dict[str, str] = {
    "smile": "frown",
    "frown": "smile",
    "laugh": "weep",
    "weep": "laugh",
    "calm": "shout",
    "shout": "calm",
}
ATTRIBUTES = ("person", "hair", "glasses", "expression", "object", "place")
"""Keys of `caption_facts`, in the order in which a caption states them."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the pixels of one picture show, after any manipulation.

    Attributes:
        person: Index in `CAST` of the person whose body and clothes are shown (the one the news names).
        face: Index in `CAST` of the person whose head is shown; equals `person` unless the face was swapped.
        expression: Key of `EXPRESSIONS`.
        object: Key of `OBJECTS`: the thing held.
        place: Key of `PLACES`.
    """

    person: int
    face: int
    expression: str
    object: str
    place: str

    @property
    def named(self) -> Person:
        """The person the original news names."""
        return CAST[self.person]

    @property
    def looks(self) -> Person:
        """The person whose head is visible."""
        return CAST[self.face]


def hair_fact(person: Person) -> str:
    """Hair as captions state it, such as `short red hair` or `a bald head`."""
    if person.hair_style == "bald":
        return "a bald head"
    return f"{person.hair_style} {person.hair_colour} hair"


def looks_facts(person: Person) -> tuple[str, str, str]:
    """The three facts about a head that captions state: person, hair, glasses."""
    return person.gender, hair_fact(person), "glasses" if person.glasses else "no glasses"


def caption_facts(scene: Scene) -> dict[str, str]:
    """Visible facts of a scene, one per key of `ATTRIBUTES`, each from a small closed vocabulary."""
    person, hair, glasses = looks_facts(scene.looks)
    return {
        "person": person,
        "hair": hair,
        "glasses": glasses,
        "expression": EXPRESSIONS[scene.expression],
        "object": OBJECTS[scene.object],
        "place": PLACES[scene.place],
    }


def caption_from_facts(facts: dict[str, str]) -> str:
    """The reference caption for a full set of facts."""
    glasses = " and glasses" if facts["glasses"] == "glasses" else ""
    return (
        f"a {facts['person']} with {facts['hair']}{glasses} {facts['expression']} "
        f"and holds {facts['object']} {facts['place']}"
    )


def caption(scene: Scene) -> str:
    """The caption a captioner should give, a function of `caption_facts` alone.

    Example: `a woman with short red hair and glasses smiles and holds a trophy in a stadium`.
    """
    return caption_from_facts(caption_facts(scene))


def fact_values() -> dict[str, tuple[str, ...]]:
    """All values that each attribute can take."""
    return {
        "person": ("woman", "man"),
        "hair": tuple(sorted({hair_fact(p) for p in CAST})),
        "glasses": ("glasses", "no glasses"),
        "expression": tuple(EXPRESSIONS.values()),
        "object": tuple(OBJECTS.values()),
        "place": tuple(PLACES.values()),
    }


def _alternatives(values: list[str]) -> str:
    return "|".join(re.escape(v) for v in sorted(values, key=len, reverse=True))


_HAIR = re.compile(
    rf"\b(?:(?:{_alternatives([s for s in HAIR_STYLES if s != 'bald'])}) "
    rf"(?:{_alternatives(list(HAIR_COLOURS))}) hair|a bald head)\b"
)
_PATTERNS = {
    "person": re.compile(r"\b(woman|man)\b"),
    "expression": re.compile(rf"\b(?:{_alternatives(list(EXPRESSIONS.values()))})\b"),
    "object": re.compile(rf"\bholds (?P<v>{_alternatives(list(OBJECTS.values()))})\b"),
    "place": re.compile(rf"\b(?:{_alternatives(list(PLACES.values()))})\b"),
}


def parse_caption(text: str) -> dict[str, str]:
    """Reads the facts back from a caption, tolerant of missing or garbled parts.

    Args:
        text: A caption, in the form of `caption` or near it.

    Returns:
        The attributes that the text claims, with values as in `caption_facts`. An attribute whose part is
        missing or not understood is left out. `no glasses` is claimed when hair is stated without glasses.
    """
    text = " ".join(text.lower().split())
    facts: dict[str, str] = {}
    for key, pattern in _PATTERNS.items():
        if found := pattern.search(text):
            facts[key] = found.groupdict().get("v") or found.group(0)
    if hair := _HAIR.search(text):
        facts["hair"] = hair.group(0)
    if re.search(r"\bglasses\b", text):
        facts["glasses"] = "glasses"
    elif hair:
        facts["glasses"] = "no glasses"
    return {key: facts[key] for key in ATTRIBUTES if key in facts}
