"""Batch subscribe: `POST /lists/{list_id}`.

Checked in this order, for the call: shape of the body, at most 500 rows, every row by its schema, the same address
twice. Then row by row: the address, forgotten, already a member, compliance state, merge fields. A row that is refused
is reported in `errors` and the others are applied.
"""

from __future__ import annotations

from dev.sandbox.addresses import subscriber_key
from dev.sandbox.bodies import BatchBody, Row
from dev.sandbox.calls import Call, Tampering
from dev.sandbox.contacts import Options, RowError, RowWriter
from dev.sandbox.http import Reply
from dev.sandbox.problems import invalid_resource
from dev.sandbox.replies import encode, link
from dev.sandbox.store import Contact


def batch_subscribe(call: Call, body: BatchBody) -> Reply:
    """Add and update up to 500 members; answers 200 also when every row was refused."""
    audience = call.audience
    rows = _identified(body.members)
    if len({key for key, _, _ in rows}) < len(rows):
        rows = _without_duplicates(rows, skip=call.flag("skip_duplicate_check"))
    options = Options(
        update_existing=bool(body.update_existing),
        skip_merge_validation=call.flag("skip_merge_validation"),
        tags_reach_existing=call.settings.tags_reach_existing,
        sync_tags=bool(body.sync_tags),
    )
    writer = RowWriter(audience, options, call.now)
    created: list[tuple[bytes, Contact]] = []
    updated: list[tuple[bytes, Contact]] = []
    errors: list[dict[str, str]] = []
    tampering = call.tampering or Tampering()
    if tampering.skip_rows:
        rows = rows[: -tampering.skip_rows]
    for key, email, row in rows:
        try:
            if tampering.member_errors:
                _refuse_by_fault(email, tampering)
            contact, is_new = writer.write(key, email, row)
        except RowError as error:
            errors.append(error.document(row.email_address or ""))
        else:
            (created if is_new else updated).append((key, contact))
    audience.revision += 1
    audience.totals.created += len(created)
    audience.totals.updated += len(updated)
    audience.totals.errors += len(errors)
    if tampering.hide_rows:
        reported = (created + updated)[: -tampering.hide_rows]
        created, updated = reported[: len(created)], reported[len(created) :]
    return _report(call, created, updated, errors)


def _identified(rows: list[Row]) -> list[tuple[bytes, str, Row]]:
    found = []
    for row in rows:
        email = (row.email_address or "").strip()
        found.append((subscriber_key(email), email, row))
    return found


def _without_duplicates(rows: list[tuple[bytes, str, Row]], *, skip: bool) -> list[tuple[bytes, str, Row]]:
    """The first appearance of each address, or 400 for the whole call."""
    seen: set[bytes] = set()
    kept = []
    for key, email, row in rows:
        if key in seen:
            if not skip:
                raise invalid_resource(
                    f"Duplicate items found for email {email}, please provide unique email address per member item"
                )
            continue
        seen.add(key)
        kept.append((key, email, row))
    return kept


def _refuse_by_fault(email: str, tampering: Tampering) -> None:
    lowered = email.lower()
    for part, sentence in tampering.member_errors:
        if part in lowered:
            raise RowError(f"{email} {sentence}" if sentence[:1].islower() else sentence)


def _report(
    call: Call,
    created: list[tuple[bytes, Contact]],
    updated: list[tuple[bytes, Contact]],
    errors: list[dict[str, str]],
) -> Reply:
    writer = call.writer()
    href = f"{call.api_root}/lists/{call.audience.id}"
    links = [link("self", href, "POST", "Definitions/Lists/BatchPOST-Response", "Definitions/Lists/BatchPOST")]
    body = b'{"new_members":%b,"updated_members":%b,"errors":%b,"total_created":%d,"total_updated":%d,' % (
        writer.write_all(created),
        writer.write_all(updated),
        encode(errors),
        len(created),
        len(updated),
    )
    return Reply(body=body + b'"error_count":%d,"_links":%b}' % (len(errors), encode(links)))
