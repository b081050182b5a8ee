"""What Mailchimp's 200 replies hold, as far as an export needs it.

A batch reply weighs about 1.8 MB for 500 members, of which a few kilobytes matter, so the decoder skips the rest
unread and makes the members itself. Where a leaf is null or of an odd type, they are taken as they come and checked by
hand: one field must not make 500 applied rows unknown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from shared.mailchimp.errors import BatchRefused, ReplyUnusable
from shared.mailchimp.problems import UNDECODABLE, text

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Account:
    """The account behind a sign-in.

    total_subscribers: over all its audiences. login_id: one user, also over several accounts.
    """

    account_id: str
    account_name: str
    role: str
    total_subscribers: int
    pricing_plan: str
    login_id: str | None


@dataclass(frozen=True, slots=True)
class Audience:
    """An audience (in the API: a list). member_count may be five minutes old. date_created: ISO 8601 with offset."""

    id: str
    name: str
    member_count: int
    double_optin: bool
    marketing_permissions: bool
    date_created: str | None


@dataclass(frozen=True, slots=True)
class MergeFieldOptions:
    """What a field's type needs; None where it needs none.

    choices: of radio and dropdown. date_format: such as "MM/DD/YYYY" or, for birthdays, "MM/DD". size: of text, in
    characters. default_country: of addresses, Mailchimp's number of it.
    """

    choices: tuple[str, ...] = ()
    date_format: str | None = None
    phone_format: str | None = None
    size: int | None = None
    default_country: str | None = None


@dataclass(frozen=True, slots=True)
class MergeField:
    """A field of an audience besides the address.

    type: text, number, address, phone, date, url, imageurl, radio, dropdown, …
    """

    tag: str
    name: str
    type: str
    required: bool
    default_value: str
    options: MergeFieldOptions


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag, which the API keeps as a static segment.

    member_count: active members only; None where the reply has none.
    """

    id: int
    name: str
    member_count: int | None = None


class ShownTag(msgspec.Struct, frozen=True, gc=False):
    """A tag of a member, as far as it matters."""

    name: str


class ReplyMember(msgspec.Struct, frozen=True, gc=False):
    """A member as it is after the call, made by the decoder itself: there are 500 in a reply.

    tags: at most 50 of them, tags_count says how many there are (None: not said).
    """

    email_address: Annotated[str, msgspec.Meta(min_length=1)]
    status: str = ""
    tags: tuple[ShownTag, ...] = ()
    tags_count: int | None = None

    @property
    def tag_names(self) -> tuple[str, ...]:
        """The names of the tags, in Mailchimp's order."""
        return tuple([tag.name for tag in self.tags])

    def __repr__(self) -> str:
        return f"ReplyMember(status={self.status!r}, tags_count={self.tags_count})"  # never the address


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that Mailchimp did not take, for the rejected-profiles file, never for logs.

    code: ERROR_CONTACT_EXISTS or ERROR_GENERIC. message, field_message: Mailchimp's words, in any language.
    """

    email_address: str = dataclasses.field(repr=False)
    code: str
    message: str = dataclasses.field(repr=False)
    field: str = ""
    field_message: str = dataclasses.field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SubscribeReply:
    """The reply to one batch.

    created also holds archived contacts that came back; the totals are Mailchimp's own counts.
    """

    created: list[ReplyMember]
    updated: list[ReplyMember]
    errors: list[RowError]
    total_created: int
    total_updated: int
    error_count: int

    def members(self) -> Iterator[ReplyMember]:
        """Everyone created or updated."""
        yield from self.created
        yield from self.updated

    def check(self, rows_sent: int) -> None:
        """Raises ReplyUnusable if the reply contradicts itself or does not account for all rows of the batch."""
        counted = (len(self.created), len(self.updated), len(self.errors))
        if counted != (self.total_created, self.total_updated, self.error_count):
            raise ReplyUnusable(
                f"Mailchimp's reply lists {counted} rows created, updated and refused, and counts "
                f"{(self.total_created, self.total_updated, self.error_count)}."
            )
        if sum(counted) != rows_sent:
            raise ReplyUnusable(f"Mailchimp's reply accounts for {sum(counted)} of the {rows_sent} rows sent.")


@dataclass(frozen=True, slots=True)
class TagRowError:
    """Addresses that could not be tagged, and Mailchimp's words for it."""

    addresses: tuple[str, ...] = dataclasses.field(repr=False)
    message: str = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True)
