"""A verdict as a piece of HTML: the call, the four types as bars, the words with what was found in them."""

from __future__ import annotations

from html import escape

from training.inference.describe import NAMES, not_read, percent
from training.inference.verdict import Verdict

STYLE = """
.verdict { font-size: 1rem; line-height: 1.5; color: var(--body-text-color); }
.verdict .call { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: baseline;
  gap: .25rem 1rem; margin: 0 0 .75rem; }
.verdict .call strong { font-size: 1.6rem; line-height: 1.2; }
.verdict .fake strong { color: var(--verdict-fake); }
.verdict .real strong { color: var(--verdict-real); }
.verdict .types { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr));
  gap: .35rem 1.5rem; margin: 0 0 1rem; padding: 0; list-style: none; }
.verdict .types li { display: grid; grid-template-columns: 6rem 1fr 3rem;
  white-space: nowrap; align-items: center; gap: .5rem;
  margin: 0; }
.verdict .bar { height: .6rem; border-radius: .3rem; overflow: hidden;
  background: var(--border-color-primary); }
.verdict .bar span { display: block; height: 100%; border-radius: .3rem; background: #8a96a3; }
.verdict .named { font-weight: 600; }
.verdict .named .bar span { background: var(--verdict-fake); }
.verdict .types output { text-align: right; font-variant-numeric: tabular-nums; }
.verdict .words { font-size: 1.15rem; line-height: 2; margin: 0; }
.verdict .words mark { color: inherit; border-radius: .3rem; padding: .1rem .3rem; font-weight: 600;
  background: var(--verdict-mark); }
.verdict .words mark small { font-weight: 400; font-size: .72em; margin-left: .3em; opacity: .85; }
.verdict .note, .verdict .error { margin: .5rem 0 0; font-size: .95rem; }
.verdict .note { opacity: .75; }
.verdict .error { color: var(--verdict-fake); font-size: 1.05rem; }
:root { --verdict-fake: #c62828; --verdict-real: #2e7d32; --verdict-mark: #ffd0c9; }
.dark { --verdict-fake: #ff8a80; --verdict-real: #81c784; --verdict-mark: #7f2620; }
"""


def panel(verdict: Verdict) -> str:
    """Return the verdict as HTML; every text in it is escaped."""
    kind, call = ("fake", "Manipulated") if verdict.is_fake else ("real", "Not manipulated")
    flagged = set(verdict.flagged)
    words = " ".join(
        f"<mark title='probability {escape(percent(p))}'>{escape(word)}<small>{p:.0%}</small></mark>"
        if position in flagged
        else f"<span title='probability {escape(percent(p))}'>{escape(word)}</span>"
        for position, (word, p) in enumerate(verdict.words)
    )
    notes = [] if verdict.box is not None else ["No edited face is predicted."]
    notes += [] if flagged else ["No word is flagged."]
    notes += [f"{not_read(verdict)}."] if verdict.words_not_read else []
    return (
        f"<div class='verdict' data-p-fake='{verdict.p_fake:.6f}'>"
        f"<p class='call {kind}'><strong>{call}</strong><span>probability of a manipulation "
        f"{escape(percent(verdict.p_fake))}</span></p><ul class='types'>{_types(verdict)}</ul>"
        f"<p class='words'>{words}</p>"
        f"<p class='note'>{escape(' '.join(notes))}</p></div>"
    )


def problem(message: str) -> str:
    """Return why there is no verdict, as HTML."""
    return f"<div class='verdict'><p class='error' role='alert'>{escape(message)}</p></div>"


def _types(verdict: Verdict) -> str:
    named = set(verdict.named)
    return "".join(
        f"<li class='{'named' if name in named else ''}'><span>{NAMES[name]}</span>"
        f"<span class='bar'><span style='width:{p:.1%}'></span></span><output>{p:.0%}</output></li>"
        for name, p in verdict.types.items()
    )
