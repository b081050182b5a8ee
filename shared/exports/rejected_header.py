"""The columns of ``rejected.csv``. Apart from what fills it, because that imports DuckDB, and the API does not."""

from __future__ import annotations

from typing import Final

COLUMNS: Final = ("segment", "file", "row", "email", "foundBy", "code", "field", "message", "action", "retryable")

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""Spreadsheets need it to take the file for UTF-8."""

NONE_REJECTED: Final = BYTE_ORDER_MARK + ",".join(COLUMNS).encode() + b"\n"
"""The whole file of an export in which nobody was looked at, so nobody was refused."""
