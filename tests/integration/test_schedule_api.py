"""The calls of the schedule, with real storage: roles, ETags, what is answered, what is refused, what is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.audit.model import AuditRecord
from shared.bootstrap import Product, Surroundings, bootstrap
from shared.settings import read_settings
from shared.storage.clients import blob_service
from shared.storage.documents import Documents
from shared.storage.names import AUDIT_CONTAINER
from tests.adapter import Adapter
from tests.support import StorageAccount
from tests.unit.api_caller import Reply, signed_in
from tests.unit.schedule_fakes import NOW, SIX, Clock, own

DAILY = {"isActive": True, "timeZone": "W. Europe Standard Time", "times": ["18:30", "06:00"]}
DEPLOYED = {
    "WEBSITE_SITE_NAME": "app-1",
    "WEBSITE_AUTH_ENABLED": "True",
    "KEY_VAULT_URL": "https://kv-1.vault.azure.net",
    "PUBLIC_URL": "https://app-1.azurewebsites.net",
}


class Caller:
    """The whole API over one storage account, at a time that the test sets."""

    def __init__(self, account: StorageAccount, **settings: str) -> None:
        self.clock = Clock(NOW)
        self.settings = read_settings({"AzureWebJobsStorage": account.connection_string, **settings})
        self.product: Product = bootstrap(self.settings, Surroundings(now=self.clock))
        self.product.ensure_storage()
        self._runner = asyncio.Runner()
        self._adapter = Adapter(self.product.api, Reply, self._runner.run)

    def close(self) -> None:
        self._runner.close()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        sent = {"Host": "127.0.0.1:7071", **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self._adapter.call(method, f"{self.settings.public_url}{path}", sent, body)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.call(method, path, body)
        assert reply.status < 300, reply.body
        return reply.json

    def destination(self, name: str = "Newsletter") -> str:
        """A destination that is not set up yet; returns its path."""
        made = self.ask("POST", "/api/destinations", {"displayName": name, "consent": {"agreed": True}})
        return f"/api/destinations/{made['id']}"

    def records(self) -> list[AuditRecord]:
        """What the audit log holds of the schedule, the oldest first."""
        container = blob_service(self.settings.storage).get_container_client(AUDIT_CONTAINER)
        documents = Documents(container)
        found = [documents.read(entry.name) for entry in documents.list("")]
        records = [AuditRecord.from_bytes(each.data) for each in found if each is not None]
        return [record for record in records if record.target_type == "schedule"]


@pytest.fixture
def api(storage_account: StorageAccount) -> Iterator[Caller]:
    caller = Caller(storage_account)
    yield caller
    caller.close()


def test_the_schedule_is_off_at_first_and_has_an_etag_all_the_same(api: Caller) -> None:
    reply = api.call("GET", "/api/schedule")
    assert reply.status == 200
    assert reply.headers["etag"] == '"never-set"'
    assert reply.json == {
        "isActive": False,
        "frequency": "daily",
        "days": [],
        "times": ["00:00"],
        "timeZone": "UTC",
        "nextRuns": [],
        "nextRunAt": None,
        "lastRunAt": None,
        "updatedAt": None,
        "updatedBy": None,
    }


def test_setting_it_answers_what_is_kept_and_the_next_five_runs(api: Caller) -> None:
    reply = api.call("PUT", "/api/schedule", DAILY, If_Match='"never-set"')
    assert reply.status == 200
    assert reply.json == {
        "isActive": True,
        "frequency": "daily",
        "days": [],
        "times": ["06:00", "18:30"],
        "timeZone": "Europe/Berlin",
        "nextRuns": [
            "2026-11-23T17:30:00Z",
            "2026-11-24T05:00:00Z",
            "2026-11-24T17:30:00Z",
            "2026-11-25T05:00:00Z",
            "2026-11-25T17:30:00Z",
        ],
        "nextRunAt": "2026-11-23T17:30:00Z",
        "lastRunAt": None,
        "updatedAt": "2026-11-23T12:00:00Z",
        "updatedBy": "local user",
    }
    again = api.call("GET", "/api/schedule")
    assert (again.json, again.headers["etag"]) == (reply.json, reply.headers["etag"])


def test_a_change_for_an_old_version_is_refused(api: Caller) -> None:
    first = api.call("PUT", "/api/schedule", DAILY)
    second = api.call("PUT", "/api/schedule", {**DAILY, "times": ["07:00"]}, If_Match=first.headers["etag"])
    assert second.status == 200
    for old in (first.headers["etag"], '"never-set"', '"0x0"'):
        refused = api.call("PUT", "/api/schedule", DAILY, If_Match=old)
        assert (refused.status, refused.error["code"]) == (412, "scheduleChanged")
    assert api.call("GET", "/api/schedule").headers["etag"] == second.headers["etag"]
    assert api.call("PUT", "/api/schedule", DAILY, If_Match="*").status == 200


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"timeZone": "Mars/Olympus"}, "timeZone"),
        ({"times": []}, "times"),
        ({"times": ["01:00", "02:00", "03:00", "04:00", "05:00"]}, "times"),
        ({"times": ["24:00"]}, "times[0]"),
        ({"times": ["6:00"]}, "times[0]"),
        ({"times": ["06:00", "06:00"]}, "times"),
        ({"days": ["someday"]}, "days[0]"),
        ({"days": ["monday", "monday"]}, "days"),
        ({"frequency": "weekly"}, "days"),
        ({"frequency": "daily", "days": ["monday"]}, "days"),
        ({"frequency": "hourly"}, "frequency"),
        ({"isActive": "yes"}, "isActive"),
        ({"nextRunAt": "2026-11-23T17:30:00Z"}, "nextRunAt"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(api: Caller, changes: Mapping[str, Any], target: str) -> None:
    refused = api.call("PUT", "/api/schedule", {**DAILY, **changes})
    assert (refused.status, refused.error["target"]) == (422, target)
    assert api.call("GET", "/api/schedule").json["isActive"] is False


def test_viewers_read_and_administrators_set(storage_account: StorageAccount) -> None:
    api = Caller(storage_account, **DEPLOYED)
    try:
        roles = {role: signed_in([role] if role else []) for role in ("", "Viewer", "Contributor", "Administrator")}
        found = {
            role: (
                api.call("GET", "/api/schedule", **header).status,
                api.call("GET", "/api/destinations/nobody/schedule", **header).status,
                api.call("PUT", "/api/schedule", DAILY, **header).status,
            )
            for role, header in roles.items()
        }
        assert found == {
            "": (403, 403, 403),
            "Viewer": (200, 404, 403),
            "Contributor": (200, 404, 403),
            "Administrator": (200, 404, 200),
        }
        (record,) = api.records()
        assert (record.who.name, record.action) == ("ada@contoso.example", "schedule.changed")
    finally:
        api.close()


def test_a_destination_follows_the_schedule_until_it_gets_its_own_or_is_taken_out(api: Caller) -> None:
    path = api.destination()
    assert api.ask("GET", f"{path}/schedule") == {
        "mode": "followSchedule",
        "rule": None,
        "nextRuns": [],
        "nextRunAt": None,
        "lastRunAt": None,
    }
    api.ask("PUT", "/api/schedule", DAILY)
    follows = api.ask("GET", f"{path}/schedule")
    assert follows["rule"] == {
        "frequency": "daily",
        "days": [],
        "times": ["06:00", "18:30"],
        "timeZone": "Europe/Berlin",
    }
    assert follows["nextRuns"] == api.ask("GET", "/api/schedule")["nextRuns"]

    changed = api.call("PATCH", path, {"schedule": own("23:30", zone="Romance Standard Time", days=("sunday",))})
    assert changed.json["schedule"]["rule"]["timeZone"] == "Europe/Paris"
    its_own = api.call("GET", f"{path}/schedule")
    assert its_own.headers["etag"] == changed.headers["etag"]
    assert its_own.json["rule"] == changed.json["schedule"]["rule"]
    assert its_own.json["nextRuns"][:2] == ["2026-11-29T22:30:00Z", "2026-12-06T22:30:00Z"]

    api.ask("PATCH", path, {"schedule": {"mode": "off"}})
    off = api.ask("GET", f"{path}/schedule")
    assert (off["mode"], off["rule"], off["nextRuns"]) == ("off", None, [])


@pytest.mark.parametrize(
    ("schedule", "target"),
    [
        (own("06:00", zone="Mars"), "schedule.rule.timeZone"),
        ({"mode": "ownSchedule"}, "schedule.rule"),
        ({"mode": "off", "rule": {"times": ["06:00"], "timeZone": "UTC"}}, "schedule.rule"),
        ({"mode": "sometimes"}, "schedule.mode"),
    ],
)
def test_a_rule_of_a_destination_that_cannot_be_kept_is_refused_by_name(
    api: Caller, schedule: Mapping[str, Any], target: str
) -> None:
    refused = api.call("PATCH", api.destination(), {"schedule": schedule})
    assert (refused.status, refused.error["target"]) == (422, target)


def test_a_destination_that_is_not_there_has_no_schedule(api: Caller) -> None:
    refused = api.call("GET", "/api/destinations/nobody/schedule")
    assert (refused.status, refused.error["code"]) == (404, "destinationNotFound")


@pytest.mark.parametrize(
    ("off", "on"),
    [
        ({"enabled": False}, {"enabled": True}),
        ({"schedule": {"mode": "off"}}, {"schedule": {"mode": "followSchedule"}}),
    ],
)
def test_what_came_due_while_a_destination_was_off_is_not_made_up_for(
    api: Caller, off: Mapping[str, Any], on: Mapping[str, Any]
) -> None:
    """Through the API: it is the change of the destination that tells since when its runs count."""
    path = api.destination()
    api.ask("PUT", "/api/schedule", {**DAILY, "timeZone": "UTC", "times": ["06:00"]})
    api.ask("PATCH", path, off)
    assert api.ask("GET", f"{path}/schedule")["nextRuns"] == []
    api.clock.now = SIX + timedelta(hours=1)
    api.ask("PATCH", path, on)
    api.clock.now += timedelta(minutes=1)
    api.ask("PATCH", path, {"displayName": "Renamed"})
    assert api.ask("GET", f"{path}/schedule")["nextRunAt"] == "2026-11-25T06:00:00Z"
    assert api.product.schedule.run(api.clock.now) == []


def test_a_run_that_is_due_survives_changes_that_have_nothing_to_do_with_it(api: Caller) -> None:
    path = api.destination()
    api.ask("PUT", "/api/schedule", {**DAILY, "timeZone": "UTC", "times": ["06:00"]})
    api.ask("PATCH", path, {"schedule": {"mode": "followSchedule"}})
    api.clock.now = SIX + timedelta(minutes=1)
    api.ask("PATCH", path, {"displayName": "Renamed", "enabled": True, "schedule": {"mode": "followSchedule"}})
    (export,) = api.product.schedule.run(api.clock.now)
    assert export.destination_name == "Renamed"


def test_a_run_of_a_destination_that_is_not_ready_is_in_the_history_as_skipped(api: Caller) -> None:
    path = api.destination()
    api.ask("PUT", "/api/schedule", {**DAILY, "timeZone": "UTC", "times": ["06:00"]})
    api.clock.now = datetime(2026, 11, 24, 6, 0, 1, tzinfo=UTC)
    api.product.schedule.run(api.clock.now)
    (export,) = api.ask("GET", "/api/exports")["value"]
    assert (export["trigger"], export["status"], export["ended"]) == ("scheduled", "Skipped", True)
    assert export["problem"]["code"] == "destinationNotReady"
    assert "sign in to Mailchimp" in export["problem"]["message"]
    schedule = api.ask("GET", f"{path}/schedule")
    assert (schedule["lastRunAt"], schedule["nextRunAt"]) == ("2026-11-24T06:00:01Z", "2026-11-25T06:00:00Z")
    assert api.ask("GET", "/api/schedule")["lastRunAt"] == "2026-11-24T06:00:01Z"


def test_every_change_is_in_the_audit_log_once(api: Caller) -> None:
    api.ask("PUT", "/api/schedule", DAILY)
    api.clock.now += timedelta(minutes=1)
    api.ask("PUT", "/api/schedule", {**DAILY, "times": ["07:00"]})
    api.ask("PUT", "/api/schedule", {**DAILY, "times": ["07:00"]})
    api.product.schedule.run(api.clock.now)
    first, second = api.records()
    assert {change.property for change in first.changes} == {"isActive", "frequency", "days", "times", "timeZone"}
    assert [change.model_dump() for change in second.changes] == [
        {"property": "times", "before": ["06:00", "18:30"], "after": ["07:00"]}
    ]
