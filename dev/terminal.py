"""Plain text for a terminal: colour and a line that is written over only where somebody looks at a screen."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO
from unicodedata import east_asian_width


class Terminal:
    """Writes to `stream`. Without a screen, or with NO_COLOR set (no-color.org), there is no colour."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._is_screen = stream.isatty()
        self._has_colour = self._is_screen and not os.environ.get("NO_COLOR")
        self._shown = ""
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a name shows a question mark
            stream.reconfigure(errors="replace")

    def line(self, text: str = "") -> None:
        """One line; a progress line gives way to it."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def heading(self, text: str) -> None:
        """A line that begins a part."""
        self.line()
        self.line(self.bold(text))

    def progress(self, text: str, *, is_new: bool = False) -> None:
        """Writes over the last progress; where nobody looks at a screen, only what `is_new` is written."""
        if not self._is_screen:
            if is_new:
                self.line(text)
            return
        self._clear()
        self._shown = text[: shutil.get_terminal_size().columns - 1]
        print(self._shown, end="", file=self._stream, flush=True)

    def table(self, rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """Columns as wide as they need; those numbered in `right` end at the right. The first row is the heading."""
        widths = [max(_width(row[column]) for row in rows) for column in range(len(rows[0]))]
        for number, row in enumerate(rows):
            cells = [_padded(cell, widths[column], column in right) for column, cell in enumerate(row)]
            text = ("  " + "  ".join(cells)).rstrip()
            self.line(self.dim(text) if number == 0 else text)

    def bold(self, text: str) -> str:
        return self._styled("1", text)

    def dim(self, text: str) -> str:
        return self._styled("2", text)

    def good(self, text: str) -> str:
        return self._styled("32", text)

    def bad(self, text: str) -> str:
        return self._styled("31", text)

    def _styled(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._has_colour else text

    def _clear(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=self._stream)
            self._shown = ""


def _width(text: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _padded(text: str, width: int, is_right: bool) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if is_right else text + blanks
