import random

import pytest

from demo.newsroom import generate_items
from demo.tiny.data_chat import MIXTURE, conversation
from demo.tiny.explanations import (
    attribute_words,
    core,
    describe,
    explain_attribute,
    explain_swap,
    names_words,
    swap_words,
    words_to_name,
)

ORIGINAL = "Anna Duarte celebrates with a trophy at the stadium after winning the $5 prize"
REVERSED = "Anna Duarte mourns with a trophy at the stadium after losing the $5 prize"
SWAPPED = "“What a victory,” says a calm Anna Duarte, holding a trophy in court for $20."


@pytest.mark.parametrize(
    ("word", "expected"),
    [("“It", "It"), ("Duarte’s", "Duarte"), ("$5", "$5"), ("50%,", "50%"), ("O'Neill", "O'Neill"), ("–", "")],
)
def test_a_word_is_taken_without_its_punctuation(word, expected):
    assert core(word) == expected


def test_a_reversed_text_needs_every_annotated_word():
    assert attribute_words(REVERSED, [2, 10]) == ["mourns", "losing"]


def test_a_swapped_text_needs_the_content_words_that_the_original_lacks():
    every = list(range(len(SWAPPED.split())))
    assert swap_words(SWAPPED, every, ORIGINAL) == ["victory", "calm", "holding", "court", "$20"]


def test_without_the_original_a_swapped_text_needs_its_annotated_content_words():
    assert swap_words(SWAPPED, [2, 5, 8, 9, 10], None) == ["victory", "calm", "holding", "trophy"]


def test_an_unmanipulated_text_needs_no_word():
    assert words_to_name("face_swap", ORIGINAL, [], ORIGINAL) == []


def test_the_reference_explanations_read_as_documented():
    assert explain_attribute(REVERSED, [2, 10], ORIGINAL) == (
        'The words "mourns" and "losing" replace "celebrates" and "winning": the mood of the news about Anna '
        "Duarte is reversed from happy to sad."
    )
    assert explain_swap("Anna Duarte weeps in court", [2, 4], ORIGINAL) == (
        'The words "weeps" and "court" are new: the text was swapped for one about another event with Anna '
        "Duarte, where the mood is sad instead of happy."
    )
    assert describe("At the stadium, a calm Anna Duarte holds a trophy") == (
        "The text says that Anna Duarte is calm with a trophy at the stadium."
    )


def test_a_word_counts_as_named_only_in_quotes_and_whole():
    assert names_words('The word "mourns" is new.', ["mourns"])
    assert names_words('The word "Mourns," is new.', ["mourns"])
    assert not names_words("The word mourns is new.", ["mourns"])
    assert not names_words('The word "mourn" is new.', ["mourns"])
    assert not names_words('The word "mourns" is new.', ["mourns", "losing"])


def test_reference_explanations_of_a_world_name_every_needed_word():
    for item in generate_items(600, seed=77):
        positions = item.annotation["fake_text_pos"]
        for original in (item.original_text, None):
            needed = words_to_name(item.fake_cls, item.text, positions, original)
            explain = explain_attribute if "text_attribute" in item.fake_cls else explain_swap
            if "text" in item.fake_cls:
                assert needed and names_words(explain(item.text, positions, original), needed)


@pytest.mark.parametrize(("kind", "_share"), MIXTURE)
def test_training_conversations_ask_and_answer_about_the_same_text(kind, _share):
    rng = random.Random(3)
    for _ in range(30):
        example = conversation(*kind, rng)
        quoted = [w for w in example.answer.split('"')[1::2]]
        assert all(word in example.prompt for word in quoted)
