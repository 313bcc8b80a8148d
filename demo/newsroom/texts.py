"""News texts: writing them, reversing their sentiment, and finding the words that changed."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from demo.newsroom import words as w
from demo.newsroom.cast import CAST
from demo.newsroom.scene import Scene, caption_from_facts, fact_values

_TOKEN = re.compile(r"\w+|[^\w\s]")
_CORE = re.compile(r"\w+")


def tokenize(text: str) -> list[str]:
    """Splits a text into words and single punctuation marks, as `vocabulary` counts them."""
    return _TOKEN.findall(text)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def write(scene: Scene, rng: random.Random) -> str:
    """Writes a news text about an unmanipulated scene.

    Args:
        scene: What happened: the named person, the expression, the thing held, the place.
        rng: Chooses the phrasing.

    Returns:
        One line of text that names the person and states the expression, mostly also thing and place.
    """
    person, mood = scene.named, scene.expression
    template = rng.choices([t for t, _ in w.TEMPLATES], [n for _, n in w.TEMPLATES])[0]
    curly = rng.random() < 0.5
    mark = "\u2019" if curly else "'"
    last = person.last.replace("'", mark)
    name = f"{person.first} {last}"
    has_article = "A {adjective}" in template or "a {adjective}" in template
    if rng.random() < w.ROLE_SHARE:
        role = person.role if has_article or template.startswith("{Gerund}") else _capital(person.role)
        name = f"{role} {name}"
    tone = w.POLARITY[mood]
    amounts = {"money": rng.choice(w.MONEY), "share": rng.choice(w.SHARES)}
    spot = rng.choice(w.SPOTS[scene.place])
    if rng.random() < w.TOWN_SHARE:
        link = "near" if scene.place == "mountains" else "in"
        spot = f"{spot} {link} {rng.choice(w.TOWNS)}"
    thing = rng.choice(w.THINGS[scene.object])
    he, his = w.PRONOUNS[person.gender]
    gerund = rng.choice(w.GERUNDS[mood])
    text = template.format(
        name=name,
        last=last,
        verb=rng.choice(w.VERBS[mood]),
        gerund=gerund,
        Gerund=_capital(gerund),
        adjective=rng.choice(w.ADJECTIVES[mood]),
        thing=thing,
        bare=re.sub(r"^(an?|the) ", "", thing),
        spot=spot,
        Spot=_capital(spot),
        day=rng.choice(w.DAYS),
        reason=rng.choice(w.REASONS[tone]).format(**amounts),
        quote=rng.choice(w.QUOTES["shout" if mood == "shout" else tone]).format(**amounts),
        he=he,
        his=his,
        mark=mark,
        open="\u201c" if curly else '"',
        close="\u201d" if curly else '"',
        dash=rng.choice(("-", "\u2013")),
    )
    return text + "." if rng.random() < w.END_SHARE else text


def changed_positions(original: str, text: str) -> list[int]:
    """Indexes into `text.split()` of the words that an alignment with `original` does not match."""
    before, after = original.split(), text.split()
    changed: list[int] = []
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for tag, _, _, start, stop in matcher.get_opcodes():
        if tag != "equal":
            changed.extend(range(start, stop))
    return changed


def reversible_positions(text: str) -> list[int]:
    """Indexes into `text.split()` of the words whose sentiment or action can be reversed."""
    return [i for i, word in enumerate(text.split()) if _reverse_word(word) != word]


def _reverse_word(word: str) -> str:
    core = _CORE.search(word)
    if core is None or core.group().lower() not in w.REVERSED:
        return word
    other = w.REVERSED[core.group().lower()]
    other = _capital(other) if core.group()[0].isupper() else other
    return word[: core.start()] + other + word[core.end() :]


def _states_mood(word: str) -> bool:
    core = _CORE.search(word)
    return core is not None and core.group().lower() in w.MOOD_WORDS


def reverse(text: str, rng: random.Random, most: int = 4) -> tuple[str, list[int]]:
    """Reverses one to `most` words of sentiment or action, at least one of which states the expression.

    Args:
        text: A text by `write`.
        rng: Chooses the words. Mostly all that can be reversed are, sometimes only some.
        most: Largest number of words to change.

    Returns:
        The new text and the sorted indexes, into its whitespace-separated words, of the changed words.
    """
    parts = text.split()
    candidates = reversible_positions(text)
    rng.shuffle(candidates)
    candidates.sort(key=lambda i: not _states_mood(parts[i]))
    count = min(len(candidates), most)
    if rng.random() < 0.35:
        count = rng.randint(1, count)
    chosen = sorted(candidates[:count])
    for i in chosen:
        parts[i] = _reverse_word(parts[i])
    return " ".join(parts), chosen


def _phrases() -> Sequence[str]:
    tables = (w.VERBS, w.GERUNDS, w.ADJECTIVES, w.REASONS, w.QUOTES, w.THINGS, w.SPOTS, w.PRONOUNS)
    phrases = [phrase for table in tables for group in table.values() for phrase in group]
    phrases += [word for pair in w.MOOD_PAIRS + w.EVENT_PAIRS for word in pair]
    phrases += [phrase for group in (w.MONEY, w.SHARES, w.TOWNS, w.DAYS) for phrase in group]
    phrases += [template for template, _ in w.TEMPLATES]
    # What can open a sentence is also seen with a capital.
    phrases += [_capital(p) for table in (w.GERUNDS, w.SPOTS) for group in table.values() for p in group]
    phrases += [f"{p.name} {p.role} {_capital(p.role)}" for p in CAST]
    phrases += ["\u201c \u201d \u2019 ' \" - \u2013 . , in near s"]
    return phrases


def vocabulary() -> list[str]:
    """Every token, by `tokenize`, that any news text or caption of any seed can contain, sorted."""
    tokens = {token for p in _phrases() for token in tokenize(re.sub(r"\{\w+\}", " ", p))}
    values = fact_values()
    for key, options in values.items():
        facts = {k: v[0] for k, v in values.items()}
        for option in options:
            tokens.update(tokenize(caption_from_facts({**facts, key: option})))
    return sorted(tokens)