class TagReply:
    """added, removed: the addresses in the reply.

    Addresses that are not in the audience are silently left out by Mailchimp.
    """

    added: list[str] = dataclasses.field(repr=False)
    removed: list[str] = dataclasses.field(repr=False)
    errors: list[TagRowError]
    total_added: int
    total_removed: int


def row_error_of(refused: BatchRefused, email_address: str, row: int | None = None) -> RowError:
    """The account of one row that stood alone in, or was named by, a refused call; row: its number in that call."""
    named = next((entry for entry in refused.refused_rows if entry.row == row), None)
    message = ": ".join(part for part in (refused.title, refused.detail) if part) or f"refused with {refused.status}"
    return RowError(
        email_address,
        "ERROR_GENERIC",
        message,
        field=named.field if named else "",
        field_message=named.message if named else "",
    )


def read_address(entry: dict[str, Any]) -> str | None:
    """The address of a member; None where the entry has none."""
    return text(entry.get("email_address")) or None


# --- Decoding ---


class _OddMember(msgspec.Struct):
    email_address: Any = None
    status: Any = None
    tags: Any = None
    tags_count: Any = None


class _WireRowError(msgspec.Struct):
    email_address: Any = None
    error: Any = None
    error_code: Any = None
    field: Any = None
    field_message: Any = None


class _WireSubscribe(msgspec.Struct, Generic[_T]):
    # Required: a 200 without them is some other document.
    new_members: list[_T] | None
    updated_members: list[_T] | None
    errors: list[_WireRowError] | None = None
    total_created: Any = None
    total_updated: Any = None
    error_count: Any = None


class _WireAddress(msgspec.Struct):
    email_address: Any = None


class _WireTagError(msgspec.Struct):
    email_addresses: Any = None
    error: Any = None


class _WireTagReply(msgspec.Struct):
    members_added: list[_WireAddress] | None = None
    members_removed: list[_WireAddress] | None = None
    errors: list[_WireTagError] | None = None
    total_added: Any = None
    total_removed: Any = None


_subscribe_decoder = msgspec.json.Decoder(_WireSubscribe[ReplyMember])
_odd_subscribe_decoder = msgspec.json.Decoder(_WireSubscribe[_OddMember])
_tag_reply_decoder = msgspec.json.Decoder(_WireTagReply)
_object_decoder = msgspec.json.Decoder(dict[str, Any])


def _decode(decoder: msgspec.json.Decoder[_T], body: bytes, doing: str) -> _T:
    try:
        return decoder.decode(body)
    except UNDECODABLE:
        problem = "is empty" if not body.strip() else "cannot be read: it is cut off, or of another form than described"
    # Outside the handler: a decoder's message may quote the reply.
    raise ReplyUnusable(f"Mailchimp's answer while {doing} {problem}.")


def read_subscribe(body: bytes) -> SubscribeReply:
    """Decodes the reply of POST /lists/{id}. Raises ReplyUnusable."""
    wire = _decode_subscribe(body)
    created, updated = wire.new_members or [], wire.updated_members or []
    errors = [_row_error(entry) for entry in wire.errors or ()]
    return SubscribeReply(
        created,
        updated,
        errors,
        total_created=count(wire.total_created, len(created)),
        total_updated=count(wire.total_updated, len(updated)),
        error_count=count(wire.error_count, len(errors)),
    )


def _decode_subscribe(body: bytes) -> _WireSubscribe[ReplyMember]:
    """As every reply should be; one with odd leaves is decoded again, leniently and at twice the cost."""
    with suppress(*UNDECODABLE):
        return _subscribe_decoder.decode(body)
    odd = _decode(_odd_subscribe_decoder, body, "sending members")
    return _WireSubscribe(
        [_member(entry) for entry in odd.new_members or ()],
        [_member(entry) for entry in odd.updated_members or ()],
        odd.errors,
        odd.total_created,
        odd.total_updated,
        odd.error_count,
    )


def _member(odd: _OddMember) -> ReplyMember:
    if not isinstance(odd.email_address, str) or not odd.email_address:
        raise ReplyUnusable("Mailchimp's answer while sending members holds a member without an address.")
    tags = odd.tags if isinstance(odd.tags, list) else ()
    shown = [ShownTag(tag["name"]) for tag in tags if isinstance(tag, dict) and isinstance(tag.get("name"), str)]
    status = odd.status if isinstance(odd.status, str) else ""
    tags_count = odd.tags_count
    return ReplyMember(odd.email_address, status, tuple(shown), tags_count if type(tags_count) is int else None)


