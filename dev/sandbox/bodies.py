"""Request bodies of the API: typed decoding for the common case, Mailchimp's field errors for the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args

import msgspec

from dev.sandbox.merge_fields import MergeFieldBody
from dev.sandbox.problems import NOT_VALIDATED, ProblemError, invalid_resource, json_parse_error

Status = Literal["subscribed", "unsubscribed", "cleaned", "pending", "transactional"]
EXTRA_FIELDS = ("email_type", "language", "vip", "location", "ip_signup", "ip_opt", "timestamp_signup", "timestamp_opt")
MAX_ROWS = 500
_ACCEPTED = f"Data presented is not one of the accepted values: {', '.join(get_args(Status))}."
_ANY_OF = "Data did not match any of the schemas described in anyOf."
_PATH = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_TYPE_NAMES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "null": "NULL"}
T = TypeVar("T")


class Row(msgspec.Struct, gc=False):
    """One member of a batch subscribe call, or the body about a single member. Every field may be null."""

    email_address: str | None = None
    status: Status | None = None
    status_if_new: Status | None = None
    merge_fields: dict[str, Any] | None = None
    tags: list[str] | None = None
    email_type: str | None = None
    language: str | None = None
    vip: bool | None = None
    location: dict[str, Any] | None = None
    ip_signup: str | None = None
    ip_opt: str | None = None
    timestamp_signup: str | None = None
    timestamp_opt: str | None = None
    interests: dict[str, bool] | None = None
    marketing_permissions: list[dict[str, Any]] | None = None

    def extra(self) -> dict[str, Any] | None:
        """The rarely used fields that are given."""
        if (
            self.email_type is None
            and self.language is None
            and self.vip is None
            and self.location is None
            and self.ip_signup is None
            and self.ip_opt is None
            and self.timestamp_signup is None
            and self.timestamp_opt is None
        ):
            return None
        return {name: value for name in EXTRA_FIELDS if (value := getattr(self, name)) is not None}


class BatchBody(msgspec.Struct):
    """The body of `POST /lists/{list_id}`."""

    members: list[Row]
    update_existing: bool | None = False
    sync_tags: bool | None = False


class _LooseBatch(msgspec.Struct):
    members: list[msgspec.Raw]


class SegmentBody(msgspec.Struct):
    """The body of `POST /lists/{list_id}/segments` and of its PATCH."""

    name: str
    static_segment: list[str] | None = None
    options: dict[str, Any] | None = None


class SegmentMembersBody(msgspec.Struct):
    """The body of `POST /lists/{list_id}/segments/{segment_id}`."""

    members_to_add: list[str] | None = None
    members_to_remove: list[str] | None = None


class TagChange(msgspec.Struct):
    """A tag that a member is to have or not."""

    name: str
    status: Literal["active", "inactive"]


class MemberTagsBody(msgspec.Struct):
    """The body of `POST /lists/{list_id}/members/{subscriber_hash}/tags`."""

    tags: list[TagChange]
    is_syncing: bool | None = None


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """A function that decodes a body of this kind. It raises 400 with Mailchimp's words."""
    decode = msgspec.json.Decoder(kind).decode

    def decode_body(body: bytes) -> T:
        try:
            return decode(body)
        except msgspec.ValidationError as error:
            raise invalid_resource(NOT_VALIDATED, [_field_error(str(error))]) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise json_parse_error() from None

    return decode_body


_decode_batch = msgspec.json.Decoder(BatchBody).decode
_decode_row = msgspec.json.Decoder(Row).decode


def decode_batch(body: bytes) -> BatchBody:
    """The body of a batch subscribe call. One wrong row fails the whole call, as in the real API."""
    try:
        batch = _decode_batch(body)
    except msgspec.ValidationError as error:
        raise _batch_problem(body, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise json_parse_error() from None
    if len(batch.members) > MAX_ROWS:
        # Mailchimp documents the limit but not the sentence.
        sentence = f"Maximum allowed member items exceeded, please provide at most {MAX_ROWS} items"
        raise invalid_resource(NOT_VALIDATED, [{"field": "members", "message": sentence}])
    unstated = [n for n, row in enumerate(batch.members) if row.status is None and row.status_if_new is None]
    if unstated:
        errors = [{"field": f"members.item:{n}", "message": _ANY_OF} for n in unstated]
        raise invalid_resource(NOT_VALIDATED, errors)
    return batch


def _batch_problem(body: bytes, first_message: str) -> ProblemError:
    """All rows that do not fit, each with its first error; or the error outside of the rows."""
    errors: list[dict[str, str]] = []
    try:
        rows = msgspec.json.decode(body, type=_LooseBatch).members
    except msgspec.ValidationError as error:
        return invalid_resource(NOT_VALIDATED, [_field_error(str(error))])
    for number, raw in enumerate(rows):
        try:
            _decode_row(raw)
        except msgspec.ValidationError as error:
            errors.append(_field_error(str(error), f"members.item:{number}"))
    return invalid_resource(NOT_VALIDATED, errors or [_field_error(first_message)])


def _field_error(message: str, prefix: str = "") -> dict[str, str]:
    """A msgspec sentence (``Expected `str`, got `int` - at `$.members[0].status` ``) in Mailchimp's form."""
    path = ""
    if match := _PATH.search(message):
        path = re.sub(r"\[(\d+)\]", r".item:\1", match["path"]).replace("[...]", "").lstrip(".")
        message = message[: match.start()]
    where = ".".join(part for part in (prefix, path) if part)
    return {"field": where, "message": _mailchimp_wording(message)}


def _mailchimp_wording(message: str) -> str:
    if message.startswith("Invalid enum value"):
        return _ACCEPTED
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", message):
        return f"Required fields were not provided: {missing[1]}"
    if types := re.fullmatch(r"Expected `([^`]+)`, got `(\w+)`", message):
        expected = types[1].split(" | ")[0]
        found = _TYPE_NAMES.get(types[2], types[2])
        return f"Schema describes {_TYPE_NAMES.get(expected, expected)}, {found} found instead"
    return message


decode_member = decoder(Row)
decode_segment = decoder(SegmentBody)
decode_segment_members = decoder(SegmentMembersBody)
decode_member_tags = decoder(MemberTagsBody)
decode_merge_field = decoder(MergeFieldBody)
