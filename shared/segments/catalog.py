"""The segments of a container: what there is, what it looks like, and pinning the version that an export reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from azure.storage.blob import ContainerClient

from .blobs import BlobVersion, read_range
from .columns import ColumnCheck
from .csv_rows import MAX_LINE, CsvHead, read_head, text_of
from .discovery import FoundSegment, SegmentFile, discover
from .download import unpack
from .encodings import to_utf8
from .errors import SegmentError, SegmentNotFound, SourceUnreadable
from .formats import CsvFormat, Kind, PinnedFile, PinnedSegment
from .matching import SegmentField, SuggestedMatching, suggest_matching
from .parquet import TAIL_BYTES, columns_of, footer_length, write_outline

# Describing looks into at most this many files of a folder; loading compares all of them.
_FILES_LOOKED_INTO = 20
_HEAD_BYTES = (64 * 1024, 2 * MAX_LINE)


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """A segment in a list. `name` is what `describe` and `pin` take; `reason` says why it is not exportable.

    `refreshed_at`: when its data were last refreshed, None if unknown; `size_bytes`: of all files as they are stored,
    None if unknown.
    """

    name: str
    kind: Kind
    exportable: bool
    reason: str | None
    refreshed_at: datetime | None
    files: int
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a segment; `name` is that of the blob in its container."""

    name: str
    size_bytes: int
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class SegmentDetail:
    """A segment with its columns, files, and the fields that a data matching would likely use."""

    summary: SegmentSummary
    fields: tuple[SegmentField, ...]
    files: tuple[SourceFile, ...]
    suggested_matching: SuggestedMatching


class SegmentCatalog:
    """Reads segments under `prefix` (a folder, or empty for all) of one container. Every call looks anew.

    All methods raise ContainerMissing, and azure.core exceptions where the storage service is at fault.
    """

    def __init__(self, container: ContainerClient, prefix: str = "") -> None:
        self._container = container
        folder = prefix.strip("/")
        self._prefix = f"{folder}/" if folder else ""

    def list(self) -> list[SegmentSummary]:
        """All segments by name. What is broken is listed too, as not exportable with the reason."""
        return [_summary(found) for found in discover(self._container, self._prefix)]

    def describe(self, name: str) -> SegmentDetail:
        """One segment, by its name in the list or its full name. Files whose columns do not agree, or cannot be read,
        make it not exportable. Raises SegmentNotFound."""
        found = self._find(name)
        fields = found.fields
        if found.kind != "commonDataModel" and not found.error:
            try:
                fields = self._columns_of_plain(found)
            except SegmentError as error:
                found = replace(found, error=error)
        files = tuple(SourceFile(file.blob.name, file.blob.size, file.blob.last_modified) for file in found.files)
        return SegmentDetail(_summary(found), fields, files, suggest_matching(fields))

    def pin(self, names: Sequence[str]) -> Sequence[PinnedSegment]:
        """The present version of each named segment, in the order of `names`.

        Raises SegmentNotFound or SegmentNotExportable, or what is wrong in detail: ModelInvalid, LocationRefused,
        SourceMissing, SourceUnreadable.
        """
        everything = discover(self._container, self._prefix)
        return [_pinned(_named(everything, name)) for name in names]

    def _find(self, name: str) -> FoundSegment:
        return _named(discover(self._container, self._prefix), name)

    def _columns_of_plain(self, found: FoundSegment) -> tuple[SegmentField, ...]:
        check = ColumnCheck()
        first: tuple[SegmentField, ...] = ()
        for file in found.files[:_FILES_LOOKED_INTO]:
            if file.csv:
                names = check.header(self._head(file.blob, file.csv), file.blob.name, is_plain=True)
                fields = tuple(SegmentField(name, "string") for name in names if name)
            else:
                fields = self._parquet_fields(file.blob)
                check.names(tuple(field.name for field in fields), file.blob.name)
            first = first or fields
        return first

    def _head(self, blob: BlobVersion, csv_format: CsvFormat) -> CsvHead:
        """The header line, from the beginning of the file or, if it is a very long one, from more of it."""
        for length in _HEAD_BYTES:
            whole = length >= blob.size
            data = read_range(self._container, blob, 0, length)
            if blob.name.lower().endswith(".gz"):
                data = next(unpack([data], blob.name, whole=whole), b"")
                whole = whole and len(data) <= length
            text = b"".join(to_utf8([data[:length]], csv_format.encoding))
            try:
                head = read_head(text_of(text), blob.name, csv_format)
            except SourceUnreadable:
                if whole or length == _HEAD_BYTES[-1]:
                    raise
                continue
            if head.line_end or whole:
                return head
        raise SourceUnreadable(blob.name, 1, f"is longer than {MAX_LINE:,} bytes.")

    def _parquet_fields(self, blob: BlobVersion) -> tuple[SegmentField, ...]:
        problem = SourceUnreadable(blob.name, None, "is not a Parquet file, is cut off, or is damaged.")
        tail = read_range(self._container, blob, max(0, blob.size - TAIL_BYTES), TAIL_BYTES)
        needed = footer_length(tail)
        if needed is None or needed > blob.size:
            raise problem
        if needed > len(tail):
            tail = read_range(self._container, blob, blob.size - needed, needed)
        import duckdb  # late: see the package

        with TemporaryDirectory() as folder, duckdb.connect() as connection:
            path = Path(folder) / "outline.parquet"
            write_outline(path, blob.size, tail)
            try:
                columns = columns_of(connection, path)
            except duckdb.Error:
                raise problem from None
        return tuple(SegmentField(name, data_type.lower()) for name, data_type in columns)


def _named(everything: Sequence[FoundSegment], name: str) -> FoundSegment:
    for found in everything:
        if found.name == name:
            return found
    for found in everything:
        if found.full_name == name:
            return found
    raise SegmentNotFound(name)


def _summary(found: FoundSegment) -> SegmentSummary:
    return SegmentSummary(
        name=found.name,
        kind=found.kind,
        exportable=found.error is None,
        reason=found.error.message if found.error else None,
        refreshed_at=found.refreshed_at,
        files=len(found.files),
        size_bytes=None if found.error and not found.files else sum(file.blob.size for file in found.files),
    )


def _pinned(found: FoundSegment) -> PinnedSegment:
    if found.error:
        raise found.error
    return PinnedSegment(
        name=found.name,
        kind=found.kind,
        model=found.model,
        columns=tuple(field.name for field in found.fields) if found.kind == "commonDataModel" else None,
        files=tuple(_pinned_file(file) for file in found.files),
    )


def _pinned_file(file: SegmentFile) -> PinnedFile:
    blob = file.blob
    return PinnedFile(
        name=blob.name,
        snapshot=blob.snapshot,
        etag=blob.etag,
        size=blob.size,
        last_modified=blob.last_modified,
        csv=file.csv,
    )
