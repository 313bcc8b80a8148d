"""The people of the newsroom: a fixed cast, each with one look that never changes.

No two members share the same caption facts (man or woman, hair, glasses), so a swapped face always
contradicts the name in the text.
"""

from __future__ import annotations

from dataclasses import dataclass

HAIR_COLOURS = ("black", "brown", "blond", "red", "grey")
HAIR_STYLES = ("long", "short", "curly", "tied-up", "bald")
CLOTHES = ("blue", "green", "red", "yellow", "purple", "teal", "orange", "navy")


@dataclass(frozen=True, slots=True)
class Person:
    """One member of the cast.

    Attributes:
        first: First name.
        last: Last name, possibly with a hyphen or an apostrophe.
        gender: `woman` or `man`.
        role: What the news calls this person, such as `mayor`.
        skin: Index of the skin tone, 0 (light) to 4 (dark).
        hair_style: One of `HAIR_STYLES`.
        hair_colour: One of `HAIR_COLOURS`; for bald people the colour of brows and beard.
        glasses: Whether the person wears glasses.
        beard: Whether the person has a beard.
        clothes: One of `CLOTHES`.
    """

    first: str
    last: str
    gender: str
    role: str
    skin: int
    hair_style: str
    hair_colour: str
    glasses: bool
    beard: bool
    clothes: str

    @property
    def name(self) -> str:
        """Full name, with a straight apostrophe where it has one."""
        return f"{self.first} {self.last}"


def _woman(name: str, role: str, skin: int, hair: str, clothes: str, glasses: bool = False) -> Person:
    first, last = name.split(" ", 1)
    style, colour = hair.split()
    return Person(first, last, "woman", role, skin, style, colour, glasses, False, clothes)


def _man(
    name: str, role: str, skin: int, hair: str, clothes: str, glasses: bool = False, beard: bool = False
) -> Person:
    first, last = name.split(" ", 1)
    style, colour = hair.split()
    return Person(first, last, "man", role, skin, style, colour, glasses, beard, clothes)


CAST: tuple[Person, ...] = (
    _woman("Anna Duarte", "mayor", 1, "long brown", "green"),
    _woman("Maeve O'Neill", "senator", 0, "long red", "teal"),
    _woman("Salma Abdul-Karim", "minister", 3, "long black", "purple"),
    _woman("Ingrid Solberg", "captain", 0, "long blond", "red", glasses=True),
    _woman("Grace Okafor", "doctor", 4, "curly black", "yellow"),
    _woman("Lucia Moreno", "singer", 2, "curly brown", "orange"),
    _woman("Fiona Byrne-Walsh", "author", 0, "curly red", "navy", glasses=True),
    _woman("Ruth Adeyemi", "judge", 4, "short black", "red"),
    _woman("Hanna Virtanen", "pilot", 0, "short blond", "blue"),
    _woman("Claire D'Angelo", "lawyer", 1, "short brown", "yellow", glasses=True),
    _woman("Margaret Hill", "minister", 1, "short grey", "purple", glasses=True),
    _woman("Mei Tanaka", "scientist", 1, "tied-up black", "teal", glasses=True),
    _woman("Priya Nair", "coach", 3, "tied-up brown", "orange"),
    _woman("Olga Petrova", "actor", 0, "tied-up blond", "navy"),
    _woman("Edith Lang", "senator", 0, "tied-up grey", "green"),
    _woman("Scarlett Reid", "chef", 1, "short red", "blue"),
    _man("Marcus Bell", "captain", 4, "short black", "blue"),
    _man("Tom Harris", "mayor", 1, "short brown", "navy", glasses=True),
    _man("Erik Lund", "pilot", 0, "short blond", "green", beard=True),
    _man("Sean O'Brien", "coach", 0, "short red", "orange", beard=True),
    _man("Viktor Novak", "judge", 1, "short grey", "purple"),
    _man("Kwame Mensah", "minister", 4, "curly black", "red", glasses=True),
    _man("Diego Ramos", "singer", 2, "curly brown", "teal", beard=True),
    _man("Oscar Lindqvist", "author", 0, "curly blond", "yellow"),
    _man("Callum Fraser", "chef", 0, "curly red", "navy", glasses=True),
    _man("Henri Saint-Clair", "actor", 1, "curly grey", "blue", beard=True),
    _man("Omar Haddad", "lawyer", 3, "bald black", "green", beard=True),
    _man("Paul Schmidt", "scientist", 1, "bald brown", "orange", glasses=True),
    _man("Ravi Al-Amin", "doctor", 3, "short black", "yellow", glasses=True, beard=True),
    _man("George Whitfield", "senator", 1, "short grey", "red", glasses=True),
    _man("Ken Mori", "coach", 2, "short brown", "teal"),
    _man("Jean-Luc Morel", "author", 1, "curly brown", "purple", glasses=True),
)
