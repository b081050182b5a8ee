"""How the files of a segment are written, what is pinned of them, and how segments are told to callers."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from .encodings import UTF_8

Kind = Literal["commonDataModel", "csv", "parquet"]


class _Document(BaseModel):
    """JSON that is kept in blobs: camelCase there, never changed here."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


class CsvFormat(_Document):
    """How a CSV file is written."""

    has_header: bool = True
    """Whether the first row names the fields."""
    delimiter: str | None = None
    """Null: found by looking at the header line."""
    quoted: bool = True
    """False: a quotation mark is a character like any other (QuoteStyle.None)."""
    encoding: str = UTF_8
    """A Python codec."""


class PinnedFile(_Document):
    """One version of one blob."""

    name: str
    """Of the blob in its container."""
    snapshot: str | None = None
    """The blob's snapshot that is read, if one was made."""
    etag: str
    """The blob's version."""
    size: int
    """In bytes."""
    last_modified: datetime
    """When the blob was written."""
    csv: CsvFormat | None
    """How it is written; null for Parquet."""


class PinnedModel(_Document):
    """The version of the model.json that named the files."""

    name: str
    """Of the blob in its container."""
    etag: str
    """The blob's version."""


class PinnedSegment(_Document):
    """Exactly which bytes an export reads for a segment."""

    name: str
    kind: Kind
    """How it is written."""
    model: PinnedModel | None = None
    """Null where the files were found by their folder."""
    columns: tuple[str, ...] | None = None
    """Names of a Common Data Model entity's attributes in order; null where files name their columns."""
    files: tuple[PinnedFile, ...]
    """Every file, at the version that is read."""
