"""The application whose audit log is looked at, and what is in that log."""

from __future__ import annotations

from typing import Any, Final

from dev.sandbox.control import SandboxControl
from shared.audit.model import AuditRecord
from shared.settings import StorageConnection
from shared.storage.clients import blob_service
from shared.storage.names import AUDIT_CONTAINER
from tests.integration.api_support import App
from tests.integration.engine import build_engine, people
from tests.support import StorageAccount

KEY: Final = "0123456789abcdef0123456789abcdef-us1"
SETTINGS: Final = {"WEBSITE_AUTH_ENABLED": "True", "PUBLIC_URL": "https://app.example"}


def audited_app(storage_account: StorageAccount, sandbox: SandboxControl) -> App:
    """Behind the platform's sign-in, with a segment, and with a key to Mailchimp that is found nowhere else."""
    sandbox.add_key(value=KEY)
    engine = build_engine(storage_account.connection_string, sandbox, **SETTINGS)
    engine.write_segment("Readers", people(3))
    return App(engine)


def audit_blobs(app: App) -> dict[str, bytes]:
    service = blob_service(StorageConnection(connection_string=app.engine.connection_string))
    container = service.get_container_client(AUDIT_CONTAINER)
    return {name: container.download_blob(name).readall() for name in sorted(container.list_blob_names())}


def records(app: App) -> list[AuditRecord]:
    """Everything that was recorded, the oldest first."""
    return [AuditRecord.from_bytes(data) for data in audit_blobs(app).values()]


def assert_unbroken(found: list[AuditRecord]) -> None:
    """Of every destination, each change begins where the one before it ended: none is missing, none is there twice."""
    last: dict[tuple[str, str], Any] = {}
    for each in found:
        for change in each.changes if each.target_type != "export" else ():  # those tell what was, not what changed
            assert last.get((each.target_id, change.property)) == change.before, each
            assert change.before != change.after
            last[each.target_id, change.property] = change.after
