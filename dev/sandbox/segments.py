"""Static segments, which are tags: `/lists/{list_id}/segments` and `/lists/{list_id}/tag-search`.

Segments with conditions (`type: saved`) are not kept by the sandbox.
"""

from __future__ import annotations

from typing import Any

from dev.sandbox.addresses import subscriber_key
from dev.sandbox.bodies import SegmentBody, SegmentMembersBody
from dev.sandbox.calls import Call
from dev.sandbox.http import Reply, json_reply
from dev.sandbox.members import NO_CONTENT, member_page
from dev.sandbox.problems import bad_request, invalid_resource, not_found
from dev.sandbox.replies import encode, link, shown_time
from dev.sandbox.store import Contact, Tag, with_tags, without_tags

MAX_ITEMS = 500
_INCLUDED = (
    ("include_cleaned", "cleaned"),
    ("include_transactional", "transactional"),
    ("include_unsubscribed", "unsubscribed"),
)


def _tag(call: Call) -> Tag:
    try:
        tag = call.audience.tags.get(int(call.params[1]))
    except ValueError:
        tag = None
    if tag is None:
        raise not_found()
    return tag


def _counted_statuses(call: Call) -> frozenset[str]:
    """Only active subscribers count, unless the call includes others."""
    return frozenset({"subscribed", *(status for flag, status in _INCLUDED if call.flag(flag))})


def _document(call: Call, tag: Tag, counts: dict[str, int]) -> dict[str, Any]:
    href = f"{call.api_root}/lists/{call.audience.id}/segments"
    kind = "Definitions/Lists/Segments"
    return {
        "id": tag.id,
        "name": tag.name,
        "member_count": sum(counts.get(status, 0) for status in _counted_statuses(call)),
        "type": "static",
        "created_at": shown_time(tag.created),
        "updated_at": shown_time(tag.updated),
        "options": {"match": "any", "conditions": []},
        "list_id": call.audience.id,
        "_links": [
            link("self", f"{href}/{tag.id}", "GET", f"{kind}/Response"),
            link("parent", href, "GET", f"{kind}/CollectionResponse", "Paths/Lists/Segments/Collection"),
            link("delete", f"{href}/{tag.id}", "DELETE"),
            link("update", f"{href}/{tag.id}", "PATCH", f"{kind}/Response", f"{kind}/PATCH"),
            link("members", f"{href}/{tag.id}/members", "GET", f"{kind}/Members/CollectionResponse"),
        ],
    }


def _shown(call: Call, tag: Tag) -> Reply:
    return json_reply(_document(call, tag, call.audience.count_by_tag()[tag.id]))


def list_segments(call: Call) -> Reply:
    """`GET …/segments`, in pages; `type` other than `static` finds nothing."""
    offset, count = call.page()
    kind = call.request.query.get("type")
    tags = list(call.audience.tags.values()) if kind in (None, "static") else []
    counts = call.audience.count_by_tag()
    href = f"{call.api_root}/lists/{call.audience.id}/segments"
    return json_reply(
        {
            "segments": [_document(call, tag, counts[tag.id]) for tag in tags[offset : offset + count]],
            "list_id": call.audience.id,
            "total_items": len(tags),
            "_links": [link("self", href, "GET", "Definitions/Lists/Segments/CollectionResponse")],
        }
    )


def add_segment(call: Call, body: SegmentBody) -> Reply:
    """`POST …/segments`: a name that is taken, in upper or lower case, answers 400."""
    if not body.name.strip():
        raise bad_request("Please provide a name for the segment.")
    if body.static_segment is None:
        raise bad_request("This sandbox keeps static segments only: provide static_segment.")
    if call.audience.find_tag(body.name) is not None:
        raise bad_request("Sorry, that tag already exists.")
    tag = call.audience.add_tag(body.name, call.now)
    _change(call, tag, _known(call, body.static_segment), add=True)
    return _shown(call, tag)


def get_segment(call: Call) -> Reply:
    """`GET …/segments/{id}`."""
    return _shown(call, _tag(call))


