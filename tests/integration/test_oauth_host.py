"""The sign-in to Mailchimp through a real host: over HTTP, by a browser that follows where it is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
import requests

from dev.stack import Stack
from shared.destinations.authorization import Authorization
from shared.destinations.loose_secrets import LooseSecret
from shared.settings import StorageConnection
from shared.storage import names
from shared.storage.clients import blob_service
from shared.storage.documents import Documents
from tests.integration.sign_in_desk import ADA, consent, parameter
from tests.support import StorageAccount, wait_for

PORTAL = "http://localhost:3000"


@pytest.fixture
def stack(storage_account: StorageAccount) -> Iterator[Stack]:
    settings = {"PORTAL_ORIGINS": PORTAL}
    with Stack(storage=storage_account.connection_string, settings=settings, name=storage_account.name) as running:
        yield running


def test_a_browser_signs_a_destination_in_over_http_and_no_log_tells_how(stack: Stack) -> None:
    made = stack.ask("POST", "/api/destinations", json={"displayName": "Campaigns", "consent": {"agreed": True}})
    path = f"/api/destinations/{made['id']}"
    came_back = [consent(stack.ask("POST", f"{path}/authorize")["authorizeUrl"])]
    browser = requests.Session()
    browser.trust_env = False
    page = browser.get(came_back[0], timeout=30)
    assert page.status_code == 200
    assert "Connected to Mailchimp as Sandbox Co, you can close this window." in unescape(page.text)
    assert "script" not in page.text
    assert browser.get(came_back[0], timeout=30).status_code == 409

    verified = stack.ask("POST", f"{path}/verify")
    assert (verified["accountName"], verified["role"]) == ("Sandbox Co", "owner")

    came_back.append(consent(stack.ask("POST", f"{path}/authorize", json={"returnTo": PORTAL})["authorizeUrl"]))
    doubled = f"{came_back[1]}&{came_back[1].partition('?')[2]}"
    assert browser.get(doubled, timeout=30, allow_redirects=False).status_code == 400  # the host joins them by a comma
    sent_on = browser.get(came_back[1], timeout=30, allow_redirects=False)
    assert sent_on.status_code == 303
    assert sent_on.headers["Location"] == f"{PORTAL}?mailchimp=connected&destinationId={made['id']}"
    browser.close()

    (account,) = stack.sandbox.state()["accounts"]
    logs = "".join(file.read_text(encoding="utf-8") for file in stack.log_folder.glob(f"{stack.name}-*.log"))
    assert len(re.findall(r"authorization\.ended", logs)) == 2
    hidden = [*account["tokens"], *(parameter(each, name) for each in came_back for name in ("state", "code"))]
    assert len(hidden) == 6
    assert [secret for secret in hidden if secret in logs] == []


def test_the_daily_timer_deletes_old_sign_ins_and_secrets_that_nothing_points_to(stack: Stack) -> None:
    service = blob_service(StorageConnection(connection_string=stack.storage))
    documents = Documents(service.get_container_client(names.STATE_CONTAINER))
    day_before = datetime.now(UTC) - timedelta(days=1)
    old = Authorization(who=ADA, destination_id="d1", created_at=day_before)
    note = LooseSecret(destination_id="d1", noted_at=day_before)
    secret = f"{names.SECRETS_PREFIX}mc-d1-0001"
    left_over = {
        names.authorization("a state"): old.to_bytes(),
        names.loose_secret("mc-d1-0001"): note.to_bytes(),
        secret: b"encrypted",
    }
    for name, data in left_over.items():
        documents.create(name, data)
    asked = requests.post(f"{stack.hosts[0].address}/admin/functions/expire", json={"input": ""}, timeout=30)
    assert asked.status_code == 202
    wait_for(lambda: not any(documents.exists(name) for name in left_over), "the timer")
