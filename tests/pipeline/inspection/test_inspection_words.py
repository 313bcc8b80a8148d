from __future__ import annotations

from pipeline.inspection.words import MOST_CHARACTERS, MOST_WORDS, Run, clip, news_runs, original_runs


def test_neighbouring_manipulated_words_make_one_run():
    words = "A joyful woman smiles at the gate".split()
    assert news_runs(words, [1, 2, 5]) == [
        Run("A", False),
        Run("joyful woman", True),
        Run("smiles at", False),
        Run("the", True),
        Run("gate", False),
    ]


def test_a_text_without_manipulated_words_is_one_run():
    assert news_runs(["All", "quiet"], []) == [Run("All quiet", False)]


def test_the_original_marks_the_words_that_were_replaced():
    runs = original_runs("A sad woman frowns at the gate", "A joyful woman smiles at the gate".split())
    assert [run.text for run in runs if run.marked] == ["sad", "frowns"]
    assert " ".join(run.text for run in runs) == "A sad woman frowns at the gate"


def test_nothing_is_marked_in_the_original_of_another_story():
    runs = original_runs("Rain floods the old town", "Ministers agree on a budget".split())
    assert runs == [Run("Rain floods the old town", False)]


def test_a_text_of_absurd_length_is_cut_and_says_so():
    runs = news_runs([f"w{n}" for n in range(100_000)], range(0, 100_000, 2))
    assert runs[-1] == Run(f"… ({100_000 - MOST_WORDS:,} more words)", False)
    assert len(runs) <= MOST_WORDS + 1


def test_one_endless_word_is_cut_too():
    assert len(news_runs(["x" * 1_000_000, "y"], [1])[0].text) < MOST_CHARACTERS + 50
    assert clip("x" * 100, 10) == "x" * 10 + "… (90 more characters)"


def test_control_characters_are_replaced_and_line_breaks_stay():
    assert clip("a\x00b\x1bc\x85d\ne\tf") == "a�b�c�d\ne\tf"


def test_right_to_left_marks_and_line_separators_are_text_like_any_other():
    text = "שלום \u200f\u202eabc\u202c \u2028 end"
    assert clip(text) == text
