"""The OpenAPI document: what FastAPI reads from the routes, completed with what holds for all of them.

Added here: the errors that every call can answer, examples of bodies (``shared/api/examples.py``), headers, roles,
summaries. So a new route brings along its docstring, its own errors, and examples of new schemas; the rest is done,
and tests/unit/test_openapi.py fails for what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from pydantic.alias_generators import to_camel, to_pascal

from shared.api.answers import HEADERS, RETRY_AFTER, describe_error, errors, sends
from shared.api.error_examples import EXAMPLES as ERRORS
from shared.api.examples import EXAMPLES

Json = dict[str, Any]

TAGS: Final = {
    "segments": "The segments in storage: what there is to export.",
    "destinations": "Where segments are exported to: consent, audience, data matching, segments, people.",
    "connection": "The Mailchimp sign-in of a destination, and what is looked up over it.",
    "exports": "Runs: start, follow, cancel, history, rejected profiles.",
    "schedule": "When destinations are exported by themselves.",
    "audit": "Who did what, when, and what it changed.",
    "me": "Who the caller is.",
    "health": "Whether the app is alive, and whether what it needs answers.",
}
"""The areas of the API, in the order in which the documentation page shows them."""

_SHARED_RESPONSES: Final = ("signInRequired", "bodyTooLarge", "notJson", "unexpectedError")
"""Errors that have a status of their own: their responses are the same everywhere."""

_SIGN_IN: Final = "entraId"
_JSON: Final = "application/json"
_ERROR: Final = {"$ref": "#/components/schemas/ErrorDocument"}
_FASTAPI_ERROR: Final = {"$ref": "#/components/schemas/HTTPValidationError"}
"""What FastAPI says of whatever it validates; the API answers an ErrorDocument (``shared/api/errors.py``)."""
_UNDESCRIBED: Final = "Successful Response"
"""What FastAPI says where the route says nothing."""

_FIRST_SENTENCE: Final = re.compile(r"[.:;](?:\s|$)")
_CODE: Final = re.compile(r"``(.+?)``")


class DocumentedApi(FastAPI):
    """FastAPI with the completed document."""

    def openapi(self) -> Json:
        """The document; made at the first request for it."""
        if self.openapi_schema is None:
            _complete(super().openapi())
        return self.openapi_schema or {}


def _complete(document: Json) -> None:
    components = document["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    for schema in components["schemas"].values():
        _complete_schema(schema)
    components["headers"] = {name: _header(name) for name in HEADERS}
    components["examples"] = {
        code: {"summary": example.body["error"]["message"], "value": example.body} for code, example in ERRORS.items()
    }
    components["responses"] = {
        to_pascal(code): response for code in _SHARED_RESPONSES for response in errors(code).values()
    }
    for methods in document["paths"].values():
        for method, operation in methods.items():
            _complete_operation(method, operation, components["schemas"])


def _complete_schema(schema: Json) -> None:
    """Descriptions come from docstrings: the document says them in its own words."""
    properties = schema.get("properties", {})
    for each in properties.values():
        each.pop("title", None)  # the name again, worse
    for described in (schema, *properties.values()):
        if "description" in described:
            described["description"] = _in_words_of_the_api(described["description"], properties)


def _in_words_of_the_api(text: str, properties: Json) -> str:
    def quoted(found: re.Match[str]) -> str:
        camel = to_camel(found[1])
        return f"`{camel if camel in properties else found[1]}`"

    return _CODE.sub(quoted, text)


def _header(name: str) -> Json:
    kind = {"type": "integer", "minimum": 0} if name == RETRY_AFTER else {"type": "string"}
    return {"description": HEADERS[name], "schema": kind}


def _complete_operation(method: str, operation: Json, schemas: Json) -> None:
    operation.setdefault("security", [{_SIGN_IN: []}])
    description = _in_words_of_the_api(operation.get("description", ""), {})
    operation["summary"] = _FIRST_SENTENCE.split(description, maxsplit=1)[0]
    roles = [role for needed in operation["security"] for role in needed[_SIGN_IN]]
    operation["description"] = description + "".join(f"\n\nNeeds the role {role}." for role in roles)
    for parameter in operation.get("parameters", []):
        parameter["schema"].pop("title", None)
    body = operation.get("requestBody", {}).get("content", {}).get(_JSON)
    if body is not None:
        _add_example(body, "", schemas)
    responses = operation["responses"]
    for status in [each for each in responses if each < "4"]:
        _complete_success(responses[status], operation["operationId"], schemas)
    _complete_errors(method, operation)


def _complete_success(response: Json, operation_id: str, schemas: Json) -> None:
    response["headers"] = {**response.get("headers", {}), **sends("X-Request-Id")["headers"]}
    if "content" not in response and response["description"] == _UNDESCRIBED:
        response["description"] = "It is done; there is no body."
    for content in response.get("content", {}).values():
        _add_example(content, operation_id, schemas)
        schema = schemas.get(_schema_name(content.get("schema", {})), {})
        if response["description"] == _UNDESCRIBED and "description" in schema:
            response["description"] = schema["description"].partition("\n\n")[0]


def _add_example(content: Json, operation_id: str, schemas: Json) -> None:
    """The example of the operation, or else of the schema; a list shows one item."""
    name = operation_id if operation_id in EXAMPLES else _schema_name(content.get("schema", {}))
    properties = schemas.get(name, {}).get("properties", {})
    item = _schema_name(properties.get("value", {}).get("items", {}))
    if name in EXAMPLES:
        content["example"] = EXAMPLES[name]
    elif item in EXAMPLES:
        content["example"] = {"value": [EXAMPLES[item]]} | ({"nextLink": None} if "nextLink" in properties else {})


def _schema_name(schema: Json) -> str:
    """The name of the component, also of one that may be null."""
    choices = [schema, *schema.get("anyOf", [])]
    return next((str(each["$ref"]).rpartition("/")[2] for each in choices if "$ref" in each), "")


def _complete_errors(method: str, operation: Json) -> None:
    """Errors that the route names, and those that every call like it can answer."""
    responses: Json = operation["responses"]
    declared = {status: responses.pop(status) for status in [each for each in responses if each >= "4"]}
    codes = [code for response in declared.values() for code in _examples(response, _JSON)]
    codes += _common_errors(method, operation, is_validated="422" in declared)
    found = {str(status): response for status, response in errors(*codes).items()}
    for status, response in declared.items():
        merged = _merged(int(status), response, found.get(status, {}))
        if merged["content"]:
            found[status] = merged
    for status, response in sorted(found.items()):
        shared = [code for code in _examples(response, _JSON) if code in _SHARED_RESPONSES]
        is_shared = shared and len(response["content"]) == 1
        responses[status] = {"$ref": f"#/components/responses/{to_pascal(shared[0])}"} if is_shared else response


def _merged(status: int, declared: Json, common: Json) -> Json:
    """A response that the route describes itself, and what every call answers with that status."""
    content = {kind: each for kind, each in declared.get("content", {}).items() if kind != _JSON and "examples" in each}
    content |= common.get("content", {})
    schema = declared.get("content", {}).get(_JSON, {}).get("schema", _ERROR)
    if schema not in (_ERROR, _FASTAPI_ERROR):
        content[_JSON]["schema"] = {"anyOf": [schema, _ERROR]}
    codes = [code for kind in content for code in _examples({"content": content}, kind)]
    headers = {**declared.get("headers", {}), **sends("X-Request-Id")["headers"], **common.get("headers", {})}
    return {"description": describe_error(status, codes), "headers": headers, "content": content}


def _examples(response: Json, kind: str) -> Json:
    found: Json = response.get("content", {}).get(kind, {}).get("examples", {})
    return found


def _common_errors(method: str, operation: Json, *, is_validated: bool) -> Iterator[str]:
    """What the gate, the routing and the validation answer (``shared/api/gate.py``, ``shared/api/errors.py``)."""
    yield "unexpectedError"
    if not operation["security"]:
        return
    yield from (
        "unreadableRequest",
        "signInRequired",
        "notLocal",
        "bodyTooLarge",
        "authenticationOff",
        "storageUnavailable",
    )
    if any(needed[_SIGN_IN] for needed in operation["security"]):
        yield "roleMissing"
    if method != "get":
        yield from ("foreignOrigin", "notJson")
    places = {parameter["in"] for parameter in operation.get("parameters", [])}
    if "path" in places:
        yield "notFound"
    if "requestBody" in operation:
        yield from ("invalidJson", "notAnObject")
        if operation["requestBody"].get("required"):
            yield "bodyMissing"
    if is_validated and ("requestBody" in operation or places & {"query", "header"}):
        yield "invalidRequest"
