"""The words of the newsroom: phrase tables for news texts, and the pairs that reverse a sentiment.

Every word that shows an expression occurs in `REVERSED_PAIRS`, so a text always has a word to reverse.
All adjectives start with a consonant sound: reversing one never breaks the article before it.
"""

from __future__ import annotations

# Expression -> words that state it. Entry i of an expression is the reverse of entry i of its opposite.
VERBS: dict[str, tuple[str, ...]] = {
    "smile": ("smiles", "beams", "grins"),
    "frown": ("frowns", "sulks", "scowls"),
    "laugh": ("celebrates", "laughs", "cheers", "rejoices"),
    "weep": ("mourns", "weeps", "sobs", "grieves"),
    "calm": ("listens", "waits", "relaxes"),
    "shout": ("shouts", "protests", "rages"),
}
GERUNDS: dict[str, tuple[str, ...]] = {
    "smile": ("smiling", "beaming", "grinning"),
    "frown": ("frowning", "sulking", "scowling"),
    "laugh": ("celebrating", "laughing", "cheering", "rejoicing"),
    "weep": ("mourning", "weeping", "sobbing", "grieving"),
    "calm": ("listening", "waiting", "relaxing"),
    "shout": ("shouting", "protesting", "raging"),
}
ADJECTIVES: dict[str, tuple[str, ...]] = {
    "smile": ("happy", "pleased", "proud"),
    "frown": ("gloomy", "displeased", "bitter"),
    "laugh": ("joyful", "delighted", "jubilant"),
    "weep": ("tearful", "devastated", "heartbroken"),
    "calm": ("calm", "quiet", "patient"),
    "shout": ("furious", "loud", "livid"),
}
_MOODS = (("smile", "frown"), ("laugh", "weep"), ("calm", "shout"))
MOOD_PAIRS: tuple[tuple[str, str], ...] = tuple(
    pair
    for table in (VERBS, GERUNDS, ADJECTIVES)
    for one, other in _MOODS
    for pair in zip(table[one], table[other], strict=True)
)
EVENT_PAIRS: tuple[tuple[str, str], ...] = (
    ("winning", "losing"),
    ("won", "lost"),
    ("victory", "defeat"),
    ("success", "failure"),
    ("rise", "fall"),
    ("good", "bad"),
    ("great", "terrible"),
    ("back", "reject"),
    ("praise", "blame"),
    ("accept", "refuse"),
    ("fair", "unjust"),
    ("gain", "drop"),
)
REVERSED: dict[str, str] = {}
for _one, _other in MOOD_PAIRS + EVENT_PAIRS:
    REVERSED[_one] = _other
    REVERSED[_other] = _one
MOOD_WORDS = frozenset(word for pair in MOOD_PAIRS for word in pair)

POLARITY: dict[str, str] = {
    "smile": "good",
    "laugh": "good",
    "frown": "bad",
    "weep": "bad",
    "calm": "calm",
    "shout": "bad",
}
REASONS: dict[str, tuple[str, ...]] = {
    "good": (
        "after winning the {money} prize",
        "after a last-minute victory",
        "after a record-breaking success",
        "after a {share} rise in sales",
        "after a {share} gain in the polls",
        "on good news about the {money} deal",
        "as voters back the five-year plan",
        "as critics praise the show",
    ),
    "bad": (
        "after losing the {money} prize",
        "after a last-minute defeat",
        "after a record-breaking failure",
        "after a {share} fall in sales",
        "after a {share} drop in the polls",
        "on bad news about the {money} deal",
        "as voters reject the five-year plan",
        "as critics blame the show",
    ),
    "calm": (
        "before the {money} deal",
        "ahead of the match",
        "before the vote",
        "as talks go on",
    ),
}
QUOTES: dict[str, tuple[str, ...]] = {
    "good": ("We won", "It is a great day", "What a victory", "It was {share} luck"),
    "bad": ("We lost", "It is a terrible day", "What a defeat", "It cost us {money}"),
    "calm": ("We accept the result", "It is fair", "We will see", "It is worth {money}"),
    "shout": ("We refuse the result", "It is unjust", "We want answers", "It cost us {money}"),
}
MONEY = ("$5", "$20", "$50", "$5 million", "$20 million")
SHARES = ("5%", "10%", "20%", "50%")
THINGS: dict[str, tuple[str, ...]] = {
    "trophy": ("a trophy", "the trophy", "a golden cup"),
    "microphone": ("a microphone", "the microphone"),
    "book": ("a book", "a new book", "a novel"),
    "flowers": ("flowers", "a bunch of flowers", "a bouquet"),
    "umbrella": ("an umbrella", "the umbrella"),
    "dog": ("a dog", "a rescue dog", "a puppy"),
    "football": ("a football", "the match-ball"),
    "newspaper": ("a newspaper", "the newspaper", "the morning paper"),
    "guitar": ("a guitar", "the guitar"),
    "cake": ("a cake", "a birthday cake"),
    "balloon": ("a balloon", "a party balloon"),
    "flag": ("a flag", "the flag"),
}
SPOTS: dict[str, tuple[str, ...]] = {
    "stadium": ("at the stadium", "inside the stadium", "in the arena"),
    "parliament": ("outside parliament", "at the parliament"),
    "harbour": ("at the harbour", "on the quay"),
    "school": ("at a school", "in a classroom"),
    "hospital": ("at the hospital", "in a hospital ward"),
    "market": ("at the market", "among market stalls"),
    "mountains": ("in the mountains", "on a mountain trail"),
    "street": ("in the street", "on a city street"),
    "courtroom": ("in court", "in the courtroom"),
    "theatre": ("at the theatre", "on stage"),
}
TOWNS = ("Oslo", "Lisbon", "Leeds", "Boston", "Ghent", "Lyon", "Cardiff", "Denver")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PRONOUNS: dict[str, tuple[str, str]] = {"woman": ("she", "her"), "man": ("he", "his")}

# Slots: name (with or without role), last (last name), verb, gerund, adjective, thing, spot (place, perhaps
# with a town), day, reason, quote, he, his. Each template names the person and the mood, most name thing and
# place. The numbers are relative frequencies.
TEMPLATES: tuple[tuple[str, int], ...] = (
    ("{name} {verb} with {thing} {spot} {reason}", 6),
    ("{name} {verb} with {thing} {spot} on {day}", 4),
    ("{name} {verb}, holding {thing} {spot}", 4),
    ("A {adjective} {name} holds {thing} {spot} {reason}", 5),
    ("A {adjective} {name} poses with {thing} {spot} on {day}", 4),
    ("{Gerund} {name} carries {thing} {spot} {reason}", 4),
    ("{name}, {gerund}, shows {thing} {spot}", 3),
    ("{open}{quote},{close} says a {adjective} {name}, holding {thing} {spot}", 6),
    ("{Spot}, a {adjective} {name} holds {thing} {reason}", 3),
    ("{name} {verb} as {he} carries {thing} {spot}", 4),
    ("{name}{mark}s {adjective} day: {last} {verb} with {thing} {spot}", 3),
    ("{name} {dash} {adjective} and {gerund} {dash} brings {thing} {reason}", 2),
    ("{name} {verb} {spot} on {day} {reason}", 3),
    ("{name} is {adjective} {reason}, {gerund} {spot} with {his} {open}lucky{close} {bare}", 2),
)
ROLE_SHARE = 0.3
TOWN_SHARE = 0.35
END_SHARE = 0.25
