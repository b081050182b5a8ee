"""Merge fields: their types, and what each type takes as a value.

Types and address parts are those of the Marketing API, `POST /lists/{list_id}/merge-fields` and
`PUT /lists/{list_id}/members/{subscriber_hash}`. "Please enter a number", "Please enter a value" and "Please enter a
complete address" are Mailchimp's own sentences, the others are worded alike. Clients should not match on any of them:
Mailchimp translates them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import msgspec

TYPES = (
    "text",
    "number",
    "address",
    "phone",
    "date",
    "url",
    "imageurl",
    "radio",
    "dropdown",
    "birthday",
    "zip",
)
REQUIRED_VALUE = "Please enter a value"
ADDRESS_PARTS = ("addr1", "addr2", "city", "state", "zip", "country")
_REQUIRED_ADDRESS_PARTS = ("addr1", "city", "state", "zip")

_ISO_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ].*)?")
_US_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
_ZIP = re.compile(r"\d{5}(?:-\d{4})?")
_URL = re.compile(r"https?://[^\s/]+\S*", re.IGNORECASE)
_US_PHONE = re.compile(r"\D*(?:1\D*)?(\d\D*){10}")


class MergeValueError(Exception):
    """A value does not fit its merge field; the text is the sentence for the field."""


@dataclass(frozen=True, slots=True)
class MergeField:
    """One merge field of an audience. `position` is the place of its value in the contacts' value tuples."""

    merge_id: int
    tag: str
    name: str
    type: str
    position: int
    required: bool = False
    default_value: str = ""
    public: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    help_text: str = ""

    def document(self, audience_id: str) -> dict[str, Any]:
        """The merge field as the API shows it."""
        return {
            "merge_id": self.merge_id,
            "tag": self.tag,
            "name": self.name,
            "type": self.type,
            "required": self.required,
            "default_value": self.default_value,
            "public": self.public,
            "display_order": self.merge_id + 1,
            "options": self.options,
            "help_text": self.help_text,
            "list_id": audience_id,
        }


def stored_value(merge_field: MergeField, value: Any) -> Any:
    """The value as Mailchimp keeps it; an empty text clears every type of field. Raises `MergeValueError`."""
    if value == "" or value is None:
        return ""
    if isinstance(value, (bool, list)):
        raise MergeValueError("Data did not match any of the schemas described in anyOf.")
    check = _CHECKS[merge_field.type]
    if check is _text and type(value) is str:
        return value
    return check(merge_field, value)


def _text(_: MergeField, value: Any) -> Any:
    if isinstance(value, dict):
        raise MergeValueError("Data did not match any of the schemas described in anyOf.")
    return str(value)


def _number(_: MergeField, value: Any) -> Any:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise MergeValueError("Please enter a number") from None
    if not math.isfinite(number):
        raise MergeValueError("Please enter a number")
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _date(_: MergeField, value: Any) -> Any:
    text = str(value).strip()
    if match := _ISO_DATE.fullmatch(text):
        year, month, day = match.groups()
    elif match := _US_DATE.fullmatch(text):
        month, day, year = match.groups()
    else:
        raise MergeValueError("Please enter the date")
    try:
        return date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        raise MergeValueError("Please enter the date") from None


def _birthday(_merge_field: MergeField, value: Any) -> Any:
    month, _, day = str(value).strip().partition("/")
    try:
        return date(2000, int(month), int(day)).strftime("%m/%d")  # a leap year: 02/29 is a birthday
    except ValueError:
        raise MergeValueError("Please enter a month (01-12) and a day (01-31)") from None


def _zip(_: MergeField, value: Any) -> Any:
    text = str(value).strip()
    if not _ZIP.fullmatch(text):
        raise MergeValueError("Please enter a zip code (5 numbers, optional 4-digit extension)")
    return text


def _url(_: MergeField, value: Any) -> Any:
    if not isinstance(value, str) or not _URL.fullmatch(value.strip()):
        raise MergeValueError("Please enter a valid URL")
    return value.strip()


def _phone(merge_field: MergeField, value: Any) -> Any:
    text = _text(merge_field, value).strip()
    if merge_field.options.get("phone_format") == "US" and not _US_PHONE.fullmatch(text):
        raise MergeValueError("Please enter a valid phone number")
    return text


def _choice(merge_field: MergeField, value: Any) -> Any:
    if value not in merge_field.options.get("choices", ()):
        raise MergeValueError("Please choose one of the given values")
    return value


def _address(_: MergeField, value: Any) -> Any:
    if not isinstance(value, dict) or any(not str(value.get(part) or "").strip() for part in _REQUIRED_ADDRESS_PARTS):
        raise MergeValueError("Please enter a complete address")
    return {part: str(value.get(part) or "") for part in ADDRESS_PARTS}


_CHECKS: dict[str, Callable[[MergeField, Any], Any]] = {
    "text": _text,
    "number": _number,
    "address": _address,
    "phone": _phone,
    "date": _date,
    "url": _url,
    "imageurl": _url,
    "radio": _choice,
    "dropdown": _choice,
    "birthday": _birthday,
    "zip": _zip,
}


class MergeFieldBody(msgspec.Struct):
    """The body of `POST /lists/{list_id}/merge-fields`, and a merge field in the control API."""

    name: str
    type: str
    tag: str | None = None
    required: bool = False
    default_value: str = ""
    public: bool = False
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    help_text: str = ""


DEFAULT_FIELDS = (
    MergeFieldBody("First Name", "text", "FNAME", public=True, options={"size": 25}),
    MergeFieldBody("Last Name", "text", "LNAME", public=True, options={"size": 25}),
    MergeFieldBody("Address", "address", "ADDRESS", options={"default_country": 164}),
    MergeFieldBody("Phone Number", "phone", "PHONE", options={"phone_format": "none"}),
    MergeFieldBody("Birthday", "birthday", "BIRTHDAY", options={"date_format": "MM/DD"}),
    MergeFieldBody("LTV", "number", "LTV"),
    MergeFieldBody("Joined", "date", "JOINED", options={"date_format": "MM/DD/YYYY"}),
    MergeFieldBody("Plan", "dropdown", "PLAN", options={"choices": ["Free", "Standard", "Premium"]}),
    MergeFieldBody("Website", "url", "WEBSITE"),
    MergeFieldBody("Zip Code", "zip", "ZIP"),
)
