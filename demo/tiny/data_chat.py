"""Training conversations for the tiny GLM, made while it trains: no two steps see the same texts."""

import random
import string
from collections.abc import Iterator
from dataclasses import dataclass

from demo.newsroom import texts
from demo.newsroom.cast import CAST
from demo.newsroom.scene import EXPRESSIONS, OBJECTS, PLACES, Scene
from demo.tiny.explanations import (
    MOOD_OF_WORD,
    STOP_WORDS,
    core,
    describe,
    explain_attribute,
    explain_swap,
    explanation_vocabulary,
    named_person,
)
from pipeline.jobs.explanations import marked
from pipeline.prompts import load_prompt

TASKS = {"pair": "manipulation-pair-v1", "marked": "manipulation-marked-v1", "description": "description-v1"}
# Pairs of swapped texts are the hardest to compare, so they are the most frequent.
MIXTURE = (
    (("pair", "text_swap"), 0.36),
    (("pair", "text_attribute"), 0.22),
    (("marked", "text_swap"), 0.16),
    (("marked", "text_attribute"), 0.14),
    (("description", "orig"), 0.12),
)
STRANGE_WORD_SHARE = 0.12


@dataclass(frozen=True)
class Conversation:
    """One question and the answer to learn."""

    prompt: str
    answer: str


def chat_vocabulary() -> list[str]:
    """Every word of every world's texts, of the prompts and of the reference answers."""
    prompts = " ".join(
        load_prompt(name).render(original_text="", text="", marked_text="") for name in TASKS.values()
    )
    return [*texts.vocabulary(), *texts.tokenize(prompts), *explanation_vocabulary()]


def conversations(seed: int) -> Iterator[Conversation]:
    """An endless stream of training conversations; the same seed gives the same stream."""
    rng = random.Random(f"tiny chat {seed}")
    kinds, weights = [kind for kind, _ in MIXTURE], [weight for _, weight in MIXTURE]
    while True:
        task, manipulation = rng.choices(kinds, weights)[0]
        yield conversation(task, manipulation, rng)


def conversation(task: str, manipulation: str, rng: random.Random) -> Conversation:
    """Draw one conversation.

    Args:
        task: `pair`, `marked` or `description`.
        manipulation: `text_swap`, `text_attribute` or, for a description, `orig`.
        rng: Chooses the story, the phrasing and the manipulation.
    """
    scene = _scene(rng, rng.randrange(len(CAST)))
    original = texts.write(scene, rng)
    positions: list[int] = []
    if manipulation == "text_swap":
        text = texts.write(_other_scene(scene, rng), rng)
    elif manipulation == "text_attribute":
        text, positions = texts.reverse(original, rng)
    else:
        text = original
    if rng.random() < STRANGE_WORD_SHARE:
        original, text = _with_strange_words(original, text, rng)
    if manipulation == "text_swap":
        positions = texts.changed_positions(original, text)
    if task == "description":
        return Conversation(load_prompt(TASKS[task]).render(text=text), describe(text))
    explain = explain_swap if manipulation == "text_swap" else explain_attribute
    if task == "pair":
        prompt = load_prompt(TASKS[task]).render(original_text=original, text=text)
        return Conversation(prompt, explain(text, positions, original))
    prompt = load_prompt(TASKS[task]).render(marked_text=marked(text.split(), positions))
    return Conversation(prompt, explain(text, positions, None))


def _scene(rng: random.Random, person: int) -> Scene:
    expression, thing, place = (rng.choice(tuple(table)) for table in (EXPRESSIONS, OBJECTS, PLACES))
    return Scene(person=person, face=person, expression=expression, object=thing, place=place)


def _other_scene(scene: Scene, rng: random.Random) -> Scene:
    while True:
        other = _scene(rng, scene.person)
        if all(getattr(scene, key) != getattr(other, key) for key in ("expression", "object", "place")):
            return other


def _with_strange_words(original: str, text: str, rng: random.Random) -> tuple[str, str]:
    """Replace a few content words, in both texts alike, by words that no vocabulary holds."""
    name = named_person(text) or ""
    content = {core(word) for word in f"{original} {text}".split()}
    content = {
        w for w in content if w.isalpha() and w.lower() not in MOOD_OF_WORD and w.lower() not in STOP_WORDS
    }
    chosen = rng.sample(
        sorted(content - set(name.split())), k=min(rng.randint(1, 2), len(content)) if content else 0
    )
    for word in chosen:
        strange = _strange_word(rng)
        original, text = (" ".join(_swap(w, word, strange) for w in t.split()) for t in (original, text))
    return original, text


def _swap(word: str, old: str, new: str) -> str:
    return word.replace(old, new) if core(word) == old else word


def _strange_word(rng: random.Random) -> str:
    letters = "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 7)))
    kind = rng.random()
    if kind < 0.2:
        return str(rng.randrange(2100))
    return letters.capitalize() if kind < 0.6 else letters