def _row_error(wire: _WireRowError) -> RowError:
    address = wire.email_address.strip() if isinstance(wire.email_address, str) else ""
    for quote in ('\\"', '"'):  # seen in the wild: the address in escaped quotes
        if len(address) > 2 * len(quote) and address.startswith(quote) and address.endswith(quote):
            address = address[len(quote) : -len(quote)]
    return RowError(
        address,
        text(wire.error_code, 80) or "ERROR_GENERIC",
        text(wire.error),
        field=text(wire.field, 200),
        field_message=text(wire.field_message),
    )


def read_tag_reply(body: bytes) -> TagReply:
    """Decodes the reply of POST /lists/{id}/segments/{segment_id}. Raises ReplyUnusable."""
    wire = _decode(_tag_reply_decoder, body, "tagging members")
    added = [entry.email_address for entry in wire.members_added or () if isinstance(entry.email_address, str)]
    removed = [entry.email_address for entry in wire.members_removed or () if isinstance(entry.email_address, str)]
    errors = []
    for entry in wire.errors or ():
        addresses = entry.email_addresses if isinstance(entry.email_addresses, list) else []
        errors.append(TagRowError(tuple(a for a in addresses if isinstance(a, str)), text(entry.error)))
    return TagReply(
        added, removed, errors, count(wire.total_added, len(added)), count(wire.total_removed, len(removed))
    )


def read_object(body: bytes, doing: str) -> dict[str, Any]:
    """Any small reply that must be a JSON object. Raises ReplyUnusable."""
    return _decode(_object_decoder, body, doing)


def count(value: object, default: int = 0) -> int:
    """`value` if it is a number of things, else `default`."""
    return value if type(value) is int and value >= 0 else default


def read_account(wire: dict[str, Any]) -> Account:
    """From GET /. Raises ReplyUnusable if the account has no id."""
    account_id = text(wire.get("account_id"))
    if not account_id:
        raise ReplyUnusable("Mailchimp's answer while reading the account names no account.")
    return Account(
        account_id,
        text(wire.get("account_name")),
        role=text(wire.get("role")),
        total_subscribers=count(wire.get("total_subscribers")),
        pricing_plan=text(wire.get("pricing_plan_type")),
        login_id=_identifier(wire.get("login_id")),
    )


def read_audience(wire: dict[str, Any]) -> Audience | None:
    """From an entry of GET /lists, or GET /lists/{id}; None if it has no id."""
    audience_id = text(wire.get("id"))
    stats = wire.get("stats")
    return (
        Audience(
            audience_id,
            name=text(wire.get("name")) or audience_id,
            member_count=count(stats.get("member_count") if isinstance(stats, dict) else None),
            double_optin=wire.get("double_optin") is True,
            marketing_permissions=wire.get("marketing_permissions") is True,
            date_created=text(wire.get("date_created")) or None,
        )
        if audience_id
        else None
    )


def read_merge_field(wire: dict[str, Any]) -> MergeField | None:
    """From an entry of GET /lists/{id}/merge-fields; None if it has no tag."""
    tag = text(wire.get("tag"))
    if not tag:
        return None
    options = wire.get("options")
    options = options if isinstance(options, dict) else {}
    choices = options.get("choices")
    size = options.get("size")
    return MergeField(
        tag,
        name=text(wire.get("name")) or tag,
        type=text(wire.get("type")) or "text",
        required=wire.get("required") is True,
        default_value=_scalar(wire.get("default_value")) or "",
        options=MergeFieldOptions(
            choices=tuple(choice for choice in choices if isinstance(choice, str)) if isinstance(choices, list) else (),
            date_format=text(options.get("date_format")) or None,
            phone_format=text(options.get("phone_format")) or None,
            size=size if type(size) is int else None,
            default_country=_scalar(options.get("default_country")),
        ),
    )


def read_tag(wire: dict[str, Any]) -> Tag | None:
    """From a segment or an entry of tag-search; None if it is a saved or fuzzy segment, or has no id or name."""
    tag_id, name, members = wire.get("id"), wire.get("name"), wire.get("member_count")
    if type(tag_id) is not int or not isinstance(name, str) or wire.get("type", "static") != "static":
        return None
    return Tag(tag_id, name, members if type(members) is int else None)


def _scalar(value: object) -> str | None:
    if isinstance(value, str):
        return text(value) or None
    return str(value) if type(value) in (int, float) else None


_identifier = _scalar  # login_id is text in the API's root and a number in the OAuth metadata
