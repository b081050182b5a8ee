"""The OpenAPI document is complete, true, and stays so for what portals have built on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final

import pytest
from fastapi import APIRouter, Query
from pydantic import BaseModel

from shared.api import errors
from shared.api.answers import HEADERS
from shared.api.error_examples import EXAMPLES as ERROR_EXAMPLES
from shared.api.examples import EXAMPLES
from shared.destinations.errors import AuthorizationError
from shared.settings import read_settings
from tests.openapi import Documentation, faults
from tests.unit.api_caller import DEPLOYED, LOCAL, Api

PUBLISHED: Final = {
    "addYourselfAsExportUser": "PUT /api/destinations/{destinationId}/export-user",
    "authorize": "POST /api/destinations/{destinationId}/authorize",
    "cancelExport": "POST /api/exports/{exportId}/cancel",
    "changeDestination": "PATCH /api/destinations/{destinationId}",
    "clearSuppressedMembers": "POST /api/destinations/{destinationId}/suppressed/clear",
    "completeSignIn": "GET /api/oauth/callback",
    "createDestination": "POST /api/destinations",
    "duplicateDestination": "POST /api/destinations/{destinationId}/duplicate",
    "getAudience": "GET /api/destinations/{destinationId}/audiences/{audienceId}",
    "getConsentText": "GET /api/consent-text",
    "getDestination": "GET /api/destinations/{destinationId}",
    "getDestinationSchedule": "GET /api/destinations/{destinationId}/schedule",
    "getExport": "GET /api/exports/{exportId}",
    "getMe": "GET /api/me",
    "listAuditRecords": "GET /api/audit",
    "getHealth": "GET /api/health",
    "getReadiness": "GET /api/ready",
    "getReadinessReport": "GET /api/destinations/{destinationId}/readiness",
    "getRejectedProfiles": "GET /api/exports/{exportId}/rejected",
    "getSchedule": "GET /api/schedule",
    "getSegment": "GET /api/segments/{name}",
    "listAudiences": "GET /api/destinations/{destinationId}/audiences",
    "listDestinations": "GET /api/destinations",
    "listExports": "GET /api/exports",
    "listSegments": "GET /api/segments",
    "listSuppressedMembers": "GET /api/destinations/{destinationId}/suppressed",
    "resumeExport": "POST /api/exports/{exportId}/resume",
    "removeDestination": "DELETE /api/destinations/{destinationId}",
    "setConsent": "PUT /api/destinations/{destinationId}/consent",
    "setSchedule": "PUT /api/schedule",
    "signInWithApiKey": "PUT /api/destinations/{destinationId}/api-key",
    "startAllExports": "POST /api/exports",
    "startExport": "POST /api/destinations/{destinationId}/exports",
    "verifySignIn": "POST /api/destinations/{destinationId}/verify",
}
"""Generated clients name their functions after these: an entry is added with its call and never changed."""

SHARED = Path(errors.__file__).parents[1]
ALLOWED = ("GET", "POST", "PUT", "PATCH", "DELETE")
ROLES = {"Viewer", "Contributor", "Administrator"}


@pytest.fixture
def documentation(api: Api) -> Documentation:
    return Documentation(api.call("GET", "/api/openapi.json").json)


# -- complete --------------------------------------------------------------------------------------------------------


def test_the_document_says_everything_of_every_call(documentation: Documentation) -> None:
    assert faults(documentation.document) == []


class _BareAnswer(BaseModel):
    figure: int


def test_a_new_call_that_says_nothing_is_found_out(api: Api) -> None:
    router = APIRouter()

    @router.post("/api/bare")
    def bare(number: Annotated[int, Query()], body: _BareAnswer) -> _BareAnswer:
        return body

    api.app.include_router(router)
    bare_call = "POST /api/bare: "
    found = faults(api.app.openapi())
    assert {fault.removeprefix(bare_call) for fault in found if fault.startswith(bare_call)} == {
        "it needs one tag",
        "the summary, the first sentence of its docstring, needs 1 to 100 characters",
        "it needs a description: a docstring that says more than the summary",
        "the parameter number needs a description",
        "the request's body needs an example: shared/api/examples.py",
        "the answer 200 needs a description",
        "the answer 200 needs an example: shared/api/examples.py",
    }
    assert [fault for fault in found if not fault.startswith(bare_call)] == [
        "the schema _BareAnswer needs a description: the docstring of its class",
        "the property _BareAnswer.figure needs a description: a string under it in its class",
    ]


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (["tags"], [], "the tag destinations needs a description"),
        (["servers"], [], "there is no server"),
        (["paths", "/api/exports", "get", "operationId"], "list_exports", "not in camelCase"),
        (["paths", "/api/exports", "get", "operationId"], "startAllExports", "is used twice"),
        (["paths", "/api/exports", "get", "responses", "4XX"], {"description": "…"}, "4XX is not an exact status"),
        (["paths", "/api/exports", "get", "responses", "422", "content"], {}, "the error 422 is no ErrorDocument"),
        (["components", "examples", "notFound", "value"], {"error": {"code": "notFound"}}, "does not fit its schema"),
        (["components", "headers", "ETag", "description"], "", "the header ETag needs a description"),
        (["components", "schemas", "Books", "properties", "sent", "description"], "", "the property Books.sent"),
        (["components", "schemas", "shared__Books"], {"description": "…"}, "another class has this name"),
    ],
)  # fmt: skip
def test_whatever_is_taken_away_is_missed(
    documentation: Documentation, path: list[str], value: Any, fault: str
) -> None:
    *way, last = path
    node = documentation.document
    for step in way:
        node = node[step]
    node[last] = value
    assert [each for each in faults(documentation.document) if fault in each]


def test_every_example_is_of_a_schema_or_an_operation(documentation: Documentation) -> None:
    operations = {operation["operationId"] for *_, operation in documentation.operations()}
    assert set(EXAMPLES) - operations - set(documentation.components["schemas"]) == set()


def test_every_header_is_used(documentation: Documentation) -> None:
    used = set()
    for *_, operation in documentation.operations():
        for response in operation["responses"].values():
            used |= set(documentation.resolve(response).get("headers", {}))
    assert used == set(HEADERS)


# -- stable ----------------------------------------------------------------------------------------------------------


def test_calls_keep_their_names(documentation: Documentation) -> None:
    offered = {operation["operationId"]: f"{method} {path}" for method, path, operation in documentation.operations()}
    assert offered == PUBLISHED, "a new call is added to PUBLISHED; one that is there is not renamed"


# -- sign-in ---------------------------------------------------------------------------------------------------------


def test_every_call_but_the_one_of_health_needs_a_sign_in(documentation: Documentation) -> None:
    for _, path, operation in documentation.operations():
        needed = [scheme for requirement in operation["security"] for scheme in requirement]
        assert needed == ([] if path == "/api/health" else ["entraId"])
    scheme = documentation.components["securitySchemes"]["entraId"]
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")


def test_the_role_that_a_call_needs_is_in_the_document(documentation: Documentation) -> None:
    roles = {operation["operationId"]: operation["security"] for *_, operation in documentation.operations()}
    assert roles["listExports"] == [{"entraId": ["Viewer"]}]
    assert roles["startExport"] == [{"entraId": ["Contributor"]}]
    assert roles["createDestination"] == [{"entraId": ["Administrator"]}]
    named = {role for needed in roles.values() for each in needed for roles_ in each.values() for role in roles_}
    assert named == ROLES


def test_the_server_is_this_installation() -> None:
    api = Api(read_settings(DEPLOYED))
    (server,) = api.app.openapi()["servers"]
    api.close()
    assert server["url"] == DEPLOYED["PUBLIC_URL"]


# -- errors ----------------------------------------------------------------------------------------------------------


def test_every_exception_that_has_a_status_has_an_example() -> None:
    bases = {"DestinationError", "ExportError", "SegmentError", "MailchimpError", "AzureError"}
    bases |= {kind.__name__ for kind in errors._STATUS if issubclass(kind, AuthorizationError)}  # answered as pages
    for kind in errors._STATUS:
        code = {"LookupsBusy": "mailchimpBusy"}.get(kind.__name__, getattr(kind, "code", ""))
        assert kind.__name__ in bases or code in ERROR_EXAMPLES, f"{kind.__name__}: shared/api/error_examples.py"


def test_every_error_of_the_examples_is_one_of_a_call(documentation: Documentation) -> None:
    named = set()
    for *_, operation in documentation.operations():
        for response in operation["responses"].values():
            named |= set(
                documentation.resolve(response).get("content", {}).get("application/json", {}).get("examples", {})
            )
    assert set(documentation.components["examples"]) - named == set()


def test_every_error_that_the_api_decides_on_has_an_example() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in SHARED.rglob("*.py"))
    written = set(re.findall(r"(?:ApiError|error_response)\(\s*[45]\d\d,\s*\"(\w+)\"", text))
    assert len(written) >= 10
    assert written - set(ERROR_EXAMPLES) == set()


def test_the_examples_of_errors_are_what_the_api_answers(api: Api) -> None:
    json_header = {"Content-Type": "application/json"}
    off = Api(read_settings(DEPLOYED | {"WEBSITE_AUTH_ENABLED": ""}))
    signed_out = Api(read_settings(DEPLOYED))
    api.setup.segments.faults[""] = RuntimeError("unforeseen")
    created = {"displayName": "Newsletter", "consent": {"agreed": True}}
    answers = [
        api.call("POST", "/api/destinations", raw=b'{"displayName": "x" "y"}', headers=json_header),
        api.call("POST", "/api/destinations", headers=json_header),
        api.call("POST", "/api/destinations", raw=b"[1]", headers=json_header),
        signed_out.call("GET", "/api/exports"),
        api.call("GET", "/api/exports", headers={"Host": "evil.example"}),
        api.call("POST", "/api/destinations", created, headers={"Origin": "https://evil.example"}),
        api.call("GET", "/api/exports/" + "x" * 99),
        api.call("POST", "/api/destinations", raw=b" " * 1048577, headers=json_header),
        api.call("POST", "/api/destinations", raw=b"{}", headers={"Content-Type": "text/plain"}),
        api.call("POST", "/api/destinations", {}),
        api.call("GET", "/api/segments"),
        off.call("GET", "/api/exports"),
    ]
    off.close()
    signed_out.close()
    found = {answer.error["code"]: answer for answer in answers}
    assert len(found) == len(answers)
    for code, answer in found.items():
        example = ERROR_EXAMPLES[code]
        assert answer.status == example.status
        shown = example.body["error"]["message"]
        assert re.split(r"[:'(]", answer.error["message"])[0] == re.split(r"[:'(]", shown)[0]


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "body", "fault"),
    [
        (418, {}, b"", "status 418 is not documented"),
        (200, {"etag": '"1"'}, b"", "header etag is not documented for 200"),
        (200, {"content-type": "text/plain"}, b"x", "content type text/plain is not documented for 200"),
        (200, {"content-type": "application/json"}, b"{}", '"value" is a required property'),
        (
            422,
            {"content-type": "application/json"},
            b'{"error": {"code": "new", "message": "-", "target": null, "details": []}}',
            "error code new is not documented",
        ),
    ],
)
def test_an_answer_that_is_not_as_documented_is_found_out(
    documentation: Documentation, status: int, headers: dict[str, str], body: bytes, fault: str
) -> None:
    (found,) = documentation.faults_of("GET", "/api/exports?top=5", status, headers, body)
    assert fault in found


def test_the_local_server_is_the_address_of_the_settings(documentation: Documentation) -> None:
    assert documentation.document["servers"][0]["url"] == LOCAL["PUBLIC_URL"]


def test_a_refused_method_is_told_all_that_the_address_takes(api: Api, documentation: Documentation) -> None:
    for path, methods in documentation.document["paths"].items():
        reply = api.call("TRACE", path.replace("{", "").replace("}", ""))
        assert reply.status == 405
        assert reply.headers["allow"].split(", ") == sorted(map(str.upper, methods), key=ALLOWED.index)
