"""Arrow schemas of the six tables, with a description on every field.

A description travels in the field's metadata (``field.metadata[b"description"]``) and so into every Parquet
file; the schema version and the table's name travel in the schema's metadata. Columns may be added between
versions; none may change its meaning without a new ``SCHEMA_VERSION``. A column that came later says so
(``field.metadata[b"since"]``), so files of an older version are still read, without it.
"""

from __future__ import annotations

import hashlib
import re

import pyarrow as pa

_ITEM = re.compile(r"<\w+: ")

SCHEMA_VERSION = 2
"""Version of the tables below; readers refuse files of a newer one."""


def _field(name: str, kind: pa.DataType, description: str, *, null: bool = False, since: int = 1) -> pa.Field:
    metadata = {"description": description} | ({"since": str(since)} if since > 1 else {})
    return pa.field(name, kind, nullable=null, metadata=metadata)


def _schema(table: str, key: tuple[str, ...], fields: list[pa.Field]) -> pa.Schema:
    return pa.schema(
        fields,
        metadata={"table": table, "key": ",".join(key), "schema_version": str(SCHEMA_VERSION)},
    )


_STRINGS = pa.list_(pa.field("item", pa.string(), nullable=False))
_INTS = pa.list_(pa.field("item", pa.int32(), nullable=False))
_FLOATS = pa.list_(pa.field("item", pa.float32(), nullable=False))
_BOX = pa.list_(pa.field("item", pa.float32(), nullable=False), 4)

SAMPLES = _schema(
    "samples",
    ("sample_id",),
    [
        _field("sample_id", pa.string(), "key: stable hash of source id, image path and text"),
        _field("source_id", pa.int64(), "the data set's own id, shared by all manipulations of one item"),
        _field("split", pa.string(), "train, val or test"),
        _field("image_path", pa.string(), "image file relative to the image root, POSIX separators"),
        _field(
            "image_key", pa.string(), "hash of the image file's bytes; null until images were read", null=True
        ),
        _field("width", pa.int32(), "image width in pixels, after EXIF rotation; null until read", null=True),
        _field(
            "height", pa.int32(), "image height in pixels, after EXIF rotation; null until read", null=True
        ),
        _field("text", pa.string(), "the news text shown with the image, possibly manipulated"),
        _field("words", _STRINGS, "text split at white space; fake_text_pos indexes this list"),
        _field(
            "original_text",
            pa.string(),
            "text before manipulation; null when unknown or not needed",
            null=True,
        ),
        _field(
            "original_from", pa.string(), "how the original was joined: id, image_path or null", null=True
        ),
        _field("fake_cls", pa.string(), "one of the nine DGM4 classes"),
        _field("is_fake", pa.bool_(), "fake_cls is not orig"),
        _field("face_swap", pa.bool_(), "the face is another person's"),
        _field("face_attribute", pa.bool_(), "the face's expression or attribute was edited"),
        _field("text_swap", pa.bool_(), "the text is another item's"),
        _field("text_attribute", pa.bool_(), "words of sentiment or action were changed"),
        _field(
            "fake_image_box",
            _BOX,
            "edited face, xyxy in pixels, 0 <= x1 < x2 <= width; null when none",
            null=True,
        ),
        _field("fake_text_pos", _INTS, "indexes into words of the manipulated words; empty when none"),
    ],
)

_GENERATED = [
    _field("prompt_id", pa.string(), "prompt template id and the first 8 hex digits of its sha256"),
    _field(
        "finish_reason", pa.string(), "stop: the model ended the text; length: it was cut at max_new_tokens"
    ),
    _field("tokens_in", pa.int32(), "prompt tokens, padding not counted"),
    _field("tokens_out", pa.int32(), "generated tokens, end and padding not counted"),
    _field("flags", _STRINGS, "what the gates noticed; empty when nothing"),
    _field(
        "input_hash",
        pa.string(),
        "sha256 of all that decides the text: model, generation settings, rendered prompt, image",
        since=2,
    ),
]

CAPTIONS = _schema(
    "captions",
    ("image_key",),
    [
        _field("image_key", pa.string(), "key: hash of the image file's bytes, as in samples"),
        _field("caption", pa.string(), "what the image-to-text model says the picture shows"),
        *_GENERATED,
    ],
)

