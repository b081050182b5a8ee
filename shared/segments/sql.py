"""Pieces of SQL that has to be composed, because DuckDB binds values but not names of tables and columns."""

from __future__ import annotations


def quote_identifier(name: str) -> str:
    """`name` as an SQL identifier, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """`text` as an SQL string, whatever it contains."""
    return "'" + text.replace("'", "''") + "'"


def trimmed(column: str, blanks: str) -> str:
    """SQL for the text of `column` without these characters at its ends.

    Text that begins and ends with a visible ASCII character has none there: telling so takes a sixth of the time of
    DuckDB's trim with a set (docs/performance.md). `blanks` must not hold such a character.
    """
    clean = f"{column}[1] BETWEEN '!' AND '~' AND {column}[-1] BETWEEN '!' AND '~'"
    return f"CASE WHEN {clean} THEN {column} ELSE trim({column}, {quote_literal(blanks)}) END"
