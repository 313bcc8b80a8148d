from __future__ import annotations

import random
import string
import sys

import pytest

from pipeline.gates import TEXT_GATES, Case, flags_of
from pipeline.gates.misses_change import changed_words
from pipeline.gates.refusal import phrases
from pipeline.gates.repetition import loops
from schemas.vocabulary import FLAGS

PROMPT = "Give the caption of this picture"


@pytest.mark.parametrize(
    ("text", "finish", "flags"),
    [
        ("a man with red hair smiles", "stop", []),
        ("", "stop", ["empty"]),
        (" ... 5 %", "stop", ["empty"]),
        ("a man with red", "length", ["truncated"]),
        ("Give the caption of this picture: a man smiles", "stop", ["prompt_echo"]),
        ("Give the man a hand", "stop", []),
        ("a dog and a dog and a dog and a dog", "length", ["truncated", "repetition"]),
        ("no no no no no", "stop", ["repetition"]),
        ("very very very good", "stop", []),
        ("哈哈哈哈哈哈哈哈哈哈", "stop", ["repetition", "wrong_language"]),
        ("他说他没有", "stop", ["wrong_language"]),
        ("对不起，我无法看到图片。", "stop", ["wrong_language", "refusal"]),
    ],
)
def test_flags_say_what_the_text_shows(text, finish, flags):
    assert flags_of(Case(text, PROMPT, finish)) == flags


def test_every_gate_has_a_flag_of_the_vocabulary_and_its_place():
    assert [*TEXT_GATES, "image_mismatch"] == list(FLAGS)


@pytest.mark.parametrize(
    ("text", "raised"),
    [
        # As ChatGLM answers English questions about news texts.
        ('The words "smiles" were changed to "frowns"，因此 the mood of the news is reversed.', True),
        ("这段文字说的是一位部长在市场上微笑。", True),
        ("В тексте слово заменено на другое.", True),
        ("Ο υπουργός χαμογελά at the market.", True),
        ("The text says that Zoë Müller, née Łukasz, is happy at a café in São Paulo.", False),
        ("The particle is 10 µm wide, and the coil has 5 Ω.", False),
        ("“The deal” is worth €5 — a 20 % rise … in Reykjavík.", False),
        ("The text says that Nguyễn Thị Kim is happy.", False),
        ("A smiling man 😀 with a flag 🇩🇪", False),
    ],
)
def test_letters_of_another_script_are_another_language(text, raised):
    assert ("wrong_language" in flags_of(Case(text, "Describe the text.", "stop"))) is raised


def test_a_foreign_name_quoted_from_the_prompt_is_no_other_language():
    prompt = 'News text: "Minister 王小明 smiles at the market in Київ"\nDescribe in one English sentence.'
    quoting = "The text says that 王小明 is happy at the market in Київ."
    assert flags_of(Case(quoting, prompt, "stop")) == []
    assert flags_of(Case(quoting, "Describe the text.", "stop")) == ["wrong_language"]


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that request.",
        "I’m sorry, I cannot help with that.",
        "As an AI language model, I do not have access to the picture.",
        '"As an AI assistant", it says, the text was changed.',
        "I cannot see images, so the caption stays unknown.",
        "Unfortunately, I am not able to describe this.",
        "作为一个人工智能语言模型，我无法查看图片。",
        "很抱歉，我不能回答这个问题。",
    ],
)
def test_refusals_in_english_and_chinese_are_noticed(text):
    assert "refusal" in flags_of(Case(text, PROMPT, "stop"))


@pytest.mark.parametrize(
    "text",
    [
        "The text says that the mayor is sorry and cannot help the voters.",
        'The words "I cannot" replace "I can": the mood of the news is reversed.',
        "a man who says sorry, but smiles",
        "The minister said: I am not able to attend.",
        "An artificial hand, an intelligence agency and a language school",
    ],
)
def test_news_about_refusing_is_no_refusal(text):
    assert "refusal" not in flags_of(Case(text, PROMPT, "stop"))


def test_a_refusal_quoted_from_the_prompt_is_none():
    prompt = 'News text: "Chatbot tells voters: as an AI language model I have no opinion"\nDescribe it.'
    case = Case("The text says that a chatbot, as an AI language model, has no opinion.", prompt, "stop")
    assert flags_of(case) == []


def test_an_answer_that_opens_with_a_quotation_of_its_prompt_is_no_refusal():
    prompt = 'Original news text: "I can breathe"\nManipulated news text: "I can’t breathe"\nName the words.'
    quoting = Case('"I can\'t breathe" was changed: "can" became "can\'t".', prompt, "stop")
    assert flags_of(quoting) == []
    assert flags_of(Case("I cannot help with that.", prompt, "stop")) == ["refusal"]


def test_the_phrases_are_in_the_form_they_are_matched_in():
    opening, anywhere = phrases()
    assert len(opening) > 20 and len(anywhere) > 20 and len({*opening, *anywhere}) == len(opening + anywhere)
    for phrase in (*opening, *anywhere):
        assert "refusal" in flags_of(Case(phrase.upper(), PROMPT, "stop"))


@pytest.mark.parametrize(
    ("text", "missed"),
    [
        ('The word "smiles" replaces "frowns".', False),
        ("The person is now smiling instead.", False),
        ("Instead of frowning, the person is glad.", False),
        ("The mood of the news about Ann Lee is reversed.", True),
        ("The text was manipulated.", True),
    ],
)
def test_an_explanation_names_a_changed_word_in_any_of_its_forms(text, missed):
    words = "Ann Lee smiles at the gate".split()
    changed = changed_words(words, [2], "Ann Lee frowns at the gate")
    assert changed == ("smiles", "frowns")
    assert ("misses_change" in flags_of(Case(text, "?", "stop", changed=changed))) is missed


def test_changes_that_cannot_be_named_are_not_missed():
    assert changed_words("Ann sits in the sun".split(), [2, 3], None) == ("in", "the")
    for changed in (None, (), ("in", "The,")):
        assert flags_of(Case("The text was changed.", "?", "stop", changed=changed)) == []


def test_a_loop_is_found_exactly_where_a_run_repeats():
    draw = random.Random(5)
    found = 0
    for _ in range(3000):
        words = draw.choices("a dog and cat runs".split()[: draw.randint(1, 5)], k=draw.randint(0, 30))

        def repeated(size, times, words=words):
            return any(
                words[start : start + size] * times == words[start : start + size * times]
                for start in range(len(words) - size * times + 1)
            )

        expected = repeated(1, 5) or any(repeated(size, 3) for size in range(2, 13))
        assert loops(words) is expected, words
        found += expected
    assert 500 < found < 2500


def test_any_text_gets_known_flags_in_their_order():
    draw = random.Random(6)
    alphabets = [string.printable, "哈哈 a", "\u0301\u200b\ufeff\x00 é", [chr(n) for n in range(0x3000)]]
    alphabets.append([chr(draw.randrange(sys.maxunicode)) for _ in range(500)])
    for _ in range(2000):
        text, prompt = ("".join(draw.choices(draw.choice(alphabets), k=draw.randint(0, 60))) for _ in "ab")
        case = Case(text, prompt, draw.choice(["stop", "length"]), changed=tuple(prompt.split()))
        flags = flags_of(case)
        assert flags == [flag for flag in FLAGS if flag in flags]


def test_latin_letters_are_never_another_language():
    draw = random.Random(7)
    for _ in range(2000):
        text = "".join(draw.choices(string.printable + "éèüñçßøÅłŞığ“”’–…€½²", k=draw.randint(0, 80)))
        assert "wrong_language" not in flags_of(Case(text, "", "stop")), text
