"""``misses_change``: an explanation of a manipulation that names none of the words that were changed."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.gates.case import WORD, Case

STEM = 4
"""Words that begin with this many equal letters count as one: smiles, smiling."""

_COMMON = frozenset(
    """
    a an the and or but nor so as at by for from in into of off on onto out over per than to up via with
    he her hers him his i it its me my our she their them they this that these those us we who whom whose
    you your is are was were be been being am do does did has have had will would can could may might must
    shall should not no s t
    """.split()
)


def misses_change(case: Case) -> bool:
    """Return whether none of the changed words stands in the text, in any of their forms.

    Where only words such as "the" or "at" were changed, or nobody knows which, nothing can be missed.
    """
    if not case.changed:
        return False
    changed = {word for entry in case.changed for word in WORD.findall(entry.casefold())} - _COMMON
    if not changed:
        return False
    written = set(case.words)
    stems = {word[:STEM] for word in written if len(word) > STEM}
    return not any(word in written or (len(word) > STEM and word[:STEM] in stems) for word in changed)


def changed_words(words: Sequence[str], positions: Sequence[int], original: str | None) -> tuple[str, ...]:
    """Return the words that a manipulation put in, and those of the original that are gone.

    Args:
        words: Words of the manipulated text.
        positions: Indexes of those that were put in.
        original: The text before, or None when it is not known.
    """
    there = set(words)
    taken_out = [] if original is None else [word for word in original.split() if word not in there]
    return (*(words[index] for index in positions), *taken_out)
