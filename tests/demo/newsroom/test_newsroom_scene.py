from __future__ import annotations

import itertools

import pytest

from demo.newsroom import (
    ATTRIBUTES,
    CAST,
    EXPRESSIONS,
    OBJECTS,
    PLACES,
    Scene,
    caption,
    caption_facts,
    fact_values,
    parse_caption,
)
from demo.newsroom.scene import OPPOSITES, looks_facts


def scenes() -> list[Scene]:
    triples = itertools.product(EXPRESSIONS, OBJECTS, PLACES)
    return [Scene(0, i % len(CAST), *triple) for i, triple in enumerate(triples)]


def test_a_caption_parses_back_to_the_facts_it_was_made_of() -> None:
    for scene in scenes():
        assert parse_caption(caption(scene)) == caption_facts(scene)


def test_facts_come_from_the_closed_vocabularies() -> None:
    values = fact_values()
    assert tuple(values) == ATTRIBUTES
    for scene in scenes():
        for key, value in caption_facts(scene).items():
            assert value in values[key]


def test_a_caption_describes_the_face_shown_not_the_person_named() -> None:
    bald = next(i for i, p in enumerate(CAST) if p.hair_style == "bald")
    text = caption(Scene(0, bald, "smile", "dog", "street"))
    assert text == "a man with a bald head smiles and holds a dog in a street"


def test_different_facts_give_different_captions() -> None:
    facts = {tuple(caption_facts(s).values()): caption(s) for s in scenes()}
    assert len(set(facts.values())) == len(facts)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", {}),
        ("the of and", {}),
        ("holds a dog", {"object": "a dog"}),
        ("a dog in a street", {"place": "in a street"}),
        (
            "A  WOMAN with curly red hair",
            {"person": "woman", "hair": "curly red hair", "glasses": "no glasses"},
        ),
        ("someone with glasses weeps", {"glasses": "glasses", "expression": "weeps"}),
        ("a man with short hair", {"person": "man"}),
    ],
)
def test_parsing_claims_only_what_is_said(text: str, facts: dict[str, str]) -> None:
    assert parse_caption(text) == facts


def test_no_two_cast_members_look_alike_or_share_a_name() -> None:
    assert len({looks_facts(p) for p in CAST}) == len(CAST)
    assert len({p.name for p in CAST}) == len(CAST)
    assert len({p.last for p in CAST}) == len(CAST)


def test_names_have_hyphens_and_apostrophes_as_in_the_news() -> None:
    names = " ".join(p.name for p in CAST)
    assert "-" in names and "'" in names


def test_every_expression_has_an_opposite() -> None:
    assert set(OPPOSITES) == set(EXPRESSIONS)
    assert all(OPPOSITES[OPPOSITES[e]] == e != OPPOSITES[e] for e in EXPRESSIONS)
