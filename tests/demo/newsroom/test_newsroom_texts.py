from __future__ import annotations

import random
import re

from demo.newsroom import (
    CAST,
    Item,
    Scene,
    caption,
    changed_positions,
    generate_items,
    tokenize,
    vocabulary,
    words,
    write,
)
from demo.newsroom.texts import reverse, reversible_positions


def core(word: str) -> str:
    return re.sub(r"\W", "", word).lower()


def moods_of(text: str) -> set[str]:
    tables = (words.VERBS, words.GERUNDS, words.ADJECTIVES)
    stated = {core(word) for word in text.split()}
    return {mood for table in tables for mood, group in table.items() if stated & set(group)}


def test_a_text_names_its_person_and_states_its_expression_alone(items: list[Item]) -> None:
    for item in items:
        person = item.original_scene.named
        assert person.name in item.original_text.replace("\u2019", "'")
        assert moods_of(item.original_text) == {item.original_scene.expression}


def test_most_texts_state_the_thing_and_the_place(items: list[Item]) -> None:
    def states(phrases: tuple[str, ...], text: str) -> bool:
        return any(re.sub(r"^(an?|the) ", "", p).lower() in text.lower() for p in phrases)

    thing = [states(words.THINGS[i.original_scene.object], i.original_text) for i in items]
    place = [states(words.SPOTS[i.original_scene.place], i.original_text) for i in items]
    assert sum(thing) / len(items) > 0.85
    assert sum(place) / len(items) > 0.85


def test_texts_vary_punctuation_as_news_has_it(items: list[Item]) -> None:
    texts = [i.original_text for i in items]
    for mark in ("-", "\u2013", '"', "\u201c", "\u201d", "'", "\u2019", "$5", "50%", ",", "."):
        assert sum(mark in text for text in texts) >= 5, mark
    assert len(set(texts)) > 0.98 * len({i.annotation["id"] for i in items})


def test_reversing_changes_exactly_the_reported_words(items: list[Item]) -> None:
    rng = random.Random(1)
    for item in items[:400]:
        text, positions = reverse(item.original_text, rng)
        before, after = item.original_text.split(), text.split()
        assert len(before) == len(after)
        assert positions == [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert 1 <= len(positions) <= 4
        assert moods_of(text) - {item.original_scene.expression}


def test_reversing_every_word_twice_gives_the_text_back() -> None:
    text = "\u201cWe won,\u201d says a proud judge Ruth Adeyemi, smiling after the good news."
    rng = random.Random(0)
    assert reversible_positions(text) == [1, 4, 8, 11]
    results = [reverse(text, rng) for _ in range(40)]
    full = next(t for t, positions in results if positions == [1, 4, 8, 11])
    assert full == "\u201cWe lost,\u201d says a bitter judge Ruth Adeyemi, frowning after the bad news."
    back = next(t for t, p in (reverse(full, rng) for _ in range(40)) if len(p) == 4)
    assert back == text


def test_reversing_keeps_capitals_and_punctuation() -> None:
    text, positions = reverse('"Smiling," Anna Duarte', random.Random(0))
    assert (text, positions) == ('"Frowning," Anna Duarte', [0])


def test_reversal_pairs_are_one_to_one() -> None:
    assert all(words.REVERSED[words.REVERSED[w]] == w for w in words.REVERSED)
    assert len(words.REVERSED) == 2 * len(words.MOOD_PAIRS + words.EVENT_PAIRS)


def test_adjectives_never_break_the_article_before_them() -> None:
    assert not [a for group in words.ADJECTIVES.values() for a in group if a[0] in "aeiou"]


def test_changed_words_are_those_that_an_alignment_does_not_match() -> None:
    assert changed_positions("a b c d", "a b c d") == []
    assert changed_positions("a b c d", "a x c d e") == [1, 4]
    assert changed_positions("a b c", "c") == []
    assert changed_positions("", "a b") == [0, 1]


def test_the_vocabulary_covers_texts_and_captions_of_other_seeds() -> None:
    known = set(vocabulary())
    assert len(known) <= 600
    for seed in (11, 12):
        for item in generate_items(400, seed):
            for text in (item.text, item.original_text, caption(item.scene)):
                assert set(tokenize(text)) <= known, text


def test_every_phrase_can_be_written() -> None:
    rng = random.Random(3)
    known: set[str] = set()
    for mood in words.VERBS:
        for _ in range(400):
            person = rng.randrange(len(CAST))
            thing, place = rng.choice(list(words.THINGS)), rng.choice(list(words.SPOTS))
            known.update(tokenize(write(Scene(person, person, mood, thing, place), rng)))
    phrases = [p for table in (words.VERBS, words.ADJECTIVES, words.SPOTS) for g in table.values() for p in g]
    assert {t for p in phrases for t in tokenize(p)} <= known
