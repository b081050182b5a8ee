"""Member objects and links as Mailchimp writes them.

A member object is put together from pieces of bytes that are prepared once per call: a reply about 500 members weighs
1.8 MB, and building it from dictionaries would cost ten times the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from dev.sandbox.store import Audience, Contact, Group

encode = msgspec.json.Encoder().encode

SHOWN_TAGS = 50  # "Returns up to 50 tags applied to this member": the Marketing API on list members
SCHEMAS = "https://us1.api.mailchimp.com/schema/3.0"  # names of schemas, never fetched
_HASH = b"@subscriber_hash@"

_LIGHT_START = b'{"id":"%b","email_address":%b,"status":%b,"merge_fields":%b,'
_WHOLE_START = (
    b'{"id":"%b","email_address":%b,"unique_email_id":"%b","contact_id":"%b","full_name":%b,"web_id":%d,'
    b'"email_type":"html","status":%b,"consents_to_one_to_one_messaging":true,"merge_fields":%b,'
    b'"stats":{"avg_open_rate":0,"avg_click_rate":0},"ip_signup":"","timestamp_signup":"","ip_opt":"203.0.113.10",'
    b'"timestamp_opt":"%b","member_rating":2,"last_changed":"%b","language":"","vip":false,"email_client":"",'
    b'"location":{"latitude":0,"longitude":0,"gmtoff":0,"dstoff":0,"country_code":"","timezone":"","region":""},'
)
_PERMISSIONS = (
    ("d7ce21601c", "Email"),
    ("d0d0a1b47d", "Direct Mail"),
    ("75e893aca0", "Customized Online Advertising"),
)


@lru_cache(maxsize=4096)
def iso_time(seconds: int) -> bytes:
    """Seconds since 1970 as Mailchimp writes times: `2021-11-23T22:51:56+00:00`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().encode()


def shown_time(seconds: int) -> str:
    """The same as text."""
    return iso_time(seconds).decode()


def link(rel: str, href: str, method: str, target: str | None = None, schema: str | None = None) -> dict[str, str]:
    """One entry of `_links`; `target` and `schema` are names of schemas."""
    entry = {"rel": rel, "href": href, "method": method}
    if target is not None:
        entry["targetSchema"] = f"{SCHEMAS}/{target}.json"
    if schema is not None:
        entry["schema"] = f"{SCHEMAS}/{schema}.json"
    return entry


def member_links(api_root: str, audience_id: str, subscriber_hash: str) -> list[dict[str, str]]:
    """The ten links of a member object."""
    members = f"{api_root}/lists/{audience_id}/members"
    me, kind = f"{members}/{subscriber_hash}", "Definitions/Lists/Members"
    answer = f"{kind}/Response"
    return [
        link("self", me, "GET", answer),
        link("parent", members, "GET", f"{kind}/CollectionResponse", "Paths/Lists/Members/Collection"),
        link("update", me, "PATCH", answer, f"{kind}/PATCH"),
        link("upsert", me, "PUT", answer, f"{kind}/PUT"),
        link("delete", me, "DELETE"),
        link("activity", f"{me}/activity", "GET", f"{kind}/Activity/Response"),
        link("goals", f"{me}/goals", "GET", f"{kind}/Goals/Response"),
        link("notes", f"{me}/notes", "GET", f"{kind}/Notes/CollectionResponse"),
        link("events", f"{me}/events", "POST", f"{kind}/Events/POST"),
        link("delete_permanent", f"{me}/actions/delete-permanent", "POST"),
    ]


class MemberWriter:
    """Writes member objects of one audience.

    Whole ones weigh about 3.4 kB. Light ones have id, address, status, merge fields, tags and list id and nothing else.
    """

    def __init__(self, audience: Audience, api_root: str, *, whole: bool) -> None:
        self._audience = audience
        self._tags = tuple(audience.merge_fields)
        first, last = audience.merge_fields.get("FNAME"), audience.merge_fields.get("LNAME")
        self._first = first.position if first else 1 << 30
        self._last = last.position if last else 1 << 30
        self._pieces = self._whole_pieces if whole else self._light_pieces
        self._end = b',"list_id":"' + audience.id.encode() + b'"'
        if whole:
            self._source = self._permissions() + b'"source":"API - Generic",'
            links = encode(member_links(api_root, audience.id, _HASH.decode()))
            self._links = (b',"_links":' + links + b"}").split(_HASH)  # the hash stands between these parts

    def _permissions(self) -> bytes:
        if not self._audience.marketing_permissions:
            return b""
        shown = [{"marketing_permission_id": key, "text": text, "enabled": False} for key, text in _PERMISSIONS]
        return b'"marketing_permissions":' + encode(shown) + b","

    def write(self, key: bytes, contact: Contact) -> bytes:
        """One member object."""
        return b"".join(self._pieces(key, contact))

    def write_all(self, items: Iterable[tuple[bytes, Contact]]) -> bytes:
        """A JSON array of member objects."""
        pieces = [b"["]
        for key, contact in items:
            pieces += self._pieces(key, contact)
            pieces.append(b",")
        if len(pieces) > 1:
            pieces.pop()
        pieces.append(b"]")
        return b"".join(pieces)

    def _light_pieces(self, key: bytes, contact: Contact) -> tuple[bytes, ...]:
        status, tagged = contact.group.json or self._write_group(contact.group)
        start = _LIGHT_START % (key.hex().encode(), encode(contact.email), status, self._merge_fields(contact.merge))
        return start, tagged, self._end, b"}"

    def _whole_pieces(self, key: bytes, contact: Contact) -> tuple[bytes, ...]:
        status, tagged = contact.group.json or self._write_group(contact.group)
        ids = key.hex().encode()
        # Made-up but stable: the contact id is the hash backwards, so that it can be looked up as well.
        contact_id = ids[::-1]
        start = _WHOLE_START % (
            ids,
            encode(contact.email),
            contact_id[:10],
            contact_id,
            self._full_name(contact.merge),
            int(ids[:7], 16),
            status,
            self._merge_fields(contact.merge),
            iso_time(contact.opted),
            iso_time(contact.changed),
        )
        pieces = (start, self._source, tagged, self._end, ids.join(self._links))
        if contact.extra is None:
            return pieces
        return (encode({**msgspec.json.decode(b"".join(pieces)), **contact.extra}),)

    def _merge_fields(self, merge: tuple[Any, ...]) -> bytes:
        missing = len(self._tags) - len(merge)
        return encode(dict(zip(self._tags, (*merge, *[""] * missing) if missing else merge, strict=True)))

    def _full_name(self, merge: tuple[Any, ...]) -> bytes:
        first = merge[self._first] if self._first < len(merge) else ""
        last = merge[self._last] if self._last < len(merge) else ""
        return encode(f"{first} {last}".strip())

    def _write_group(self, group: Group) -> tuple[bytes, bytes]:
        status = b'"' + group.status.encode() + b'"'
        if group.status == "unsubscribed":
            # "N/A (Unsubscribed by admin)" is how Mailchimp tells who was unsubscribed through the API.
            reason = b"None given" if group.compliance else b"N/A (Unsubscribed by admin)"
            status += b',"unsubscribe_reason":"' + reason + b'"'
        shown = [{"id": tag_id, "name": self._audience.tags[tag_id].name} for tag_id in group.tag_ids[:SHOWN_TAGS]]
        group.json = status, b'"tags_count":%d,"tags":%b' % (len(group.tag_ids), encode(shown))
        return group.json
