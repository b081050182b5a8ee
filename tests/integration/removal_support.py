"""What the tests of removals share: a second process on the same storage, and storage that stops at a chosen moment."""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
from azure.storage.blob import BlobServiceClient

from shared.audit.model import AuditRecord
from shared.destinations.model import ChosenAudience, Destination, Removal, TagsOnRemoval
from shared.destinations.store import StoredDestination
from shared.exports.model import Export, Status
from shared.mailchimp import MailchimpClient, TagReply
from shared.storage import names
from shared.storage.documents import Documents
from shared.storage.names import AUDIT_CONTAINER
from tests.integration.engine import ACCOUNT, AUDIENCE, KEY, TESTER, Engine, build_engine

OPERATIONS = (
    "read",
    "create",
    "write",
    "replace",
    "upload",
    "upload_over",
    "download",
    "delete",
    "delete_all",
    "list",
    "exists",
)
HISTORY = (
    "state/exports/",
    "state/by-destination/",
    "state/counts/",
    "audit/",
)
"""What a removed destination may leave: its history, the audit log, how many rows a segment has, ..."""
CONNECTION = re.compile(r"state/accounts/[^/]+/(lanes/\d+|pace\.json)")
"""... and what the app knows of an account, which other destinations use: its connections (empty blobs), its pace."""
REMOVE, KEEP = TagsOnRemoval.REMOVE, TagsOnRemoval.KEEP


class Killed(BaseException):
    """The process ends here: nothing catches this."""


class Stops:
    """Runs an action just before the n-th call of the given storage."""

    def __init__(self, documents: Documents) -> None:
        self.reached = False
        self._left = 0
        self._action: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        for name in OPERATIONS:
            setattr(documents, name, self._counting(getattr(documents, name)))

    def at(self, number: int, action: Callable[[], object]) -> None:
        """Run ``action`` before the call ``number`` (1, 2, …) from now on."""
        self._left, self._action, self.reached = number, action, False

    def off(self) -> bool:
        """Run nothing any more; returns whether the call was reached."""
        self._left = 0
        return self.reached

    def _counting(self, operation: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **options: object) -> object:
            with self._lock:
                self._left -= 1
                strikes = self._left == 0
            if strikes:
                self.reached = True
                self._action()
            return operation(*arguments, **options)

        return counted


def kill() -> None:
    raise Killed


def another_process(engine: Engine, **settings: str) -> Engine:
    """A product of its own on the same storage and the same sandbox."""
    return build_engine(engine.connection_string, engine.sandbox, **settings)


def destination(engine: Engine, *segments: str, id_: str = "d1", audience: str = AUDIENCE) -> Destination:
    made = engine.destination(segments or ("Readers",), id_=id_)
    if audience == AUDIENCE:
        return made

    def point(newest: Destination) -> Destination:
        newest.audience = ChosenAudience(id=audience, name="Another")
        return newest

    return engine.product.destination_store.change(id_, point, by=TESTER, action="test").destination


def pretend_exported(engine: Engine, made: Destination) -> str:
    """Leave behind what an export leaves, without the time that it takes; returns its ID."""
    store, now = engine.product.store, datetime.now(UTC)
    export = Export(
        id=f"{now:%Y%m%dT%H%M%S%fZ}-{made.id}",
        destination_id=made.id,
        destination_name=made.display_name,
        trigger="onDemand",
        requested_by=TESTER.name,
        status=Status.SUCCESSFUL,
        created_at=now,
        ended_at=now,
    )
    store.create(export)
    store.documents.delete(names.active(export.id))
    store.claim(made.id, export.id)
    profiles = b"person0@mail.example"
    for name in (
        names.rejected(export.id),
        names.members(export.id, "a"),
        names.ledger(made.id, AUDIENCE),
        names.refusals(ACCOUNT, AUDIENCE),
    ):
        store.documents.write(name, profiles)
    store.documents.write(names.idempotency(made.id, "0" * 64), b"{}")
    engine.product.destination_store.claim_name(made.display_name, made.id)
    return export.id


def addresses(count: int, start: int = 0) -> list[str]:
    """Those of ``people(count, start)``."""
    return [f"person{n}@mail.example" for n in range(start, start + count)]


def pretend_tagged(
    engine: Engine, made: Destination, tags: Mapping[str, Iterable[str]], audience: str = AUDIENCE
) -> None:
    """Leave what an export leaves that gave these tags to these addresses: a ledger, and contacts in Mailchimp."""
    by_address: dict[str, list[str]] = {}
    for tag, addresses in tags.items():
        for address in addresses:
            by_address.setdefault(address, []).append(tag)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        lines, ledger = Path(folder) / "ledger.ndjson", Path(folder) / "ledger.parquet"
        lines.write_text("".join(json.dumps({"email": a, "tags": json.dumps(t)}) + "\n" for a, t in by_address.items()))
        connection.execute(
            f"COPY (SELECT email, CAST(0 AS HUGEINT) AS payload, tags FROM read_json('{lines}', columns ="
            f" {{email: 'VARCHAR', tags: 'VARCHAR'}})) TO '{ledger}' (FORMAT parquet)"
        )
        engine.product.documents.upload(names.ledger(made.id, audience), ledger)
    held = {member["email_address"]: member["tags"] for member in engine.sandbox.members(audience)}
    engine.sandbox.add_contacts(
        [
            {"email_address": address, "status": "subscribed", "tags": sorted({*given, *held.get(address, [])})}
            for address, given in by_address.items()
        ],
        audience,
    )