def patch_segment(call: Call, body: SegmentBody) -> Reply:
    """`PATCH …/segments/{id}`: a new name, and, if `static_segment` is given, exactly these members."""
    tag, audience = _tag(call), call.audience
    taken = audience.find_tag(body.name)
    if taken is not None and taken is not tag:
        raise bad_request("Sorry, that tag already exists.")
    if body.name.strip() != tag.name:
        audience.rename_tag(tag, body.name, call.now)
    if body.static_segment is not None:
        everyone = [item for item in audience.contacts.items() if tag.id in item[1].group.tag_ids]
        _change(call, tag, everyone, add=False)
        _change(call, tag, _known(call, body.static_segment), add=True)
    return _shown(call, tag)


def delete_segment(call: Call) -> Reply:
    """`DELETE …/segments/{id}`: the tag is gone from everyone, the members stay."""
    call.audience.delete_tag(_tag(call))
    return Reply(NO_CONTENT, content_type="")


def change_segment_members(call: Call, body: SegmentMembersBody) -> Reply:
    """`POST …/segments/{id}`: add and remove up to 500 each.

    Addresses that are not in the audience are ignored without a word, as documented. Members who have the tag already
    (or do not have it, when removing) are not reported again; the real behaviour is not documented.
    """
    tag = _tag(call)
    adds, removes = body.members_to_add or [], body.members_to_remove or []
    if len(adds) > MAX_ITEMS or len(removes) > MAX_ITEMS:
        raise invalid_resource(
            "Maximum allowed member items exceeded, please provide at most 500 items in members_to_add field or "
            "members_to_remove field"
        )
    added = _change(call, tag, _known(call, adds), add=True)
    removed = _change(call, tag, _known(call, removes), add=False)
    writer = call.writer()
    href = f"{call.api_root}/lists/{call.audience.id}/segments/{tag.id}"
    body_bytes = b'{"members_added":%b,"members_removed":%b,"errors":[],"total_added":%d,"total_removed":%d,' % (
        writer.write_all(added),
        writer.write_all(removed),
        len(added),
        len(removed),
    )
    return Reply(body=body_bytes + b'"error_count":0,"_links":%b}' % encode([link("self", href, "POST")]))


def list_segment_members(call: Call) -> Reply:
    """`GET …/segments/{id}/members`, in pages: subscribed members and whom the flags include."""
    tag = _tag(call)
    return member_page(call, call.audience.listing(_counted_statuses(call), tag.id), "members")


def search_tags(call: Call) -> Reply:
    """`GET …/tag-search?name=`: tags whose name starts with the text, upper and lower case alike."""
    prefix = call.request.query.get("name", "").strip().casefold()
    found = [tag for tag in call.audience.tags.values() if tag.name.casefold().startswith(prefix)]
    return json_reply({"tags": [{"id": tag.id, "name": tag.name} for tag in found], "total_items": len(found)})


def _known(call: Call, addresses: list[str]) -> list[tuple[bytes, Contact]]:
    """Contacts of the audience with one of the addresses; archived ones are no members."""
    found: dict[bytes, Contact] = {}
    for address in addresses:
        key = subscriber_key(address.strip())
        contact = call.audience.find(key)
        if contact is not None and contact.group.status != "archived":
            found[key] = contact
    return list(found.items())


def _change(call: Call, tag: Tag, items: list[tuple[bytes, Contact]], *, add: bool) -> list[tuple[bytes, Contact]]:
    """Give the tag to contacts, or take it away. Returns those for whom that was a change."""
    changed = []
    for key, contact in items:
        had = contact.group.tag_ids
        if (tag.id in had) != add:
            tag_ids = with_tags(had, (tag.id,)) if add else without_tags(had, {tag.id})
            call.audience.regroup(contact, tag_ids=tag_ids)
            contact.changed = call.now
            changed.append((key, contact))
    if changed:
        tag.updated = call.now
        call.audience.revision += 1
    return changed
