"""What the OpenAPI document has to say of every call, and whether answers are as it says.

``faults`` walks through the document. ``Documentation.faults_of`` looks at one answer: the tests of the API look at
each answer that they get, so a status, an error code, a header or a property that is not documented does not stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import jsonschema_rs

Json = dict[str, Any]

SELF_EVIDENT: Final = frozenset({"id", "name", "displayName"})
"""Properties whose name says all."""

ERROR: Final = {"$ref": "#/components/schemas/ErrorDocument"}
NAMED_HEADERS: Final = ("etag", "location", "operation-location", "retry-after", "content-disposition")
_CAMEL: Final = re.compile(r"[a-z]+([A-Z][a-z]*)*")
_SUMMARY_CHARACTERS: Final = 100


class Documentation:
    """The document, with its references resolved where they are looked at."""

    def __init__(self, document: Json) -> None:
        self.document = document
        self.components: Json = document["components"]
        self._validator = cache(self._make_validator)

    def operations(self) -> Iterator[tuple[str, str, Json]]:
        """Method (in capitals), path, operation."""
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                yield method.upper(), path, operation

    def resolve(self, node: Json) -> Json:
        while "$ref" in node:
            found: Any = self.document
            for part in str(node["$ref"]).removeprefix("#/").split("/"):
                found = found[part]
            node = found
        return node

    def is_valid(self, schema: Json, value: Any) -> str:
        """What is wrong with ``value``; empty when nothing is."""
        validator = self._validator(json.dumps(schema, sort_keys=True))
        return "; ".join(f"{error.instance_path}: {error.message[:300]}" for error in validator.iter_errors(value))

    def _make_validator(self, schema: str) -> jsonschema_rs.Draft202012Validator:
        whole = {"components": {"schemas": self.components["schemas"]}, **json.loads(schema)}
        return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)

    # -- answers -----------------------------------------------------------------------------------------------

    def faults_of(self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> list[str]:
        """What an answer has that the document does not say. Addresses outside of the document are nobody's."""
        operation = self._find(method, path)
        if operation is None:
            return []
        if str(status) not in operation["responses"]:
            return [f"status {status} is not documented"]
        response = self.resolve(operation["responses"][str(status)])
        named = {name.lower() for name in response.get("headers", {})}
        extra = [name for name in NAMED_HEADERS if name in headers and name not in named]
        faults = [f"header {name} is not documented for {status}" for name in extra]
        if not body:
            return faults
        kind = headers.get("content-type", "").partition(";")[0]
        if kind not in response.get("content", {}):
            return [*faults, f"content type {kind} is not documented for {status}"]
        if kind != "application/json":
            return faults
        content = response["content"][kind]
        document = json.loads(body)
        if status >= 400 and "error" in document:
            faults += _undocumented_code(document["error"]["code"], content.get("examples", {}))
        return [*faults, *filter(None, [self.is_valid(content["schema"], document)])]

    def _find(self, method: str, path: str) -> Json | None:
        plain = path.partition("?")[0]
        for template, methods in self.document["paths"].items():
            pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
            if method.lower() in methods and re.fullmatch(pattern, plain):
                found: Json = methods[method.lower()]
                return found
        return None


def _undocumented_code(code: str, examples: Json) -> list[str]:
    if code in examples or "configurationInvalid" in examples:  # a single finding comes under its own code
        return []
    return [f"error code {code} is not documented"]


def faults(document: Json) -> list[str]:
    """Everything that is missing in the document, each with the place where it is missing."""
    documentation = Documentation(document)
    found = [*_of_the_whole(document), *_of_schemas(documentation)]
    for method, path, operation in documentation.operations():
        here = [*_of_operation(operation), *_of_bodies(documentation, operation)]
        found += [f"{method} {path}: {fault}" for fault in here]
    return found


def _of_the_whole(document: Json) -> Iterator[str]:
    described = {tag["name"] for tag in document.get("tags", []) if tag.get("description")}
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    used = {tag for operation in operations for tag in operation.get("tags", [])}
    for tag in sorted(used ^ described):
        yield f"the tag {tag} needs a description in shared/api/openapi.py, and an operation"
    identifiers = [operation["operationId"] for operation in operations]
    for repeated in sorted({each for each in identifiers if identifiers.count(each) > 1}):
        yield f"the operationId {repeated} is used twice"
    if not document["info"].get("description"):
        yield "the API needs a description"
    if not [server for server in document.get("servers", []) if server.get("description")]:
        yield "there is no server with a description"
    for name, scheme in document["components"].get("securitySchemes", {}).items():
        if not scheme.get("description"):
            yield f"the security scheme {name} needs a description"
    for kind in ("headers", "responses"):
        for name, component in document["components"].get(kind, {}).items():
            if not component.get("description"):
                yield f"the {kind[:-1]} {name} needs a description"


