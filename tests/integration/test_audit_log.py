"""The audit log over real storage: one record for every change that was made and none for anything else; append-only;
found again through the API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from azure.storage.blob import ContainerClient, ExponentialRetry

from dev.sandbox.control import AUDIENCE_ID, SandboxControl
from shared.audit.log import AuditLog, AuditQuery, blob_name
from shared.audit.model import AuditRecord, time_in_ids
from shared.destinations.errors import DestinationChanged, DestinationNameTaken
from shared.destinations.requests import DestinationPatch
from shared.people import Person
from shared.settings import StorageConnection
from shared.storage.clients import blob_service
from shared.storage.documents import AlreadyExists, Documents
from shared.storage.names import AUDIT_CONTAINER
from tests.integration.api_support import App, signed_in
from tests.integration.audit_support import KEY, assert_unbroken, audit_blobs, audited_app, records
from tests.support import StorageAccount
from tests.unit.audit_records import record
from tests.unit.setup_fakes import NOW


@pytest.fixture
def app(storage_account: StorageAccount, sandbox: SandboxControl) -> Iterator[App]:
    with closing(audited_app(storage_account, sandbox)) as app:
        yield app


# -- one record for every change -----------------------------------------------------------------------------------


def test_a_whole_set_up_leaves_one_record_for_each_change_and_none_for_anything_else(
    app: App, sandbox: SandboxControl
) -> None:
    admin, grace = signed_in("Administrator"), signed_in("Contributor", id_="grace", name="grace@contoso.example")
    contributors = [{"id": "grace", "name": "grace@contoso.example"}]
    expected: list[tuple[str, str, list[str]]] = []
    paths: dict[str, str] = {"": "/api/destinations"}

    def call(method: str, path: str, body: Any = None, status: int = 200, headers: dict[str, str] = admin) -> Any:
        base, _, rest = path.partition("/")
        answer = app.call(method, paths[base] + (f"/{rest}" if rest else ""), body, headers)
        assert answer.status == status, answer.body
        assert status >= 300 or method == "delete" or "etag" in answer.headers or rest in {"verify", "exports"}
        return answer

    def leaves(action: str, *properties: str, who: str = "administrator@contoso.example") -> None:
        expected.append((action, who, sorted(properties)))
        found = [(each.action, each.who.name, sorted(c.property for c in each.changes)) for each in records(app)]
        assert found == expected

    def leaves_nothing() -> None:
        assert len(records(app)) == len(expected)

    made = call("post", "", {"displayName": "Newsletter", "consent": {"agreed": True}}, 201)
    paths["one"] = f"/api/destinations/{made.json['id']}"
    first = [
        "consent",
        "contributors",
        "displayName",
        "enabled",
        "everyContributor",
        "memberStatus",
        "schedule",
        "segments",
        "signIn",
    ]
    leaves("destination.created", *first)
    call("post", "", {"displayName": "newsletter", "consent": {"agreed": True}}, 409)
    call("post", "", {"displayName": "Without consent"}, 422)
    call("put", "one/api-key", {"apiKey": f"{'f' * 32}-us1"}, 422)
    leaves_nothing()
    call("put", "one/api-key", {"apiKey": KEY})
    leaves("destination.connected", "signIn")
    call("put", "one/export-user")
    leaves("destination.exportUserSet", "exportUser")
    call("put", "one/export-user")
    leaves_nothing()
    matching = {"email": "EMail", "firstName": "FirstName"}
    old = call("get", "one").headers["etag"]
    call("patch", "one", {"audienceId": AUDIENCE_ID, "dataMatching": matching, "segments": ["Readers"]})
    leaves("destination.configured", "audience", "dataMatching", "segments")
    call("patch", "one", {"audienceId": AUDIENCE_ID, "dataMatching": matching, "segments": ["Readers"]})
    call("patch", "one", {"segments": ["Nobody"]}, 422)
    leaves_nothing()
    conflicting = app.call("patch", paths["one"], {"displayName": "Late"}, admin | {"If-Match": old})
    assert conflicting.status == 412
    leaves_nothing()
    call("patch", "one", {"contributors": contributors})
    leaves("destination.configured", "contributors")
    call("patch", "one", {"displayName": "Mine"}, 403, grace)
    leaves_nothing()
    own = {"mode": "ownSchedule", "rule": {"timeZone": "Europe/Berlin", "times": ["06:00"]}}
    call("patch", "one", {"schedule": own, "memberStatus": "pending"}, headers=grace)
    leaves("destination.configured", "memberStatus", "schedule", who="grace@contoso.example")
    paths["schedule"] = "/api/schedule"
    everybody = {"isActive": False, "timeZone": "Europe/Berlin", "times": ["06:00"]}
    call("put", "schedule", everybody)
    leaves("schedule.changed", "frequency", "days", "isActive", "timeZone", "times")
    call("put", "schedule", everybody)
    call("put", "schedule", everybody, 403, grace)
    call("put", "schedule", everybody | {"timeZone": "Berlin"}, 422)
    leaves_nothing()
    export = call("post", "one/exports", None, 202, grace).json["id"]
    leaves("export.started", "destinationId", "trigger", who="grace@contoso.example")
    call("post", "one/exports", None, 409, grace)
    leaves_nothing()
    app.engine.work_until_ended(export)
    app.engine.product.sweeper.sweep()
    leaves("export.ended", "books", "problem", "status", who="grace@contoso.example")
    call("put", "one/consent", {"agreed": False})
    leaves("destination.consentWithdrawn", "consent")
    call("put", "one/consent", {"agreed": True})
    leaves("destination.consentGiven", "consent")
    copy = {"displayName": "Second brand", "consent": {"agreed": True}}
    made = call("post", "one/duplicate", copy, 201)
    paths["two"] = f"/api/destinations/{made.json['id']}"
    leaves("destination.created", *first, "dataMatching")
    call("patch", "two", {"everyContributor": True})
    leaves("destination.configured", "everyContributor")
    call("patch", "one", {"audienceId": None, "dataMatching": None}, 409)
    leaves_nothing()
    call("patch", "one", {"audienceId": None, "dataMatching": None, "confirm": True})
    leaves("destination.configured", "audience", "dataMatching")
    sandbox.revoke(KEY)
    call("post", "one/verify", status=409, headers=grace)
    leaves("destination.signInRefused", "signIn", who="Mailchimp")
    call("post", "one/verify", status=409, headers=grace)
    leaves_nothing()
    call("delete", "one", status=204)
    expected.append(("destination.removalStarted", "administrator@contoso.example", ["removal"]))
    leaves("destination.removed")
    call("delete", "one", status=404)
    leaves_nothing()

    reads = ["/api/destinations", paths["two"], f"{paths['two']}/readiness", "/api/segments", "/api/segments/Readers"]
    reads += ["/api/exports", "/api/schedule", "/api/consent-text", "/api/me", "/api/audit", "/api/ready"]
    for path in reads:
        assert app.call("get", path, None, admin).status == 200, path
    leaves_nothing()

    found = records(app)
    assert_unbroken(found)
    assert {(each.target_type, each.target_id) for each in found} == {
        ("destination", paths["one"].rpartition("/")[2]),
        ("destination", paths["two"].rpartition("/")[2]),
        ("schedule", "schedule"),
        ("export", export),
    }
    assert all(each.who.id for each in found)
    assert [each.at for each in found] == sorted(each.at for each in found)
    assert all(each.id.startswith(time_in_ids(each.at)) for each in found)

    everything = b"".join(audit_blobs(app).values())
    for kept_out in (KEY, KEY[-8:], "secretName", "secretHint", "mc-", "mail.example", "Ayşe"):
        assert kept_out.encode() not in everything

    answered: list[dict[str, Any]] = []
    link: str | None = "https://app.example/api/audit?top=4"
    while link is not None:
        page = app.call("get", link.removeprefix("https://app.example"), None, admin).json
        answered += page["value"]
        link = page["nextLink"]
    assert [AuditRecord.model_validate(each) for each in answered] == list(reversed(found))
    for query, count in (
        ("who=grace", 3),
        ("who=GRACE@contoso.example&targetType=export", 2),
        ("action=destination.created", 2),
        ("action=destination.created&action=destination.removed", 3),
        (f"targetId={paths['two'].rpartition('/')[2]}", 2),
        (f"from={found[3].id[:4]}-01-01T00:00:00Z", len(found)),
        (f"to={found[0].at.isoformat().replace('+00:00', 'Z')}", 0),
        ("targetType=schedule", 1),
        (f"targetId={export}&action=export.ended", 1),
    ):
        assert len(app.call("get", f"/api/audit?{query}", None, admin).json["value"]) == count, query


def test_many_changes_at_once_leave_one_record_each(app: App) -> None:
    product = app.engine.product
    app.set_up()
    before = len(records(app))

    def rename(number: int) -> bool:
        patch = DestinationPatch.model_validate({"displayName": f"Name {number % 8}"})
        try:
            product.destinations.patch(app.destination_id, patch, Person(id=f"p{number}", name=f"person {number}"))
        except (DestinationChanged, DestinationNameTaken):
            return False  # others were faster, again and again
        return True

    with ThreadPoolExecutor(4) as pool:
        assert any(pool.map(rename, range(16)))
    found = records(app)
    assert_unbroken(found)
    final = product.destinations.get(app.destination_id).destination.display_name
    assert found[-1].target_name == final
    assert len(found) > before
    assert len({each.id for each in found}) == len(found)


# -- append-only ---------------------------------------------------------------------------------------------------


def test_a_record_that_is_there_stays_as_it_is(app: App) -> None:
    app.set_up()
    kept = audit_blobs(app)
    for each in records(app):
        app.engine.product.audit.append(each.model_copy(update={"action": "destination.removed"}))
    assert audit_blobs(app) == kept


def test_a_container_that_azure_keeps_immutable_is_written_to_like_any_other() -> None:
    """Azure answers a second write of a record with another 409 there: BlobImmutableDueToPolicy."""

    class Immutable(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(409)
            self.send_header("x-ms-error-code", "BlobImmutableDueToPolicy")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Immutable)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/account/{AUDIT_CONTAINER}"
        retry = ExponentialRetry(initial_backoff=0, increment_base=1, retry_total=0)
        with ContainerClient.from_container_url(address, retry_policy=retry) as container:
            documents = Documents(container)
            written = record(NOW)
            with pytest.raises(AlreadyExists):
                documents.create(blob_name(written.id), written.to_bytes())
            AuditLog(documents).append(written)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# -- finding -------------------------------------------------------------------------------------------------------


def test_the_months_of_a_real_container_are_walked_from_the_newest_to_the_oldest(app: App) -> None:
    moments = [f"2025-{month:02}-15T12:00:00+00:00" for month in (1, 2, 11, 12)] + ["2026-02-28T23:59:59+00:00"]
    written = [record(datetime.fromisoformat(text), f"{number}") for number, text in enumerate(moments)]
    for each in written:
        app.engine.product.audit.append(each)
    found: list[str] = []
    path: str | None = "/api/audit?top=2"
    while path is not None:
        page = app.administer("get", path)
        found += [each["id"] for each in page["value"]]
        link = page["nextLink"]
        path = link.removeprefix("https://app.example") if link else None
    assert found == [each.id for each in reversed(written)]
    narrow = app.administer("get", "/api/audit?from=2025-02-01T00:00:00Z&to=2025-12-15T12:00:00Z")
    assert [each["id"] for each in narrow["value"]] == [written[2].id, written[1].id]


def test_a_log_without_a_container_is_empty(storage_account: StorageAccount) -> None:
    service = blob_service(StorageConnection(connection_string=storage_account.connection_string))
    documents = Documents(service.get_container_client(AUDIT_CONTAINER))
    assert list(documents.beginnings("", "/")) == []
    assert list(documents.names("2026-01/")) == []
    log = AuditLog(documents)
    log.append(record(NOW))
    assert list(documents.beginnings("", "/")) == ["2026-11/"]
    assert [each.id for each in log.newest(AuditQuery(), top=50).records] == [record(NOW).id]
