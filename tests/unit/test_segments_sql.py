"""Composed SQL says what it seems to say."""

from __future__ import annotations

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from shared.segments.sql import quote_literal, trimmed

BLANKS = " \t\r\n\u00a0\u200b\ufeff"
LETTERS = st.sampled_from([*BLANKS, "a", "!", "~", "\x7f", "\x1f", "é", "a\u0301", "日", "\u200d", "👩", "\u3000"])


@given(st.lists(LETTERS, max_size=6).map("".join))
def test_trimmed_text_is_what_duckdb_trims_at_length(text: str) -> None:
    with duckdb.connect() as connection:
        source = f"(SELECT {quote_literal(text)} AS value)"
        found, whole = (
            connection.execute(f"SELECT {sql} FROM {source}").fetchone()
            for sql in (trimmed("value", BLANKS), f"trim(value, {quote_literal(BLANKS)})")
        )
    assert found == whole


def test_nothing_stays_nothing() -> None:
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT {trimmed('value', BLANKS)} FROM (SELECT NULL::VARCHAR AS value)").fetchone()
    assert found == (None,)
