"""Quoting for SQL that has to be composed, because DuckDB binds values but not names of tables and columns."""

from __future__ import annotations


def quote_identifier(name: str) -> str:
    """`name` as an SQL identifier, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """`text` as an SQL string, whatever it contains."""
    return "'" + text.replace("'", "''") + "'"
