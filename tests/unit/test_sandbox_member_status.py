"""What the sandbox makes of each ``status_if_new``: reference/mailchimp.md 2.1 and 2.10."""

from __future__ import annotations

import pytest

from dev.sandbox.in_process import InProcessSandbox, row
from dev.sandbox.store import STATUSES

NEW = ["subscribed", "transactional", "pending"]


@pytest.fixture
def client() -> InProcessSandbox:
    return InProcessSandbox()


@pytest.mark.parametrize("status", NEW)
def test_a_new_contact_gets_its_status_and_its_tags(client: InProcessSandbox, status: str) -> None:
    answer = client.subscribe(row("a@mail.example", status_if_new=status, tags=["T"]))
    assert (answer["total_created"], answer["new_members"][0]["status"]) == (1, status)
    held = client.held()["a@mail.example"]
    assert (held["status"], held["tags"]) == (status, ["T"])


@pytest.mark.parametrize("status", NEW)
@pytest.mark.parametrize("state", [state for state in STATUSES if state != "archived"])
def test_a_member_keeps_theirs_and_gets_the_data(client: InProcessSandbox, status: str, state: str) -> None:
    client.preload({"email_address": "a@mail.example", "status": state})
    answer = client.subscribe(row("a@mail.example", status_if_new=status, merge_fields={"FNAME": "Ada"}))
    assert (answer["total_updated"], answer["updated_members"][0]["status"]) == (1, state)
    assert client.held()["a@mail.example"]["merge_fields"] == {"FNAME": "Ada"}


@pytest.mark.parametrize("status", NEW)
def test_an_archived_contact_comes_back_with_it_as_if_it_were_new(client: InProcessSandbox, status: str) -> None:
    client.preload({"email_address": "a@mail.example", "status": "archived"})
    assert client.subscribe(row("a@mail.example", status_if_new=status))["total_created"] == 1
    assert client.held()["a@mail.example"]["status"] == status


def test_pending_and_transactional_contacts_are_no_subscribers(client: InProcessSandbox) -> None:
    """``member_count`` of an audience and of a tag counts active subscribers only."""
    client.subscribe(*(row(f"{status}@mail.example", status_if_new=status, tags=["T"]) for status in NEW))
    audience = client.json("GET", "/3.0/lists/a1b2c3d4e5")
    (tag,) = client.json("GET", "/3.0/lists/a1b2c3d4e5/segments")["segments"]
    assert (audience["stats"]["member_count"], tag["member_count"]) == (1, 1)
