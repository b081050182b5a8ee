"""SQL that turns a profile's text into the value that a Mailchimp merge field wants, or finds that it cannot.

Formats: Marketing API, merge fields: numbers as JSON numbers, dates as YYYY-MM-DD, birthdays as MM/DD, US phone numbers
as NNN-NNN-NNNN, addresses as objects that need addr1, city, state and zip. An empty value is left out, because an empty
string would clear what the contact has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared.segments.sql import quote_literal, trimmed

_ADDRESS_NEEDS: Final = ("addr1", "city", "state", "zip")
_BLANKS: Final = " \t\r\n\u00a0\ufeff"
_DAY_FORMATS: Final = ("%Y-%m-%d", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%Y%m%d")


@dataclass(frozen=True, slots=True)
class MergeValue:
    """``json``: SQL for the JSON text of the value, NULL where it is left out. ``wrong``: SQL for whether there is
    text that does not fit the type, NULL-free."""

    tag: str
    json: str
    wrong: str


def _text(column: str) -> str:
    """The trimmed text, NULL where it is empty."""
    return f"nullif({trimmed(column, _BLANKS)}, '')"


def _checked(tag: str, text: str, value: str) -> MergeValue:
    """A value that is NULL exactly where the text does not fit."""
    return MergeValue(tag, f"to_json({value})", f"({text} IS NOT NULL AND ({value}) IS NULL)")


def _free_text(tag: str, column: str) -> MergeValue:
    return MergeValue(tag, f"to_json({_text(column)})", "false")


def _number(tag: str, column: str) -> MergeValue:
    text = _text(column)
    plain = f"CASE WHEN regexp_full_match({text}, '[+-]?(\\d+\\.?\\d*|\\.\\d+)([eE][+-]?\\d{{1,2}})?') THEN {text} END"
    number = f"TRY_CAST({plain} AS DOUBLE)"
    whole = f"TRY_CAST({plain} AS HUGEINT)"
    exact = f"regexp_full_match({text}, '[+-]?\\d{{1,18}}')"
    json = f"CASE WHEN {exact} THEN CAST({whole} AS VARCHAR) ELSE CAST(to_json({number}) AS VARCHAR) END"
    return MergeValue(tag, json, f"({text} IS NOT NULL AND ({number} IS NULL OR isinf({number})))")


def _day(text: str) -> str:
    """SQL for a DATE: ISO dates and timestamps (with or without zone), and the usual orders of day, month and year."""
    attempts = ", ".join(f"try_strptime({text}, {quote_literal(form)})" for form in _DAY_FORMATS)
    stamp = f"regexp_matches({text}, '^\\d{{4}}-\\d{{2}}-\\d{{2}}[T ]')"
    iso = f"CASE WHEN {stamp} THEN try_strptime({text}[1:10], '%Y-%m-%d') END"
    return f"CAST(coalesce({iso}, {attempts}) AS DATE)"


def _date(tag: str, column: str) -> MergeValue:
    text = _text(column)
    return _checked(tag, text, f"strftime({_day(text)}, '%Y-%m-%d')")


def _birthday(tag: str, column: str) -> MergeValue:
    text = _text(column)
    # A leap year is put in front of a bare MM/DD, so that the 29th of February is a day.
    month_and_day = f"regexp_full_match({text}, '\\d{{1,2}}/\\d{{1,2}}')"
    bare = f"CASE WHEN {month_and_day} THEN try_strptime('2000/' || {text}, '%Y/%m/%d') END"
    return _checked(tag, text, f"strftime(coalesce(CAST({bare} AS DATE), {_day(text)}), '%m/%d')")


def _phone(tag: str, column: str, phone_format: str | None) -> MergeValue:
    if (phone_format or "").upper() != "US":
        return _free_text(tag, column)
    text = _text(column)
    digits = f"regexp_replace(regexp_replace({text}, '[^0-9]', '', 'g'), '^1(\\d{{10}})$', '\\1')"
    formatted = f"{digits}[1:3] || '-' || {digits}[4:6] || '-' || {digits}[7:10]"
    return _checked(tag, text, f"CASE WHEN length({digits}) = 10 THEN {formatted} END")


def _zip(tag: str, column: str) -> MergeValue:
    text = _text(column)
    return _checked(tag, text, f"CASE WHEN regexp_full_match({text}, '\\d{{5}}(-\\d{{4}})?') THEN {text}[1:5] END")


def _url(tag: str, column: str) -> MergeValue:
    text = _text(column)
    fits = f"regexp_full_match({text}, '(?i)https?://[^\\s/?#]+[^\\s]*')"
    bare = f"regexp_full_match({text}, '(?i)(www\\.)?[\\w-]+(\\.[\\w-]+)+([/?#][^\\s]*)?')"
    return _checked(tag, text, f"CASE WHEN {fits} THEN {text} WHEN {bare} THEN 'https://' || {text} END")


def _choice(tag: str, column: str, choices: Sequence[str]) -> MergeValue:
    text = _text(column)
    arms = " ".join(
        f"WHEN lower({text}) = lower({quote_literal(choice)}) THEN {quote_literal(choice)}" for choice in choices
    )
    return _checked(tag, text, f"CASE {arms} END") if arms else _free_text(tag, column)


def merge_value(
    tag: str,
    type_: str,
    column: str,
    *,
    choices: Sequence[str] = (),
    phone_format: str | None = None,
) -> MergeValue:
    """The value of merge field ``tag`` of Mailchimp type ``type_`` from the SQL expression ``column`` (text).

    Types we do not know are sent as text: Mailchimp says what it makes of them.
    """
    match type_:
        case "number":
            return _number(tag, column)
        case "date":
            return _date(tag, column)
        case "birthday":
            return _birthday(tag, column)
        case "phone":
            return _phone(tag, column, phone_format)
        case "zip":
            return _zip(tag, column)
        case "url" | "imageurl":
            return _url(tag, column)
        case "dropdown" | "radio":
            return _choice(tag, column, choices)
        case _:
            return _free_text(tag, column)


def address_value(tag: str, columns: Mapping[str, str]) -> MergeValue:
    """An address from ``columns``: SQL text expressions by part (addr1, addr2, city, state, zip, country).

    Left out where every needed part is empty; wrong where some are there and some are not.
    """
    texts = {part: _text(column) for part, column in columns.items()}
    empty = " AND ".join(f"{texts[part]} IS NULL" for part in _ADDRESS_NEEDS)
    gap = " OR ".join(f"{texts[part]} IS NULL" for part in _ADDRESS_NEEDS)
    pairs = ", ".join(f"{part}: coalesce({text}, '')" for part, text in texts.items())
    return MergeValue(tag, f"CASE WHEN NOT ({gap}) THEN to_json({{{pairs}}}) END", f"(NOT ({empty}) AND ({gap}))")
