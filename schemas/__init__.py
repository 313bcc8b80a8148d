"""The contract between the texts' pipeline and the trainer: tables, shards, markers and how to open them.

This package imports nothing else of the project, so a trainer, a notebook or another project can use it.

>>> from schemas import open_table
>>> captions = open_table("out/demo", "captions")
>>> captions.to_polars().head()
"""

from schemas.history import Shard
from schemas.layout import CorruptVersion, NoSuchTable, TableError
from schemas.marker import Marker, MarkerError, read_marker
from schemas.reader import Table, open_table
from schemas.tables import SCHEMA_VERSION, TABLES, empty_table, schema_at, schema_of
from schemas.validate import SchemaError, validate

__all__ = [
    "SCHEMA_VERSION",
    "TABLES",
    "CorruptVersion",
    "Marker",
    "MarkerError",
    "NoSuchTable",
    "SchemaError",
    "Shard",
    "Table",
    "TableError",
    "empty_table",
    "open_table",
    "read_marker",
    "schema_at",
    "schema_of",
    "validate",
]