def _of_schemas(documentation: Documentation) -> Iterator[str]:
    for name, schema in documentation.components["schemas"].items():
        if "__" in name:
            yield f"the schema {name}: another class has this name; rename one"
        if not schema.get("description"):
            yield f"the schema {name} needs a description: the docstring of its class"
        for label, part in ((name, schema), *((f"{name}.{key}", each) for key, each in _properties(schema))):
            if "``" in part.get("description", ""):
                yield f"the description of {label} is not Markdown"
        for key, each in _properties(schema):
            described = each.get("description") or documentation.resolve(each).get("description")
            if not described and key not in SELF_EVIDENT:
                yield f"the property {name}.{key} needs a description: a string under it in its class"


def _properties(schema: Json) -> list[tuple[str, Json]]:
    return list(schema.get("properties", {}).items())


def _of_operation(operation: Json) -> Iterator[str]:
    if not _CAMEL.fullmatch(operation["operationId"]):
        yield f"the operationId {operation['operationId']} is not in camelCase"
    if len(operation.get("tags", [])) != 1:
        yield "it needs one tag"
    summary, description = operation.get("summary", ""), operation.get("description", "")
    if not summary or len(summary) > _SUMMARY_CHARACTERS:
        yield f"the summary, the first sentence of its docstring, needs 1 to {_SUMMARY_CHARACTERS} characters"
    if not description.replace(summary, "").strip(" ."):
        yield "it needs a description: a docstring that says more than the summary"
    if "security" not in operation:
        yield "it does not say who may call it"
    for parameter in operation.get("parameters", []):
        if not parameter.get("description"):
            yield f"the parameter {parameter['name']} needs a description"
    if not [status for status in operation["responses"] if status.startswith("2")]:
        yield "no status of success is documented"


def _of_bodies(documentation: Documentation, operation: Json) -> Iterator[str]:
    yield from _of_examples(documentation, operation.get("requestBody", {}), "the request's body")
    for status, reference in operation["responses"].items():
        response = documentation.resolve(reference)
        if not response.get("description") or response["description"] == "Successful Response":
            yield f"the answer {status} needs a description"
        for header in response.get("headers", {}).values():
            if not documentation.resolve(header).get("description"):
                yield f"a header of {status} needs a description"
        if status < "4":
            yield from _of_examples(documentation, response, f"the answer {status}")
        else:
            yield from _of_errors(documentation, status, response)


def _of_examples(documentation: Documentation, body: Json, where: str) -> Iterator[str]:
    for kind, content in body.get("content", {}).items():
        if "schema" not in content or not content["schema"]:
            yield f"{where} has no schema for {kind}"
        elif "example" not in content:
            yield f"{where} needs an example: shared/api/examples.py"
        elif wrong := documentation.is_valid(content["schema"], content["example"]):
            yield f"the example of {where} does not fit its schema: {wrong}"
        elif unknown := _unknown_properties(documentation, content["schema"], content["example"]):
            yield f"the example of {where} has {', '.join(unknown)}, which the schema does not know"


def _unknown_properties(documentation: Documentation, schema: Json, value: Any) -> list[str]:
    """Properties of the example itself that its schema has no longer."""
    choices = [documentation.resolve(each) for each in (schema, *schema.get("anyOf", []))]
    known = {name for choice in choices for name in choice.get("properties", {})}
    return sorted(value.keys() - known) if isinstance(value, dict) and known else []


def _of_errors(documentation: Documentation, status: str, response: Json) -> Iterator[str]:
    if not re.fullmatch(r"[45][0-9][0-9]", status):
        yield f"{status} is not an exact status"
        return
    contents = response.get("content", {})
    if not contents:
        yield f"the error {status} is no ErrorDocument"
    for kind, content in contents.items():
        if not content.get("examples"):
            yield f"the error {status} needs an example of {kind}: responses=errors(…)"
        if kind == "application/json":
            yield from _of_error_documents(documentation, status, content)


def _of_error_documents(documentation: Documentation, status: str, content: Json) -> Iterator[str]:
    schema = content.get("schema", {})
    if ERROR not in [schema, *schema.get("anyOf", [])]:
        yield f"the error {status} is no ErrorDocument"
    for code, reference in content.get("examples", {}).items():
        example = documentation.resolve(reference)["value"]
        if wrong := documentation.is_valid(ERROR, example):
            yield f"the example {code} of {status} does not fit its schema: {wrong}"
        if example["error"]["code"] != code:
            yield f"the example {code} of {status} shows the code {example['error']['code']}"
