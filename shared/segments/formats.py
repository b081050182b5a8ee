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

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class CsvFormat(_Document):
    """How a CSV file is written. `delimiter` None: found by looking at the header line. `encoding`: a Python codec.

    `quoted` False means that a quotation mark is a character like any other (QuoteStyle.None).
    """

    has_header: bool = True
    delimiter: str | None = None
    quoted: bool = True
    encoding: str = UTF_8


class PinnedFile(_Document):
    """One version of one blob. `csv` is None for Parquet. `size` in bytes."""

    name: str
    snapshot: str | None = None
    etag: str
    size: int
    last_modified: datetime
    csv: CsvFormat | None


class PinnedModel(_Document):
    """The version of the model.json that named the files."""

    name: str
    etag: str


class PinnedSegment(_Document):
    """Exactly which bytes an export reads for a segment; JSON through `to_json` and `from_json`.

    `columns` are the names of a Common Data Model entity's attributes in order, None where files name their columns.
    """

    name: str
    kind: Kind
    model: PinnedModel | None = None
    columns: tuple[str, ...] | None = None
    files: tuple[PinnedFile, ...]

    def to_json(self) -> str:
        """One line of JSON with camelCase names."""
        return self.model_dump_json(by_alias=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> PinnedSegment:
        """The inverse of `to_json`; raises pydantic.ValidationError."""
        return cls.model_validate_json(text)
