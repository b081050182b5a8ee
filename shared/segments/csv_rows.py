"""Reads CSV record by record: slowly, but always knowing which row it is at.

DuckDB reads the rows of nearly every file. This module reads what DuckDB cannot or should not: the first record, to
learn columns and delimiter; files with blank lines, whose rows DuckDB would number wrongly, or with mixed line ends,
which it refuses; and any file that DuckDB refused, because its messages quote the contents of the row.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from .errors import SourceUnreadable
from .formats import CsvFormat

MAX_LINE = 2_000_000  # bytes of a line, and of a value: what DuckDB allows unless told otherwise
_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"(?:[^"]|"")*"?')
# Stands for a delimiter of several characters, which the csv module cannot have. Latin-1 text never holds it.
_STAND_IN = "\uffff"


@dataclass(frozen=True, slots=True)
class CsvHead:
    """The first record of a file (None if the file is empty, () if its first line is), its delimiter, how it ends."""

    record: tuple[str, ...] | None
    delimiter: str
    line_end: str


class _LineTooLongError(Exception):
    """A line has more than MAX_LINE bytes."""


def open_text(path: Path) -> TextIO:
    """A file for `read_head`: each byte a character (Latin-1), so that invalid text hurts only where it is used."""
    return path.open(encoding="latin-1", newline="")


def text_of(data: bytes) -> TextIO:
    """Bytes for `read_head`, as `open_text` has them."""
    return io.StringIO(data.decode("latin-1"), newline="")


def read_head(stream: TextIO, file: str, csv_format: CsvFormat) -> CsvHead:
    """The first record of UTF-8 CSV that `open_text` opened; finds the delimiter if the format leaves it open.

    Raises SourceUnreadable."""
    delimiter = csv_format.delimiter or _sniff_delimiter(stream)
    records = _Records(stream, file, csv_format, delimiter)
    first = next(iter(records), None)
    record = None if first is None else tuple(_decode(value, file, 1) for value in first)
    line_end = records.last_line[len(records.last_line.rstrip("\r\n")) :]
    return CsvHead(record, delimiter, line_end)


def rewrite(
    source: Path,
    target: Path,
    file: str,
    csv_format: CsvFormat,
    head: CsvHead,
    width: int,
    wanted: Sequence[int],
    check: Callable[[], None],
) -> None:
    """Copies the columns at the positions `wanted` (of `width`) as CSV that every reader reads alike: all quoted, each
    record led by its row number. Blank lines have a number but are no records, unless there is one column only.

    `check` is called now and then. Raises SourceUnreadable for the first record that is not well formed.
    """
    with open_text(source) as stream, target.open("w", encoding="utf-8", newline="") as copy:
        writer = csv.writer(copy, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for row, record in enumerate(_Records(stream, file, csv_format, head.delimiter), start=1):
            if row % 50_000 == 0:
                check()
            if row == 1 and csv_format.has_header:
                continue
            if not record:
                if width > 1:
                    continue
                record = [""]
            # Empty values past the last column are a delimiter at the end of the line, which DuckDB takes too.
            if len(record) < width or any(record[width:]):
                raise SourceUnreadable(file, row, f"has {len(record)} values where there are {width} columns.")
            writer.writerow([row, *(_decode(record[position], file, row) for position in wanted)])


class _Records:
    """Iterates over the records of a CSV file; a blank line is a record without values."""

    def __init__(self, stream: TextIO, file: str, csv_format: CsvFormat, delimiter: str) -> None:
        self._text = stream
        self._file = file
        self._quoted = csv_format.quoted
        self._delimiter = delimiter.encode().decode("latin-1")
        self.last_line = ""

    def __iter__(self) -> Iterator[list[str]]:
        csv.field_size_limit(MAX_LINE)  # of the whole process: nothing else in it reads CSV this way
        single = len(self._delimiter) == 1
        reader = csv.reader(
            self._lines(),
            delimiter=self._delimiter if single else _STAND_IN,
            quoting=csv.QUOTE_MINIMAL if self._quoted else csv.QUOTE_NONE,
            strict=True,
        )
        row = 1
        try:
            for record in reader:
                yield record if single else [value.replace(_STAND_IN, self._delimiter) for value in record]
                row += 1
        except _LineTooLongError:
            raise SourceUnreadable(self._file, row, f"is longer than {MAX_LINE:,} bytes.") from None
        except csv.Error:
            problem = "has a quoted value that is not closed, that is followed by other text, or that is too long."
            raise SourceUnreadable(self._file, row, problem) from None

    def _lines(self) -> Iterator[str]:
        while line := self._text.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise _LineTooLongError
            self.last_line = line
            yield line if len(self._delimiter) == 1 else line.replace(self._delimiter, _STAND_IN)


def _sniff_delimiter(stream: TextIO) -> str:
    """The delimiter that comes most often in the first line, outside quotation marks; a comma if there is none."""
    start = stream.read(1 << 16)
    stream.seek(0)
    line = re.split("[\r\n]", _QUOTED.sub("", start), maxsplit=1)[0]
    return max(_DELIMITERS, key=line.count)


def _decode(value: str, file: str, row: int) -> str:
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise SourceUnreadable(file, row, "has text that is not valid in the encoding of the file.") from None
