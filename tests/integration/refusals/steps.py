"""Whom Mailchimp refuses, who of them is remembered, and how they are cleared or outlive their time."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta

from shared.destinations.model import Destination
from shared.storage import names
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import ACCOUNT, AUDIENCE, SUBSCRIBE, TESTER, Engine, people

MEMORY = names.refusals(ACCOUNT, AUDIENCE)
FAKE = "only-mailchimp-knows@mailinator.com"
FORGOTTEN = "forgotten@mail.example"


def with_two_who_are_refused(engine: Engine) -> Destination:
    """Five people whom Mailchimp takes, one whom it thinks fake, and one who was deleted there for good."""
    engine.sandbox.add_contacts([{"email_address": FORGOTTEN, "forgotten": True}])
    engine.write_segment("Readers", [*people(5), {"EMail": FAKE}, {"EMail": FORGOTTEN}])
    return engine.destination(["Readers"])


def refuse(engine: Engine, address: str, detail: str = "is in a compliance state due to unsubscribe") -> None:
    """Have Mailchimp refuse everybody whose address contains this."""
    match = {**SUBSCRIBE, "emailContains": address}
    engine.sandbox.set_faults({"action": "memberError", "match": match, "detail": detail})


def remembered(engine: Engine, destination: Destination, code: str | None = None) -> dict[str, str]:
    """Who is left out, with the reason."""
    found = engine.product.suppressed.members(destination, code, None, 1000)
    return {member.email: member.code for member in found.members}


def clear(engine: Engine, destination: Destination, *emails: str) -> int:
    return engine.product.suppressed.clear(destination, list(emails) or None, TESTER).count


def days_pass(engine: Engine, days: float) -> datetime:
    later = datetime.now(UTC) + timedelta(days=days)
    engine.product.refusals._now = lambda: later
    object.__setattr__(engine.product.sweeper._tools, "now", lambda: later)
    return later


def until_finish(engine: Engine, export_id: str) -> bytes:
    """Prepare and send; returns the message that has the export finished."""
    for stage in (PREPARE_QUEUE, LANES_QUEUE):
        for queue, message in engine.receive([stage]):
            engine.handle(queue, message)
    while True:
        for _, message in engine.receive([FINISH_QUEUE]):
            body = b64decode(message.content)
            if json.loads(body)["exportId"] == export_id:
                return body
