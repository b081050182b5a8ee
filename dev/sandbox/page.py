"""The page of what the sandbox holds: one HTML document without any other files."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import msgspec

from dev.sandbox.app import Sandbox
from dev.sandbox.http import Reply, Request
from dev.sandbox.store import Account, Audience, Contact

PAGE_ROWS = 50
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#222;margin:2rem auto;max-width:76rem;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2rem;border-bottom:1px solid #ddd}h3{font-size:1rem}
table{border-collapse:collapse;margin:.5rem 0}
th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #eee;
vertical-align:top}th{font-weight:600;color:#555}td.n{text-align:right}code{background:#f4f4f4;padding:0 .2rem}
.muted{color:#777}input{font:inherit;padding:.2rem .4rem}
"""


def show_page(sandbox: Sandbox, request: Request) -> Reply:
    """Accounts, audiences, tags, a page of contacts with a search, recent calls, settings and faults."""
    query = request.query
    parts = [_overview(sandbox)]
    for account in sandbox.world.accounts.values():
        parts.append(_account(account))
        for audience in account.audiences.values():
            mine = query.get("audience", "") == audience.id
            parts.append(_audience(audience, query if mine else {}))
    parts += [_calls(sandbox), _settings(sandbox)]
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Mailchimp sandbox</title>'
        f"<style>{_STYLE}</style></head><body><h1>Mailchimp sandbox</h1>{''.join(parts)}</body></html>"
    )
    return Reply(body=text.encode("utf-8", "replace"), content_type="text/html; charset=utf-8")


def _table(headings: tuple[str, ...], rows: list[tuple[Any, ...]], nothing: str) -> str:
    """A table; every cell is escaped, numbers stand to the right."""
    if not rows:
        return f'<p class="muted">{escape(nothing)}</p>'
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    return f"<td>{escape('' if value is None else str(value))}</td>"


def _overview(sandbox: Sandbox) -> str:
    journal = sandbox.journal
    return (
        f"<p>Answers like the Mailchimp Marketing API at <code>{escape(sandbox.address)}/3.0</code>. "
        f"Calls: <b>{sum(journal.by_kind.values()):,}</b>, open now: <b>{journal.open_calls}</b>, "
        f"most at once: <b>{journal.max_open_calls}</b>.</p>"
    )


def _account(account: Account) -> str:
    return (
        f"<h2>Account {escape(account.name)}</h2><p>Keys: "
        + ", ".join(f"<code>{escape(key)}</code>" for key in sorted(account.keys))
        + f'; tokens: {len(account.tokens)}. <span class="muted">Open calls now {account.open_calls}, '
        f"most at once {account.max_open_calls}.</span></p>"
    )


def _audience(audience: Audience, query: dict[str, str]) -> str:
    counts = audience.count_by_tag()
    tags = [(tag.name, sum(counts[tag.id].values()), tag.id) for tag in audience.tags.values()]
    statuses = list(audience.count_by_status().items())
    return (
        f"<h3>Audience {escape(audience.name)} <code>{escape(audience.id)}</code>: "
        f"{len(audience.contacts):,} contacts</h3>"
        + _table(("Status", "Contacts"), statuses, "No contacts yet.")
        + _table(("Tag", "Contacts", "Segment id"), tags, "No tags yet.")
        + f'<p class="muted">Merge fields: {escape(", ".join(audience.merge_fields))}. Batch calls so far: '
        f"{audience.totals.created:,} created, {audience.totals.updated:,} updated, {audience.totals.errors:,} errors. "
        f"Forgotten addresses: {len(audience.forgotten):,}.</p>" + _contacts(audience, query)
    )


def _contacts(audience: Audience, query: dict[str, str]) -> str:
    wanted = query.get("q", "").strip().lower()
    offset = int(query["offset"]) if query.get("offset", "").isdigit() else 0
    found = (contact for contact in audience.contacts.values() if not wanted or _mentions(audience, contact, wanted))
    page = list(islice(found, offset, offset + PAGE_ROWS + 1))
    tags = tuple(audience.merge_fields)
    rows = [
        (
            contact.email,
            contact.group.status + (" (compliance)" if contact.group.compliance else ""),
            ", ".join(audience.names_of(contact.group)),
            ", ".join(f"{tag}: {value}" for tag, value in zip(tags, contact.merge, strict=False) if value != ""),
        )
        for contact in page[:PAGE_ROWS]
    ]
    more = ""
    if len(page) > PAGE_ROWS:
        link = urlencode({"audience": audience.id, "q": wanted, "offset": offset + PAGE_ROWS})
        more = f'<p><a href="/_sandbox/?{escape(link)}">Next {PAGE_ROWS}</a></p>'
    return (
        f'<form action="/_sandbox/"><input type="hidden" name="audience" value="{escape(audience.id)}">'
        f'<input name="q" placeholder="part of an address, a name or a tag" size="40" value="{escape(wanted)}"> '
        "<button>Search</button></form>"
        + _table(("Address", "Status", "Tags", "Merge fields"), rows, "No contacts found.")
        + more
    )


def _mentions(audience: Audience, contact: Contact, text: str) -> bool:
    if text in contact.email.lower() or any(text in str(value).lower() for value in contact.merge):
        return True
    return any(text in name.lower() for name in audience.names_of(contact.group))


def _calls(sandbox: Sandbox) -> str:
    recent = list(sandbox.journal.recent)[-40:][::-1]
    rows = [
        (
            f"{datetime.fromtimestamp(record.start, UTC):%H:%M:%S.%f}"[:-3],
            record.method,
            record.path,
            record.rows,
            "open" if record.status is None else str(record.status or "reset"),
            "" if record.end is None else f"{(record.end - record.start) * 1000:.1f} ms",
            record.fault,
        )
        for record in recent
    ]
    headings = ("Start (UTC)", "Method", "Path", "Members", "Answer", "Took", "Fault")
    kinds = sorted(sandbox.journal.by_kind.items())
    return (
        "<h2>Calls</h2>" + _table(("Kind", "Calls"), kinds, "No calls yet.") + _table(headings, rows, "No calls yet.")
    )


def _settings(sandbox: Sandbox) -> str:
    settings = [(name, str(value)) for name, value in msgspec.to_builtins(sandbox.settings).items()]
    faults = [
        (fault["action"], msgspec.json.encode(fault["match"]).decode(), armed["seen"], armed["struck"])
        for armed in sandbox.faults.document()
        for fault in [armed["fault"]]
    ]
    return (
        "<h2>Settings</h2>"
        + _table(("Setting", "Value"), settings, "")
        + "<h2>Faults</h2>"
        + _table(("Action", "Match", "Calls seen", "Struck"), faults, "No faults are set.")
    )
