"""Merge values: text of a profile in, the JSON that Mailchimp wants out, or the finding that it does not fit."""

from __future__ import annotations

import json

import duckdb
import pytest

from shared.exports.merge_values import MergeValue, address_value, merge_value

OMITTED = object()
WRONG = object()


def outcome(value: MergeValue, **columns: str | None) -> object:
    """What becomes of a row: the JSON value, OMITTED or WRONG."""
    given = ", ".join(f"CAST(${name} AS VARCHAR) AS {name}" for name in columns)
    row = duckdb.connect().execute(f"SELECT ({value.json}), {value.wrong} FROM (SELECT {given})", columns).fetchone()
    assert row is not None
    text, wrong = row
    assert wrong is not None, "a finding must be true or false: NULL would count as neither"
    if wrong:
        return WRONG
    return OMITTED if text is None else json.loads(text)


@pytest.mark.parametrize("type_", ["text", "number", "date", "birthday", "phone", "zip", "url", "dropdown", "unheard"])
@pytest.mark.parametrize("empty", [None, "", "  ", "\t\u00a0"])
def test_an_empty_value_is_left_out_and_never_wrong(type_: str, empty: str | None) -> None:
    assert outcome(merge_value("X", type_, "v", choices=("a",), phone_format="US"), v=empty) is OMITTED


@pytest.mark.parametrize(
    ("type_", "text", "expected"),
    [
        ("text", '  Жанар "the \\ best" \n', 'Жанар "the \\ best"'),
        ("text", "İpek", "İpek"),
        ("number", "42", 42),
        ("number", "-0.50", -0.5),
        ("number", "+7", 7),
        ("number", "123456789012345678", 123456789012345678),
        ("number", "1e3", 1000),
        ("number", "007", 7),
        ("number", "many", WRONG),
        ("number", "1,5", WRONG),
        ("number", "NaN", WRONG),
        ("number", "inf", WRONG),
        ("date", "2026-02-28", "2026-02-28"),
        ("date", "2026-02-28T23:59:59Z", "2026-02-28"),
        ("date", "2026-02-28 10:00:00.000", "2026-02-28"),
        ("date", "02/28/2026", "2026-02-28"),
        ("date", "28.02.2026", "2026-02-28"),
        ("date", "2026-02-30", WRONG),
        ("date", "soon", WRONG),
        ("birthday", "2/29", "02/29"),
        ("birthday", "1988-12-05", "12/05"),
        ("birthday", "13/01", WRONG),
        ("zip", "10001", "10001"),
        ("zip", "10001-1234", "10001"),
        ("zip", "ABC", WRONG),
        ("url", "https://shop.example/a?b=c", "https://shop.example/a?b=c"),
        ("url", "shop.example/a", "https://shop.example/a"),
        ("url", "javascript:alert(1)", WRONG),
        ("imageurl", "not a url", WRONG),
        ("unheard", "x", "x"),
    ],
)
def test_text_becomes_the_value_of_the_field_s_type(type_: str, text: str, expected: object) -> None:
    assert outcome(merge_value("X", type_, "v"), v=text) == expected


@pytest.mark.parametrize(
    ("format_", "text", "expected"),
    [
        ("US", "(404) 555-0123", "404-555-0123"),
        ("US", "+1 404 555 0123", "404-555-0123"),
        ("US", "+44 20 7946 0018", WRONG),
        ("none", "+44 20 7946 0018", "+44 20 7946 0018"),
    ],
)
def test_phone_numbers_take_the_format_of_the_field(format_: str, text: str, expected: object) -> None:
    assert outcome(merge_value("PHONE", "phone", "v", phone_format=format_), v=text) == expected


def test_a_choice_is_sent_as_it_is_written_in_mailchimp() -> None:
    value = merge_value("SIZE", "dropdown", "v", choices=("Small", "It's big"))
    assert outcome(value, v="small") == "Small"
    assert outcome(value, v="IT'S BIG") == "It's big"
    assert outcome(value, v="medium") is WRONG


def test_an_address_needs_its_four_parts_or_none() -> None:
    parts = {"addr1": "a", "city": "c", "state": "s", "zip": "z", "country": "n"}
    value = address_value("ADDRESS", parts)
    whole = outcome(value, a="1 Main St", c="Springfield", s="IL", z="62701", n=None)
    assert whole == {"addr1": "1 Main St", "city": "Springfield", "state": "IL", "zip": "62701", "country": ""}
    assert outcome(value, a="1 Main St", c="Springfield", s="", z="62701", n="US") is WRONG
    assert outcome(value, a=None, c="", s=" ", z=None, n="US") is OMITTED
