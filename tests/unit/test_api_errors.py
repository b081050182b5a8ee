"""What the API answers to bad input and to faults: one document, a fitting status, no stack trace."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.api.body import MAX_BODY_BYTES
from shared.mailchimp.access import LookupsBusy
from shared.mailchimp.errors import AccountRestricted, RequestInvalid, Unavailable
from shared.secrets.store import SecretStoreError
from tests.unit.api_caller import Api
from tests.unit.setup_fakes import KEY

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    api = Api()
    yield api
    api.close()


@pytest.fixture
def fresh() -> Iterator[Api]:
    api = Api()
    yield api
    api.close()


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/", "/api/destinations/", "/api/nope", "/API/health", "/api//schedule"]
)
def test_an_unknown_address_is_not_found_and_not_redirected(api: Api, path: str) -> None:
    reply = api.call("GET", path)
    assert (reply.status, reply.error["code"]) == (404, "notFound")


def test_a_wrong_method_says_which_are_right(api: Api) -> None:
    reply = api.call("PUT", "/api/exports")
    assert (reply.status, reply.error["code"]) == (405, "methodNotAllowed")
    assert "GET" in reply.headers["allow"] or "POST" in reply.headers["allow"]


@pytest.mark.parametrize("bad", ["a_b", "a.b", "%2e%2e", "x" * 65, "a%2Fb"])
def test_an_id_that_cannot_be_one_is_not_found(api: Api, bad: str) -> None:
    assert api.call("GET", f"/api/destinations/{bad}").status == 404
    assert api.call("GET", f"/api/exports/{bad}").status == 404


@pytest.mark.parametrize("raw", [b"{", b"nonsense", b"\xff\xfe", b'{"displayName": "\xff"}', b"[" * 100_000])
def test_a_body_that_is_no_json_is_a_bad_request(api: Api, raw: bytes) -> None:
    reply = api.call("POST", "/api/destinations", raw=raw, headers=JSON)
    assert (reply.status, reply.error["code"]) == (400, "invalidJson")


@pytest.mark.parametrize("body", [[], [1], "text", 5, True])
def test_a_body_that_is_no_object_is_a_bad_request(api: Api, body: Any) -> None:
    reply = api.call("POST", "/api/destinations", body)
    assert (reply.status, reply.error["code"]) == (400, "notAnObject")


def test_a_missing_body_is_said_to_be_missing(api: Api) -> None:
    assert api.call("POST", "/api/destinations").error["code"] == "bodyMissing"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
def test_a_body_that_is_not_declared_json_is_an_unsupported_type(api: Api, kind: str) -> None:
    reply = api.call("POST", "/api/destinations", raw=b"{}", headers={"Content-Type": kind})
    assert (reply.status, reply.error["code"]) == (415, "notJson")


def test_json_may_name_its_character_set(api: Api) -> None:
    reply = api.call(
        "POST", "/api/destinations", raw=b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )
    assert (reply.status, reply.error["target"]) == (422, "displayName")


def test_a_body_over_one_megabyte_is_too_large(api: Api) -> None:
    raw = json.dumps({"displayName": "x" * MAX_BODY_BYTES}).encode()
    reply = api.call("POST", "/api/destinations", raw=raw, headers=JSON)
    assert (reply.status, reply.error["code"]) == (413, "bodyTooLarge")


def test_an_unknown_property_is_named(api: Api) -> None:
    body = {"displayName": "A", "consent": {"agreed": True, "signature": 1}, "colour": "red"}
    reply = api.call("POST", "/api/destinations", body)
    assert reply.status == 422
    assert {detail["target"] for detail in reply.error["details"]} == {"consent.signature", "colour"}


@pytest.mark.parametrize(
    ("raw", "status"), [(rb'{"displayName": "A", "\ud800": 1}', 400), (rb'{"displayName": "A\ud800"}', 422)]
)
def test_text_with_half_a_character_is_refused(api: Api, raw: bytes, status: int) -> None:
    reply = api.call("POST", "/api/destinations", raw=raw, headers=JSON)
    assert reply.status == status
    assert "nicode" in reply.error["message"]


def test_storage_that_does_not_answer_is_a_pause_not_a_defect(fresh: Api) -> None:
    fresh.setup.documents.fault = ServiceRequestError("connection to account1.blob.core.windows.net refused")
    for method, path in (("GET", "/api/destinations"), ("GET", "/api/destinations/a"), ("GET", "/api/schedule")):
        reply = fresh.call(method, path)
        assert (reply.status, reply.error["code"]) == (503, "storageUnavailable")
        assert int(reply.headers["retry-after"]) > 0
        assert b"account1" not in reply.body


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Unavailable("Down.", reason="serverError", outcome_unknown=False), 503, "mailchimpUnavailable"),
        (LookupsBusy("busy"), 503, "mailchimpBusy"),
        (SecretStoreError("The vault does not let us in."), 503, "secretStoreError"),
        (AccountRestricted("Restricted.", action="Ask Mailchimp."), 409, "accountRestricted"),
        (RequestInvalid("Odd.", action="Report it."), 502, "requestInvalid"),
    ],
)
def test_faults_behind_the_api_keep_their_code(fresh: Api, fault: Exception, status: int, code: str) -> None:
    stored = fresh.setup.connected()
    fresh.setup.mailchimp.fault = fault
    reply = fresh.call("GET", f"/api/destinations/{stored.destination.id}/audiences")
    assert (reply.status, reply.error["code"]) == (status, code)
    assert ("retry-after" in reply.headers) == (status == 503)


def test_the_time_that_mailchimp_asks_for_is_passed_on(fresh: Api) -> None:
    stored = fresh.setup.connected()
    fresh.setup.mailchimp.fault = Unavailable(
        "Busy.", reason="tooManyConnections", outcome_unknown=False, retry_after_s=7
    )
    reply = fresh.call("GET", f"/api/destinations/{stored.destination.id}/audiences")
    assert reply.headers["retry-after"] == "7"


def test_a_defect_answers_a_number_and_logs_no_text(fresh: Api, caplog: pytest.LogCaptureFixture) -> None:
    fresh.setup.exports.fault = KeyError("grace@contoso.example")
    with caplog.at_level(logging.ERROR):
        reply = fresh.call("GET", "/api/exports/e")
    assert (reply.status, reply.error["code"]) == (500, "unexpectedError")
    assert reply.headers["x-request-id"] in reply.error["message"]
    (record,) = [each for each in caplog.records if "api.unexpectedError" in each.getMessage()]
    logged = json.loads(record.getMessage())
    assert logged["requestId"] == reply.headers["x-request-id"]
    assert logged["errorType"] == "KeyError"
    assert "setup_fakes.py" in logged["frames"]
    for text in (reply.body.decode(), record.getMessage()):
        assert "grace" not in text
        assert "Traceback" not in text


@pytest.mark.parametrize("path", ["/api/health", "/api/destinations", "/api/nope", "/api/docs"])
def test_every_answer_has_the_headers_for_browsers(api: Api, path: str) -> None:
    headers = api.call("GET", path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-request-id"]


def test_the_documentation_page_loads_nothing_from_elsewhere(api: Api) -> None:
    page = api.call("GET", "/api/docs").body.decode()
    assert "/api/openapi.json" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "{{" not in page


# -- any JSON at all ---------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(KEY)
PROPERTIES = """displayName consent agreed apiKey audienceId dataMatching email firstName mergeFields FNAME CITY ADDRESS
segments isActive timeZone days times addr1 city"""
NAMES = st.sampled_from(PROPERTIES.split()) | st.text(max_size=8)
ANY_JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=10
)
TARGETS = [
    ("POST", "/api/destinations"),
    ("PATCH", "/api/destinations/{id}"),
    ("PUT", "/api/destinations/{id}/api-key"),
    ("POST", "/api/destinations/{id}/exports"),
    ("POST", "/api/exports"),
    ("PUT", "/api/schedule"),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(target=st.sampled_from(TARGETS), body=ANY_JSON)
def test_any_json_is_answered_without_a_defect(api: Api, target: tuple[str, str], body: Any) -> None:
    stored = next(api.setup.store.all(), None) or api.setup.connected("Fuzzed")
    method, path = target
    reply = api.call(method, path.format(id=stored.destination.id), raw=json.dumps(body).encode(), headers=JSON)
    assert reply.status < 500
    if reply.status >= 400:
        assert reply.error["message"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(matching=st.dictionaries(NAMES, ANY_JSON, max_size=4), segments=ANY_JSON)
def test_any_configuration_is_answered_without_a_defect(api: Api, matching: Any, segments: Any) -> None:
    stored = next(api.setup.store.all(), None) or api.setup.connected("Fuzzed")
    body = {"dataMatching": {"email": "EMail"} | matching, "segments": segments, "audienceId": "aud1"}
    reply = api.call("PATCH", f"/api/destinations/{stored.destination.id}", raw=json.dumps(body).encode(), headers=JSON)
    assert reply.status < 500