def remove(engine: Engine, id_: str = "d1", tags: TagsOnRemoval | None = None) -> StoredDestination | None:
    return engine.product.removals.remove(id_, TESTER, tags=tags)


def removal_of(engine: Engine, id_: str = "d1") -> Removal:
    found = engine.product.destination_store.get(id_).destination.removal
    assert found is not None
    return found


def is_gone(engine: Engine, id_: str = "d1") -> bool:
    return engine.product.destination_store.find(id_) is None


def handle(engine: Engine, *queues: str) -> None:
    """Handle the messages of each queue in turn, also those that the one before has sent to it."""
    for queue in queues:
        for name, message in engine.receive([queue]):
            engine.handle(name, message)


def work_off(engine: Engine) -> int:
    """Handle messages, one after the other, until none is visible; returns how many there were."""
    handled = 0
    while messages := engine.receive():
        for queue, message in messages:
            engine.handle(queue, message)
            handled += 1
    return handled


def minutes_pass(engine: Engine, minutes: float = 3) -> None:
    """For everything that waits: clocks go on, and the timer comes by."""
    later = datetime.now(UTC) + timedelta(minutes=minutes)
    product = engine.product
    product.removals._clock = lambda: later
    for tools in (product.untagger._tools, product.sweeper._tools, product.lanes._tools, product.preparer._tools):
        object.__setattr__(tools, "now", lambda: later)
    product.sweeper.sweep()
    product.removals.finish_removals()


def complete(engine: Engine, id_: str = "d1") -> None:
    """Let messages and timers do their work until the destination is gone and nothing is left to do."""
    for round_ in range(1, 12):
        work_off(engine)
        if is_gone(engine, id_) and not list(engine.product.store.active()):
            minutes_pass(engine, 3 * round_)
            work_off(engine)
            return
        minutes_pass(engine, 3 * round_)
    raise AssertionError(f"the removal does not end: {engine.product.destination_store.find(id_)}")


def forget_history(engine: Engine) -> None:
    """Delete the exports of the history, so that looking through it does not take more steps each time."""
    engine.product.documents.delete_all(names.EXPORTS_PREFIX)


def everything(connection_string: str) -> dict[str, bytes]:
    """Every blob of the storage account, but for the segments and what the Functions host keeps."""
    return dict(_blobs(connection_string))


def _blobs(connection_string: str) -> Iterator[tuple[str, bytes]]:
    with BlobServiceClient.from_connection_string(connection_string) as service:
        for container in service.list_containers():
            if container.name in {"segments", "azure-webjobs-hosts"}:
                continue
            client = service.get_container_client(container.name)
            for blob in client.list_blobs(include="metadata"):
                content = client.download_blob(blob.name).readall() + repr(blob.metadata).encode()
                yield f"{container.name}/{blob.name}", content


def left_behind(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Blobs that were not there before, and neither history nor audit nor a connection."""
    new = sorted(after.keys() - before.keys())
    return [name for name in new if not name.startswith(HISTORY) and not CONNECTION.fullmatch(name)]


def assert_nothing_is_left(engine: Engine, before: dict[str, bytes]) -> None:
    after = everything(engine.connection_string)
    assert left_behind(before, after) == []
    for name, content in after.items():
        assert b"@mail.example" not in content, f"{name} holds an address"
        assert KEY.encode() not in content


def audit_of(engine: Engine, id_: str = "d1") -> list[AuditRecord]:
    """What the audit log holds of a destination, in the order of time."""
    with BlobServiceClient.from_connection_string(engine.connection_string) as service:
        client = service.get_container_client(AUDIT_CONTAINER)
        records = [
            AuditRecord.from_bytes(client.download_blob(blob.name).readall())
            for blob in sorted(client.list_blobs(), key=lambda blob: str(blob.name))
        ]
    return [record for record in records if record.target_id == id_]


def last_word(engine: Engine, id_: str = "d1") -> str:
    """What the audit log says became of Mailchimp's side."""
    [removed] = [record for record in audit_of(engine, id_) if record.action == "destination.removed"]
    return removed.detail or ""


def tagged(engine: Engine, tag: str) -> set[str]:
    return {address for address, member in engine.members().items() if tag in member["tags"]}


def untag_calls(engine: Engine) -> list[dict[str, object]]:
    return [call for call in engine.sandbox.calls("segmentMembers") if call["method"] == "POST"]


@contextmanager
def untagging(step: Callable[[int, Callable[[], TagReply]], TagReply]) -> Iterator[None]:
    """``step`` makes each call that takes a tag away, or not. It is told the number of the call, from 1."""
    untag, numbers = MailchimpClient.untag_members, count(1)

    def untag_members(client: MailchimpClient, *arguments: Any) -> TagReply:
        return step(next(numbers), partial(untag, client, *arguments))

    with patch.object(MailchimpClient, "untag_members", untag_members):
        yield
