"""Loads pinned segments into a DuckDB table: one row per profile, with the file and the row that it came from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from azure.storage.blob import ContainerClient

from .columns import ColumnCheck, positions
from .csv_rows import MAX_LINE, CsvHead, open_text, read_head, rewrite
from .download import LocalFile, fetch
from .errors import SourceUnreadable
from .formats import CsvFormat, PinnedFile, PinnedSegment
from .parquet import as_text, columns_of
from .sql import quote_identifier, quote_literal


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A file whose rows are in the table: `number` is what its rows have in the column `file`."""

    number: int
    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class LoadedSegment:
    """What one call of `SegmentReader.load` added."""

    rows: int
    files: tuple[LoadedFile, ...]


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the rows of one file go."""

    connection: duckdb.DuckDBPyConnection
    table: str
    segment_number: int
    file_number: int
    check: Callable[[], None]

    def insert(self, row: str, values: Sequence[str], source: str) -> int:
        """Appends what these SQL expressions select from `source`; returns the number of rows."""
        chosen = ", ".join((str(self.segment_number), str(self.file_number), row, *values))
        statement = f"INSERT INTO {quote_identifier(self.table)} SELECT {chosen} FROM {source}"
        result = self.connection.execute(statement).fetchone()
        return int(result[0]) if result else 0


class SegmentReader:
    """Reads from one container the files that `SegmentCatalog.pin` has pinned there."""

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        segment: PinnedSegment,
        columns: Sequence[str],
        *,
        segment_number: int,
        first_file_number: int,
        work_dir: Path,
        check: Callable[[], None] = lambda: None,
    ) -> LoadedSegment:
        """Appends all rows of `segment` to `table`, which is created if it is not there.

        The table has `segment` (USMALLINT: `segment_number`), `file` (INTEGER: `first_file_number` and up, in the order
        of `segment.files`), `row` (BIGINT: the number that a spreadsheet shows for the row; a header line is row 1,
        Parquet rows count from 1), then `c0`, `c1`, … (VARCHAR), one for each name in `columns`.

        Values are text as it stands, without trimming; an empty value is NULL, quoted or not. Parquet values become
        text: times in ISO 8601 (with Z if they are moments), booleans true or false, numbers without exponent.

        `work_dir` holds at most two downloaded files at a time, while the call lasts. `check` is called often and may
        raise to stop. The connection must not be in a transaction; its memory limit is kept.

        Raises SourceMissing, SourceChanged or SourceUnreadable (with file and row), after which the table may hold a
        part of the rows and is to be dropped, and azure.core exceptions where the storage service is at fault.
        """
        value_columns = "".join(f", c{index} VARCHAR" for index in range(len(columns)))
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {quote_identifier(table)} "
            f"(segment USMALLINT NOT NULL, file INTEGER NOT NULL, row BIGINT NOT NULL{value_columns})"
        )
        column_check = ColumnCheck()
        loaded: list[LoadedFile] = []
        work_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=work_dir, prefix="segment-") as folder:
            for index, (file, local) in enumerate(self._downloads(segment.files, Path(folder), check)):
                number = first_file_number + index
                target = _Target(connection, table, segment_number, number, check)
                if file.csv:
                    rows = _load_csv(target, file, file.csv, local, segment.columns, columns, column_check)
                else:
                    rows = _load_parquet(target, file, local.path, columns, column_check)
                loaded.append(LoadedFile(number, file.name, rows))
        return LoadedSegment(sum(file.rows for file in loaded), tuple(loaded))

    def _downloads(
        self, files: Sequence[PinnedFile], folder: Path, check: Callable[[], None]
    ) -> Iterator[tuple[PinnedFile, LocalFile]]:
        """Each file on disk until the next is asked for, which has meanwhile been fetched."""
        with _one_ahead() as submit:
            pending: Future[LocalFile] | None = None
            for index, file in enumerate(files):
                current = pending or submit(self._container, file, folder / str(index))
                local = _wait(current, check)
                pending = None
                if index + 1 < len(files):
                    pending = submit(self._container, files[index + 1], folder / str(index + 1))
                yield file, local
                local.path.unlink()


@contextmanager
def _one_ahead() -> Iterator[Callable[[ContainerClient, PinnedFile, Path], Future[LocalFile]]]:
    """Downloads in one thread in the background; a download that is under way when the block ends is given up."""
    stopped = threading.Event()
    executor = ThreadPoolExecutor(1, thread_name_prefix="segment-file")

    def submit(container: ContainerClient, file: PinnedFile, path: Path) -> Future[LocalFile]:
        return executor.submit(fetch, container, file, path, stopped)

    try:
        yield submit
    finally:
        stopped.set()
        executor.shutdown(cancel_futures=True)


def _wait(future: Future[LocalFile], check: Callable[[], None]) -> LocalFile:
    while True:
        check()
        try:
            return future.result(timeout=0.5)
        except FutureTimeout:
            if future.done():
                raise


def _load_csv(
    target: _Target,
    file: PinnedFile,
    csv_format: CsvFormat,
    local: LocalFile,
    attributes: Sequence[str] | None,
    columns: Sequence[str],
    column_check: ColumnCheck,
) -> int:
    with open_text(local.path) as stream:
        head = read_head(stream, file.name, csv_format)
    if csv_format.has_header:
        names = column_check.header(head, file.name, is_plain=attributes is None)
    elif head.record is None:
        return 0
    else:
        names = tuple(attributes or ())
    wanted = positions(columns, names, file.name)
    if not _needs_care(head, local, len(names)):
        try:
            return _insert_csv(target, csv_format, local.path, head, len(names), wanted)
        except duckdb.InvalidInputException:
            pass  # its message quotes the row; reading again with care finds what is wrong, or that all is well
    careful = local.path.with_suffix(".rows")
    rewrite(local.path, careful, file.name, csv_format, head, len(names), wanted, target.check)
    try:
        return _insert_rewritten(target, careful, len(wanted))
    except duckdb.InvalidInputException:
        raise SourceUnreadable(file.name, None, "cannot be read as CSV.") from None
    finally:
        careful.unlink()


def _needs_care(head: CsvHead, local: LocalFile, width: int) -> bool:
    """Whether DuckDB would number rows wrongly (it skips blank lines, except in files of one column) or take a line
    break inside the first record for the line end of the file, which loses rows without a word in DuckDB 2.0."""
    breaks_inside = any("\n" in value or "\r" in value for value in head.record or ())
    return (local.blank_lines and width > 1) or (breaks_inside and head.line_end == "\r\n")


def _insert_csv(
    target: _Target, csv_format: CsvFormat, path: Path, head: CsvHead, width: int, wanted: Sequence[int]
) -> int:
    # DuckDB 2.0 reads nothing when told that lines end in CR LF, and finds out by itself; so it is told the others.
    line_end = {"\n": r"\n", "\r": r"\r"}.get(head.line_end)
    source = _csv_source(path, width, head.delimiter, '"' if csv_format.quoted else "", line_end)
    names = sorted({f"k{position}" for position in wanted})
    # The header line is numbered and dropped here: DuckDB's own `skip` loses rows if the header has line breaks.
    numbered = f"(SELECT row_number() OVER () AS row{''.join(f', {name}' for name in names)} FROM {source})"
    only_records = " WHERE row > 1" if csv_format.has_header else ""
    return target.insert("row", [f"k{position}" for position in wanted], numbered + only_records)


def _insert_rewritten(target: _Target, path: Path, values: int) -> int:
    source = _csv_source(path, 1 + values, ",", '"', r"\n")
    return target.insert("k0::BIGINT", [f"k{1 + index}" for index in range(values)], source)


def _csv_source(path: Path, width: int, delimiter: str, quote: str, line_end: str | None) -> str:
    columns = ", ".join(f"'k{index}': 'VARCHAR'" for index in range(width))
    new_line = f", new_line = '{line_end}'" if line_end else ""
    # Not `parallel = false`: with it, DuckDB 2.0 drops a last value whose quotation mark is not closed without a word.
    # In parallel it refuses that, and at times a good file whose long quoted values look like rows, which is then read
    # with care.
    return (
        f"read_csv({quote_literal(str(path))}, header = false, auto_detect = false, strict_mode = true, "
        f"delim = {quote_literal(delimiter)}, quote = '{quote}', escape = '{quote}'{new_line}, "
        f"max_line_size = {MAX_LINE}, columns = {{{columns}}})"
    )


def _load_parquet(
    target: _Target, file: PinnedFile, path: Path, columns: Sequence[str], column_check: ColumnCheck
) -> int:
    try:
        found = columns_of(target.connection, path)
        names = column_check.names(tuple(name for name, _ in found), file.name)
        wanted = positions(columns, names, file.name)
        values = [as_text(*found[position]) for position in wanted]
        source = (
            f"read_parquet({quote_literal(str(path))}, file_row_number = true, binary_as_string = true, "
            "hive_partitioning = false)"
        )
        return target.insert("file_row_number + 1", values, source)
    except (duckdb.InvalidInputException, duckdb.IOException, duckdb.BinderException):
        raise SourceUnreadable(file.name, None, "is not a Parquet file, is cut off, or is damaged.") from None