EXPLANATIONS = _schema(
    "explanations",
    ("sample_id",),
    [
        _field("sample_id", pa.string(), "key: as in samples"),
        _field("split", pa.string(), "train, val or test, as in samples"),
        _field(
            "kind", pa.string(), "manipulation: what was changed in the text; description: what the text says"
        ),
        _field("explanation", pa.string(), "what the chat model wrote"),
        *_GENERATED,
    ],
)

FAILURES = _schema(
    "failures",
    ("stage", "key"),
    [
        _field("stage", pa.string(), "table the key was planned for: captions or explanations"),
        _field("key", pa.string(), "image_key or sample_id"),
        _field("error_class", pa.string(), "code of the failure, see schemas.vocabulary.ERROR_CLASSES"),
        _field("permanent", pa.bool_(), "trying again without a change cannot help"),
        _field("message", pa.string(), "what happened, naming the value"),
        _field("attempts", pa.int32(), "how often the row was tried"),
        _field("last_attempt", pa.timestamp("ms", tz="UTC"), "when it was tried last"),
    ],
)

QUARANTINE = _schema(
    "quarantine",
    ("source_file", "source_row"),
    [
        _field("source_file", pa.string(), "annotation file the row stands in"),
        _field("source_row", pa.int64(), "0-based index of the row in that file"),
        _field("reason", pa.string(), "code of the defect, see schemas.vocabulary.QUARANTINE_REASONS"),
        _field("message", pa.string(), "the value that was wrong and what to do"),
        _field("raw", pa.string(), "the row as JSON"),
    ],
)

PREDICTIONS = _schema(
    "predictions",
    ("sample_id",),
    [
        _field("sample_id", pa.string(), "key: as in samples"),
        _field("p_fake", pa.float32(), "probability that the pair is manipulated, 0 to 1"),
        _field("p_face_swap", pa.float32(), "probability of a face swap, 0 to 1"),
        _field("p_face_attribute", pa.float32(), "probability of a face attribute edit, 0 to 1"),
        _field("p_text_swap", pa.float32(), "probability of a text swap, 0 to 1"),
        _field("p_text_attribute", pa.float32(), "probability of a text attribute edit, 0 to 1"),
        _field("box", _BOX, "predicted edited face, xyxy in pixels; null when none is predicted", null=True),
        _field(
            "word_scores", _FLOATS, "probability per word of samples.words that it was manipulated, 0 to 1"
        ),
    ],
)

TABLES: dict[str, pa.Schema] = {
    "samples": SAMPLES,
    "captions": CAPTIONS,
    "explanations": EXPLANATIONS,
    "failures": FAILURES,
    "quarantine": QUARANTINE,
    "predictions": PREDICTIONS,
}

GENERATED_TABLES = ("captions", "explanations")
"""Tables made shard by shard from a plan; the others are written whole."""


def schema_of(table: str) -> pa.Schema:
    """Return the Arrow schema of a table.

    Raises:
        KeyError: The table is not one of ``TABLES``; the message lists them.
    """
    if table not in TABLES:
        raise KeyError(f"no table {table!r}; the tables are {', '.join(TABLES)}")
    return TABLES[table]


def schema_at(table: str, version: int) -> pa.Schema:
    """Return the Arrow schema that ``table`` had at a schema version, e.g. to read older files.

    Raises:
        KeyError: The table is not one of ``TABLES``; the message lists them.
    """
    schema = schema_of(table)
    known = [field for field in schema if int((field.metadata or {}).get(b"since", 1)) <= version]
    return pa.schema(known, metadata={**schema.metadata, b"schema_version": str(version).encode()})


def key_of(table: str) -> tuple[str, ...]:
    """Return the names of the columns that identify a row of ``table``."""
    return tuple(schema_of(table).metadata[b"key"].decode().split(","))


def empty_table(table: str) -> pa.Table:
    """Return a table of no rows with the schema of ``table``."""
    return schema_of(table).empty_table()


def schema_hash(schema: pa.Schema) -> str:
    """Return 16 hex digits that change when a column's name, type or nullability changes.

    Descriptions are left out: a better sentence does not make old shards unreadable. So is the name of a
    list's item field, which Parquet writers rename.
    """
    parts = [f"{field.name}:{_ITEM.sub('<', str(field.type))}:{field.nullable}" for field in schema]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
