"""Back-up and restore as docs/operations.md describes it: what it tells to copy is enough to go on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from azure.storage.blob import BlobServiceClient

from dev.azurite import Azurite
from dev.sandbox.control import API_KEY, AUDIENCE_ID
from dev.stack import Stack
from shared.storage.names import AUDIT_CONTAINER, STATE_CONTAINER
from tests.integration.hosts_support import far_from_now

OPERATIONS = Path(__file__).resolve().parents[2] / "docs/operations.md"
NEW_PEOPLE = [("1", "ada@mail.example"), ("2", "grace@mail.example")]
COLUMNS = ("CustomerId", "EMail")


def documented_paths() -> tuple[str, ...]:
    """Folders and files of the state that the documentation tells to copy."""
    (paths,) = re.findall(r'--include-path "([^"]+)"', OPERATIONS.read_text(encoding="utf-8"))
    return tuple(paths.split(";"))


def copy_state(source: str, target: str) -> set[str]:
    """Copy what is documented, as azcopy would; returns the first parts of the names that were copied."""
    copied = set()
    with (
        BlobServiceClient.from_connection_string(source) as old,
        BlobServiceClient.from_connection_string(target) as new,
    ):
        for container in (STATE_CONTAINER, AUDIT_CONTAINER):
            there = new.get_container_client(container)
            if not there.exists():
                there.create_container()
            here = old.get_container_client(container)
            for blob in here.list_blobs(include=["metadata"]):
                part = blob.name.split("/")[0]
                if container == AUDIT_CONTAINER or part in documented_paths():
                    data = here.download_blob(blob.name).readall()
                    there.upload_blob(blob.name, data, metadata=dict(blob.metadata or {}), overwrite=True)
                    copied.add(part)
    return copied


def set_up(stack: Stack) -> str:
    body = {"displayName": "Spring", "consent": {"agreed": True}}
    path = f"/api/destinations/{stack.ask('POST', '/api/destinations', json=body)['id']}"
    stack.ask("PUT", f"{path}/export-user")
    stack.ask("PUT", f"{path}/api-key", json={"apiKey": API_KEY})
    configuration = {"audienceId": AUDIENCE_ID, "dataMatching": {"email": "EMail"}, "segments": ["Readers"]}
    stack.ask("PATCH", path, json=configuration)
    stack.ask(
        "PUT",
        "/api/schedule",
        json={"isActive": True, "timeZone": "Europe/Berlin", "times": [far_from_now("Europe/Berlin")]},
    )
    return path


def export(stack: Stack, path: str) -> dict[str, Any]:
    return stack.wait(stack.ask("POST", f"{path}/exports")["id"])


def test_a_restored_state_goes_on_once_somebody_signs_in_again(azurite: Azurite) -> None:
    first, second = map(azurite.connection_string, azurite.accounts[-2:])
    with Stack(storage=first, name="backup-old", grace_seconds=1) as old:
        old.upload_segments({"Readers": NEW_PEOPLE}, columns=COLUMNS)
        path = set_up(old)
        done = export(old, path)
        assert done["status"] == "Successful"
        destination, schedule = old.ask("GET", path), old.ask("GET", "/api/schedule")

    assert copy_state(first, second) >= {"destinations", "exports", "schedule.json", "ledgers"}

    with Stack(storage=second, name="backup-new", grace_seconds=1) as new:
        new.upload_segments({"Readers": NEW_PEOPLE}, columns=COLUMNS)
        assert new.ask("GET", path) == destination
        assert new.ask("GET", "/api/schedule") == schedule
        assert new.ask("GET", f"/api/exports/{done['id']}")["books"] == done["books"]
        assert (
            new.api("POST", "/api/destinations", json={"displayName": "Spring", "consent": {"agreed": True}}).ok
            is False
        )

        # The secret store was not restored: the export fails at once and says what to do.
        refused = export(new, path)
        assert (refused["status"], refused["problem"]["code"]) == ("Failed", "signInRefused")
        new.ask("PUT", f"{path}/api-key", json={"apiKey": API_KEY})
        assert export(new, path)["status"] == "Successful"
