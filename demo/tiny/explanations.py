"""Reference explanations of manipulated texts, and the test whether an explanation names the changes.

Which words an explanation has to name:

- `text_attribute`: every annotated word.
- `text_swap`, original known: every content word of the manipulated text that the original text does not
  have.
- `text_swap`, original unknown: every annotated content word.

A word is a whitespace-separated word without the punctuation around it and without a possessive ending;
``$5`` and ``50%`` keep their sign. Words are compared without regard to case. A content word is one that is
neither in `STOP_WORDS` nor part of the person's name: the swapped text is about the same person, so the name
is no change.
"""

import re
from collections.abc import Iterable, Sequence

from demo.newsroom.cast import CAST
from demo.newsroom.scene import PLACES
from demo.newsroom.words import ADJECTIVES, GERUNDS, SPOTS, THINGS, VERBS

STOP_WORDS = frozenset(
    "a an the in on at of with and as after before ahead among inside outside near about to for from by is "
    "was will be it its we us he she his her what that says".split()
)
MOODS = {"smile": "happy", "laugh": "happy", "frown": "sad", "weep": "sad", "calm": "calm", "shout": "angry"}
MOOD_OF_WORD = {
    word: MOODS[expression]
    for table in (VERBS, GERUNDS, ADJECTIVES)
    for expression, words in table.items()
    for word in words
}
_TYPOGRAPHIC = str.maketrans("\u2019\u2018\u201c\u201d", "''\"\"")
_QUOTED = re.compile(r'"([^"]*)"')
_NAME = re.compile("|".join(re.escape(p.name).replace("'", "['\u2019]") for p in CAST))


def core(word: str) -> str:
    """The word without surrounding punctuation and possessive ending: ``“Duarte’s`` gives ``Duarte``."""
    word = re.sub(r"^[^\w$]+|[^\w%]+$", "", word)
    return re.sub(r"['\u2019]s?$", "", word)


def named_person(text: str) -> str | None:
    """The full name that the text gives first, spelled as there; None when it names no cast member."""
    found = _NAME.search(text)
    return found.group(0) if found else None


def mood(words: Iterable[str]) -> str | None:
    """The mood (`happy`, `sad`, `calm`, `angry`) that the first mood word states; None without one."""
    return next((MOOD_OF_WORD[w] for w in (core(word).lower() for word in words) if w in MOOD_OF_WORD), None)


def attribute_words(text: str, positions: Sequence[int]) -> list[str]:
    """The words that an explanation of a `text_attribute` manipulation has to name, in order of the text."""
    words = text.split()
    return _distinct(core(words[i]) for i in positions)


def swap_words(text: str, positions: Sequence[int], original: str | None) -> list[str]:
    """The words that an explanation of a `text_swap` has to name, in order of the text.

    Args:
        text: The manipulated text.
        positions: Annotated indexes into its whitespace-separated words.
        original: The original text, or None when the explanation is written without it.
    """
    name = named_person(text)
    known = {_key(part) for part in (name or "").split()}
    if original is not None:
        known |= {_key(core(word)) for word in original.split()}
    words = text.split()
    cores = (core(words[i]) for i in positions)
    return _distinct(w for w in cores if w and _key(w) not in known and _key(w) not in STOP_WORDS)


def words_to_name(fake_cls: str, text: str, positions: Sequence[int], original: str | None) -> list[str]:
    """`attribute_words` or `swap_words`, as the manipulation class asks; empty for an unmanipulated text."""
    if "text_attribute" in fake_cls:
        return attribute_words(text, positions)
    if "text_swap" in fake_cls:
        return swap_words(text, positions, original)
    return []


def names_words(explanation: str, needed: Sequence[str]) -> bool:
    """Whether every needed word stands in straight double quotes in the explanation, by itself and whole."""
    quoted = {_key(core(part)) for part in _QUOTED.findall(explanation)}
    return all(_key(word) in quoted for word in needed)


def explain_attribute(text: str, positions: Sequence[int], original: str | None) -> str:
    """The reference explanation of reversed words; `original` is None when it is not known."""
    words = attribute_words(text, positions)
    now = mood(words)
    subject = f"the mood of the news about {named_person(text) or 'the event'}"
    if original is None:
        before = {"happy": "sad", "sad": "happy", "calm": "angry", "angry": "calm"}.get(now or "")
        verb = "were" if len(words) > 1 else "was"
        turn = f" from {before} to {now}" if now else ""
        return f"{_listing(words)} {verb} manipulated: {subject} may have been reversed{turn}."
    old = attribute_words(original, positions)
    before = mood(old)
    turn = f" from {before} to {now}" if now and before else ""
    verb = "replace" if len(words) > 1 else "replaces"
    return f"{_listing(words)} {verb} {_quotes(old)}: {subject} is reversed{turn}."


def explain_swap(text: str, positions: Sequence[int], original: str | None) -> str:
    """The reference explanation of a swapped text; `original` is None when it is not known."""
    words = swap_words(text, positions, original)
    person = named_person(text) or "the same person"
    if original is None:
        verb = "were" if len(words) > 1 else "was"
        return (
            f"{_listing(words)} {verb} manipulated: the text may have been swapped for one about another "
            f"event with {person}."
        )
    verb = "are" if len(words) > 1 else "is"
    now, before = mood(text.split()), mood(original.split())
    tail = ""
    if now and before:
        tail = f", where the mood is {f'still {now}' if now == before else f'{now} instead of {before}'}"
    return (
        f"{_listing(words)} {verb} new: the text was swapped for one about another event with {person}{tail}."
    )


def describe(text: str) -> str:
    """The reference description of an unmanipulated text: who, in what mood, with what, where."""
    folded = text.lower()
    thing = _longest(folded, (t for group in THINGS.values() for t in group))
    spot = _longest(folded, (s for place in PLACES for s in SPOTS[place]))
    rest = (f" with {thing}" if thing else "") + (f" {spot}" if spot else "")
    return f"The text says that {named_person(text) or 'someone'} is {mood(text.split()) or 'seen'}{rest}."


def explanation_vocabulary() -> list[str]:
    """Every word of the reference sentences besides the words of the news texts themselves."""
    return (
        "The word words replace replaces are is was were new manipulated the mood of the news about the "
        "event may have been reversed from to text swapped for one another with same person where still "
        "instead says that someone seen happy sad calm angry and"
    ).split()


def _listing(words: Sequence[str]) -> str:
    return f"The {'words' if len(words) > 1 else 'word'} {_quotes(words)}"


def _quotes(words: Sequence[str]) -> str:
    marked = [f'"{word}"' for word in words]
    return " and ".join([", ".join(marked[:-1]), marked[-1]]) if len(marked) > 1 else "".join(marked)


def _distinct(words: Iterable[str]) -> list[str]:
    return list({_key(word): word for word in reversed(list(words))}.values())[::-1]


def _key(word: str) -> str:
    return word.translate(_TYPOGRAPHIC).casefold()


def _longest(text: str, phrases: Iterable[str]) -> str | None:
    found = [p for p in phrases if re.search(rf"(?<!\w){re.escape(p)}(?!\w)", text)]
    return max(found, key=len, default=None)
