from __future__ import annotations

import pytest

from pipeline.gates import flags_of

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
        ("他说他没有", "stop", []),
    ],
)
def test_flags_say_what_the_text_shows(text, finish, flags):
    assert flags_of(text, PROMPT, finish) == flags
