"""Single members: `/lists/{list_id}/members` and what is below it."""

from __future__ import annotations

from dev.sandbox.addresses import subscriber_key
from dev.sandbox.bodies import MemberTagsBody, Row
from dev.sandbox.calls import Call
from dev.sandbox.contacts import Options, RowError, RowWriter, tag_ids_of
from dev.sandbox.http import Reply, json_reply
from dev.sandbox.problems import NOT_VALIDATED, ProblemError, bad_request, invalid_resource, not_found
from dev.sandbox.replies import encode, link, shown_time
from dev.sandbox.store import STATUSES, Audience, Contact, with_tags, without_tags

NO_CONTENT = 204
_MEMBERS = frozenset(STATUSES) - {"archived"}


def member_key(audience: Audience, name: str) -> bytes:
    """The key of a member named by subscriber hash, address or contact id. The member need not exist."""
    if "@" in name:
        return subscriber_key(name.strip())
    try:
        key, backwards = bytes.fromhex(name), bytes.fromhex(name[::-1])
    except ValueError:
        raise not_found() from None
    return backwards if audience.find(key) is None and audience.find(backwards) is not None else key


def _existing(call: Call) -> tuple[bytes, Contact]:
    key = member_key(call.audience, call.params[1])
    contact = call.audience.find(key)
    if contact is None:
        raise not_found()
    return key, contact


def list_members(call: Call) -> Reply:
    """`GET …/members`: everyone but the archived, who are listed only when asked for by `status=archived`."""
    status = call.request.query.get("status")
    if status is not None and status not in STATUSES:
        raise bad_request(f"{status} is not a status of a member.")
    found = call.audience.listing(frozenset({status}) if status else _MEMBERS)
    return member_page(call, found, "members")


def member_page(call: Call, found: list[tuple[bytes, Contact]], kind: str) -> Reply:
    """One page of member objects."""
    offset, count = call.page()
    href = f"{call.api_root}{call.request.path.removeprefix('/3.0')}"
    return Reply(
        body=b'{"%b":%b,"list_id":%b,"total_items":%d,"_links":%b}'
        % (
            kind.encode(),
            call.writer().write_all(found[offset : offset + count]),
            encode(call.audience.id),
            len(found),
            encode([link("self", href, "GET", "Definitions/Lists/Members/CollectionResponse")]),
        )
    )


def get_member(call: Call) -> Reply:
    """`GET …/members/{hash}`: archived members are shown, forgotten ones are not there."""
    return _shown(call, *_existing(call))


def _shown(call: Call, key: bytes, contact: Contact) -> Reply:
    return Reply(body=call.writer(whole=True).write(key, contact))


def add_member(call: Call, row: Row) -> Reply:
    """`POST …/members`: an archived contact comes back, a member answers 400 Member Exists."""
    if row.status is None:
        raise invalid_resource(NOT_VALIDATED, [{"field": "", "message": "Required fields were not provided: status"}])
    email = (row.email_address or "").strip()
    key = subscriber_key(email)
    contact = call.audience.find(key)
    if contact is not None and contact.group.status != "archived":
        raise _member_exists(email)
    return _written(call, key, email, row)


def put_member(call: Call, row: Row) -> Reply:
    """`PUT …/members/{hash}`: add or update. Without `status` an existing member keeps the status."""
    audience = call.audience
    key = member_key(audience, call.params[1])
    contact = audience.find(key)
    if contact is not None:
        return _updated(call, key, contact, row)
    email = (row.email_address or "").strip()
    if row.status is None and row.status_if_new is None:
        sentence = "Required fields were not provided: status_if_new"
        raise invalid_resource(NOT_VALIDATED, [{"field": "", "message": sentence}])
    if audience.find(subscriber_key(email)) is not None:
        raise _member_exists(email)
    return _written(call, subscriber_key(email), email, row)


def patch_member(call: Call, row: Row) -> Reply:
    """`PATCH …/members/{hash}`: change what is given."""
    return _updated(call, *_existing(call), row)


def _updated(call: Call, key: bytes, contact: Contact, row: Row) -> Reply:
    email = (row.email_address or contact.email).strip()
    new_key = subscriber_key(email)
    if new_key != key and call.audience.find(new_key) is not None:
        raise _member_exists(email)
    reply = _written(call, key, email, row)
    if new_key == key:
        return reply
    call.audience.move(key, new_key, email)
    return _shown(call, new_key, contact)


def _written(call: Call, key: bytes, email: str, row: Row) -> Reply:
    options = Options(
        update_existing=True,
        skip_merge_validation=call.flag("skip_merge_validation"),
        tags_reach_existing=call.settings.tags_reach_existing,
    )
    try:
        contact, _ = RowWriter(call.audience, options, call.now).write(key, email, row)
    except RowError as error:
        raise error.problem() from None
    if row.marketing_permissions is not None:
        contact.extra = {**(contact.extra or {}), "marketing_permissions": row.marketing_permissions}
    call.audience.revision += 1
    return _shown(call, key, contact)


def _member_exists(email: str) -> ProblemError:
    detail = f"{email} is already a list member. Use PUT to insert or update list members."
    return ProblemError(400, "Member Exists", detail, type_url=None)


def archive_member(call: Call) -> Reply:
    """`DELETE …/members/{hash}`: the contact is archived and keeps its tags."""
    _, contact = _existing(call)
    if contact.group.status in ("archived", "cleaned", "pending"):
        raise ProblemError(
            405,
            "Method Not Allowed",
            "This list member cannot be removed. Can not archive a contact that is bounced, pending or archived",
            headers=(("Allow", "GET, PUT"),),
        )
    call.audience.regroup(contact, "archived")
    contact.changed = call.now
    call.audience.revision += 1
    return Reply(NO_CONTENT, content_type="")


def forget_member(call: Call) -> Reply:
    """`POST …/actions/delete-permanent`: the address cannot come back through the API."""
    key, _ = _existing(call)
    call.audience.forget(key)
    return Reply(NO_CONTENT, content_type="")


def change_tags(call: Call, body: MemberTagsBody) -> Reply:
    """`POST …/members/{hash}/tags`: these tags do reach existing members, whatever the settings say."""
    _, contact = _existing(call)
    audience = call.audience
    active = tag_ids_of(audience, [tag.name for tag in body.tags if tag.status == "active"], call.now)
    found = (audience.find_tag(tag.name) for tag in body.tags if tag.status == "inactive")
    inactive = {tag.id for tag in found if tag is not None}
    audience.regroup(contact, tag_ids=with_tags(without_tags(contact.group.tag_ids, inactive), active))
    contact.changed = call.now
    audience.revision += 1
    return Reply(NO_CONTENT, content_type="")


def list_member_tags(call: Call) -> Reply:
    """`GET …/members/{hash}/tags`, in pages."""
    _, contact = _existing(call)
    offset, count = call.page()
    tags = [call.audience.tags[tag_id] for tag_id in contact.group.tag_ids]
    shown = [{"id": tag.id, "name": tag.name, "date_added": shown_time(tag.created)} for tag in tags]
    return json_reply({"tags": shown[offset : offset + count], "total_items": len(shown)})
