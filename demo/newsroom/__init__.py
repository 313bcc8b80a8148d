"""The newsroom: a DGM4-shaped synthetic news data set, drawn with Pillow.

Write one to disk: `python -m demo.newsroom --out DIR --samples N --seed S`. Or use it from Python:

    from demo.newsroom import generate_items, render, caption, caption_facts, parse_caption

    for item in generate_items(1000, seed=7):   # no pixels are drawn here
        item.annotation                         # the row as metadata JSON has it (image, text, fake_cls, ...)
        item.split, item.image, item.text       # shortcuts
        item.original_text                      # unmanipulated text, also when no orig row holds it
        item.scene                              # what the shown pixels show, after manipulation
        image = render(item)                    # PIL RGB, equal to decoding the file on disk
        caption(item.scene)                     # the reference caption
        caption_facts(item.scene)               # person, hair, glasses, expression, object, place
        parse_caption("a man with a bald head") # what a caption claims, in the same words

Rows with the same `item.image` show the same picture. `vocabulary()` lists every token, by `tokenize`
(words and single punctuation marks), that texts and captions of any seed can contain. All worlds share the
cast and the words; scenes and texts differ by seed. The shipped demo models are trained on these pictures
and texts: a change of either calls for training them again.
"""

from demo.newsroom.cast import CAST, Person
from demo.newsroom.picture import encode, render
from demo.newsroom.scene import (
    ATTRIBUTES,
    EXPRESSIONS,
    OBJECTS,
    PLACES,
    Scene,
    caption,
    caption_facts,
    caption_from_facts,
    fact_values,
    parse_caption,
)
from demo.newsroom.texts import changed_positions, tokenize, vocabulary, write
from demo.newsroom.world import Item, generate_items
from demo.newsroom.writer import distinct_pictures

__all__ = [
    "ATTRIBUTES",
    "CAST",
    "EXPRESSIONS",
    "OBJECTS",
    "PLACES",
    "Item",
    "Person",
    "Scene",
    "caption",
    "caption_facts",
    "caption_from_facts",
    "changed_positions",
    "distinct_pictures",
    "encode",
    "fact_values",
    "generate_items",
    "parse_caption",
    "render",
    "tokenize",
    "vocabulary",
    "write",
]
