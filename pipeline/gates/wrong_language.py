"""``wrong_language``: letters of another script than Latin, which ChatGLM mixes into English answers.

A language that is written in Latin letters is not told from English here.
"""

from __future__ import annotations

import regex

from pipeline.gates.case import Case

SHARE = 0.02
"""Share of the text's letters that may be of another script."""

_LETTER = regex.compile(r"\p{L}")
# A single foreign letter is a symbol (10 µm, 5 Ω), not a language.
_FOREIGN_RUN = regex.compile(r"(?:(?!\p{Latin})\p{L}\p{M}*){2,}")


def wrong_language(case: Case) -> bool:
    """Return whether more than a few letters are of another script and not quoted from the prompt.

    A run of foreign letters that the prompt has too is a quotation: news texts name people and places in
    their own script.
    """
    if case.text.isascii():
        return False
    foreign = sum(len(run) for run in _FOREIGN_RUN.findall(case.text) if run not in case.prompt)
    return foreign > SHARE * len(_LETTER.findall(case.text))
