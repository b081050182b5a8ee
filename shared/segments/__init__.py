"""Segments in blob storage: Common Data Model folders (model.json) and plain folders of CSV or Parquet.

`SegmentCatalog` finds, describes and pins segments; `reader.SegmentReader` loads a pinned segment into a DuckDB table.
The reader is not imported here: DuckDB costs a tenth of a second, and who only answers HTTP does without it.
What can be wrong is in `errors`.
"""

from .catalog import SegmentCatalog, SegmentDetail, SegmentSummary, SourceFile
from .errors import (
    ContainerMissing,
    LocationRefused,
    ModelInvalid,
    SegmentError,
    SegmentNotExportable,
    SegmentNotFound,
    SourceChanged,
    SourceMissing,
    SourceUnreadable,
)
from .formats import CsvFormat, PinnedFile, PinnedModel, PinnedSegment
from .matching import SegmentField, SuggestedMatching, suggest_matching

__all__ = [
    "ContainerMissing",
    "CsvFormat",
    "LocationRefused",
    "ModelInvalid",
    "PinnedFile",
    "PinnedModel",
    "PinnedSegment",
    "SegmentCatalog",
    "SegmentDetail",
    "SegmentError",
    "SegmentField",
    "SegmentNotExportable",
    "SegmentNotFound",
    "SegmentSummary",
    "SourceChanged",
    "SourceFile",
    "SourceMissing",
    "SourceUnreadable",
    "SuggestedMatching",
    "suggest_matching",
]
