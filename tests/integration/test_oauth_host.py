"""The sign-in to Mailchimp through a real host: over HTTP, by a browser that follows where it is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import pytest
import requests

from dev.stack import Stack
from tests.integration.sign_in_desk import consent, parameter
from tests.support import StorageAccount

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
