"""Columns of files: finds the ones that are wanted, and tells files of one segment that do not belong together."""

from __future__ import annotations

from collections.abc import Sequence

from .csv_rows import CsvHead
from .errors import SourceUnreadable


def positions(wanted: Sequence[str], names: Sequence[str], file: str) -> tuple[int, ...]:
    """Where each wanted column is among `names`: the same name, or else the only one that differs in case alone.

    Raises SourceUnreadable naming the file and the wanted column.
    """
    return tuple(_position(column, names, file) for column in wanted)


def _position(wanted: str, names: Sequence[str], file: str) -> int:
    same = [index for index, name in enumerate(names) if name == wanted]
    alike = same or [index for index, name in enumerate(names) if name.casefold() == wanted.casefold()]
    if not alike:
        raise SourceUnreadable(file, None, f"has no column '{wanted}'. Correct the data matching or the file.")
    if len(alike) > 1:
        raise SourceUnreadable(file, None, f"has the column '{wanted}' {len(alike)} times.")
    return alike[0]


class ColumnCheck:
    """Follows the files of one plain segment: all must have the columns of the first, in any order.

    What a file has instead is not told: it may lack a header line, and then these are somebody's data.
    """

    def __init__(self) -> None:
        self._first: tuple[str, frozenset[str]] | None = None

    def header(self, head: CsvHead, file: str, *, is_plain: bool) -> tuple[str, ...]:
        """The column names of a file with a header line; only plain files are held against one another."""
        names = header_names(head, file)
        return self.names(names, file) if is_plain else names

    def names(self, names: tuple[str, ...], file: str) -> tuple[str, ...]:
        """`names`, if they agree with those of the files before. Raises SourceUnreadable."""
        found = frozenset(name.casefold() for name in names)
        if self._first is None:
            self._first = (file, found)
        elif found != self._first[1]:
            raise SourceUnreadable(
                file, None, f"has other columns than '{self._first[0]}'; all files of a folder must have the same."
            )
        return names


def header_names(head: CsvHead, file: str) -> tuple[str, ...]:
    """The names in a header line, without spaces around them. Raises SourceUnreadable if it cannot be a header line."""
    names = tuple(name.strip() for name in head.record or ())
    if not any(names):
        raise SourceUnreadable(file, None if head.record is None else 1, "has no header line.")
    if any("@" in name for name in names):
        raise SourceUnreadable(file, 1, "holds an e-mail address where the header line should be.")
    return names
