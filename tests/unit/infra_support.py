"""Reads Bicep without Microsoft's compiler: tree-sitter's grammar gives the tree, this module gives it names.

A template becomes plain data. Literals become Python values; everything that would have to be evaluated (references,
calls, conditions, interpolated strings) stays an ``Expression`` with its source text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import tree_sitter
import tree_sitter_bicep

ROOT: Final = Path(__file__).resolve().parents[2]
INFRA: Final = ROOT / "infra"
MAIN: Final = INFRA / "main.bicep"
TEMPLATES: Final = (MAIN, *sorted((INFRA / "modules").glob("*.bicep")))

STORAGE_SERVICES: Final = ("blob", "queue", "table")
"""Services of the app's storage account; the last one is the Functions host's alone and can be switched off."""

_PARSER: Final = tree_sitter.Parser(tree_sitter.Language(tree_sitter_bicep.language()))


@dataclass(frozen=True, slots=True)
class Expression:
    """A value that only a deployment can know, as written."""

    text: str


Value: TypeAlias = "str | int | bool | Expression | list[Value] | dict[str, Value] | None"


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    type: str
    required: bool
    decorators: dict[str, Value]
    """Argument by decorator name; None for a decorator without one."""


@dataclass(frozen=True, slots=True)
class Resource:
    symbol: str
    type: str
    api_version: str
    existing: bool
    body: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Module:
    symbol: str
    path: Path
    body: dict[str, Value]

    @property
    def parameters(self) -> dict[str, Value]:
        given = self.body.get("params", {})
        assert isinstance(given, dict)
        return given


@dataclass(frozen=True, slots=True)
class Output:
    name: str
    type: str
    decorators: dict[str, Value]
    value: Value


@dataclass(frozen=True, slots=True)
class Template:
    path: Path
    text: str
    root: tree_sitter.Node
    parameters: dict[str, Parameter] = field(default_factory=dict)
    variables: dict[str, Value] = field(default_factory=dict)
    resources: dict[str, Resource] = field(default_factory=dict)
    modules: dict[str, Module] = field(default_factory=dict)
    outputs: dict[str, Output] = field(default_factory=dict)

    @property
    def declared(self) -> set[str]:
        """Symbols that expressions of this template may use."""
        return {*self.parameters, *self.variables, *self.resources, *self.modules}

    def resources_of(self, type_name: str) -> list[Resource]:
        """Resources of a type that this template creates."""
        return [one for one in self.resources.values() if one.type == type_name and not one.existing]


def text_of(node: tree_sitter.Node) -> str:
    assert node.text is not None
    return node.text.decode()


def broken_places(text: str) -> list[str]:
    """Line and text of everything the grammar could not read."""

    def walk(node: tree_sitter.Node) -> Iterator[str]:
        if node.is_error or node.is_missing:
            yield f"line {node.start_point.row + 1}: {text_of(node)[:60]!r}"
        for child in node.children:
            yield from walk(child)

    return list(walk(_PARSER.parse(text.encode()).root_node))


@cache
def load(path: Path) -> Template:
    """The template at ``path``; read once per test session."""
    return read_template(path.read_text(encoding="utf-8"), path)


def read_template(text: str, path: Path) -> Template:
    template = Template(path, text, _PARSER.parse(text.encode()).root_node)
    decorators: dict[str, Value] = {}
    for node in template.root.named_children:
        if node.type == "decorators":
            decorators = dict(_decorator(child) for child in node.named_children)
        elif node.type != "comment":
            _declare(template, node, decorators)
            decorators = {}
    return template


def _decorator(node: tree_sitter.Node) -> tuple[str, Value]:
    call = node.named_children[0]
    name, arguments = call.named_children
    values = [value_of(child) for child in _named(arguments)]
    return text_of(name), values[0] if values else None


def _declare(template: Template, node: tree_sitter.Node, decorators: dict[str, Value]) -> None:
    parts = _named(node)
    name = text_of(parts[0])
    match node.type:
        case "parameter_declaration":
            required = len(parts) == 2
            template.parameters[name] = Parameter(name, text_of(parts[1]), required, decorators)
        case "variable_declaration":
            template.variables[name] = value_of(parts[1])
        case "resource_declaration":
            kind, _, api_version = _string(parts[1]).partition("@")
            existing = any(child.type == "existing" for child in node.children)
            template.resources[name] = Resource(name, kind, api_version, existing, _body(parts[2]))
        case "module_declaration":
            path = (template.path.parent / _string(parts[1])).resolve()
            template.modules[name] = Module(name, path, _body(parts[2]))
        case "output_declaration":
            template.outputs[name] = Output(name, text_of(parts[1]), decorators, value_of(parts[2]))
        case "target_scope_assignment":
            pass
        case other:
            raise AssertionError(f"{template.path.name}: {other} is not in the subset that these tests read")


def value_of(node: tree_sitter.Node) -> Value:
    """The Python value of a literal; an Expression for anything else."""
    match node.type:
        case "string" if all(child.type in {"string_content", "escape_sequence"} for child in node.named_children):
            return _string(node)
        case "number":
            return int(text_of(node))
        case "boolean":
            return text_of(node) == "true"
        case "null":
            return None
        case "array":
            return [value_of(child) for child in _named(node)]
        case "object":
            return _object(node)
        case _:
            return Expression(text_of(node))


def _object(node: tree_sitter.Node) -> dict[str, Value]:
    result: dict[str, Value] = {}
    for item in _named(node):
        key, value = _named(item)
        name = _string(key) if key.type == "string" else text_of(key)
        assert name not in result, f"{name} is given twice"
        result[name] = value_of(value)
    return result


def _body(node: tree_sitter.Node) -> dict[str, Value]:
    """The object of a resource or module, also behind ``if (…)`` and inside ``[for … : …]``."""
    while node.type != "object":
        node = _named(node)[-1]
    return _object(node)


def _string(node: tree_sitter.Node) -> str:
    return text_of(node)[1:-1].replace("\\'", "'")


def _named(node: tree_sitter.Node) -> list[tree_sitter.Node]:
    return [child for child in node.named_children if child.type != "comment"]


def walk(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    yield node
    for child in node.named_children:
        yield from walk(child)


def references(node: tree_sitter.Node, local: frozenset[str] = frozenset()) -> Iterator[str]:
    """Symbols used by the expressions below ``node``, without names that loops and lambdas bring themselves."""
    match node.type:
        case "identifier":
            if text_of(node) not in local:
                yield text_of(node)
            return
        case "decorators" | "type" | "comment":
            return
        case "call_expression":
            yield from references(node.children[-1], local)
            return
        case "object_property":
            key, value = _named(node)
            if key.type == "string":
                yield from references(key, local)
            yield from references(value, local)
            return
        case "for_statement" | "lambda_expression":
            names = [text_of(one) for one in walk(_named(node)[0]) if not one.named_children]
            for child in _named(node)[1:]:
                yield from references(child, local | frozenset(names))
            return
    children = _named(node)
    for child in children[1:] if node.type.endswith("_declaration") else children:
        yield from references(child, local)


def called_functions(node: tree_sitter.Node) -> set[str]:
    """Names of the functions that expressions below ``node`` call; decorators are not among them."""
    if node.type == "decorators":
        return set()
    own = {text_of(node.named_children[0])} if node.type == "call_expression" else set()
    return own.union(*(called_functions(child) for child in node.named_children))


def member_chains(node: tree_sitter.Node) -> Iterator[list[str]]:
    """Every ``a.b.c`` below ``node`` as its parts; only chains that start at a symbol."""
    if node.type == "member_expression":
        parts: list[str] = []
        inner = node
        while inner.type == "member_expression":
            parts.append(text_of(inner.named_children[-1]))
            inner = inner.named_children[0]
            if inner.type == "unary_expression":  # the grammar reads !a.b as (!a).b
                inner = inner.named_children[0]
        if inner.type == "identifier":
            yield [text_of(inner), *reversed(parts)]
            return
    for child in node.named_children:
        yield from member_chains(child)


def properties_named(value: Value, name: str) -> Iterator[Value]:
    """Values of every property called ``name``, at any depth."""
    match value:
        case list():
            for item in value:
                yield from properties_named(item, name)
        case dict():
            for key, item in value.items():
                if key == name:
                    yield item
                yield from properties_named(item, name)


def dig(value: Value, *path: str | int) -> Value:
    """The value below ``path``; fails with the path if it is not there."""
    for step in path:
        if isinstance(value, dict) and step in value:
            value = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            raise AssertionError(f"{path} is not there: {step!r} is missing")
    return value


def variable_entries(template: Template, variable: str) -> dict[str, Value]:
    """Names and values of the objects in a variable's declaration, on all branches of a condition."""
    for node in template.root.named_children:
        if node.type == "variable_declaration" and text_of(node.named_children[0]) == variable:
            objects = [one for one in walk(node) if one.type == "object"]
            return {key: value for one in objects for key, value in _object(one).items()}
    raise AssertionError(f"{template.path.name} declares no variable {variable}")


FUNCTION_APP: Final = load(INFRA / "modules" / "functionapp.bicep")
"""The template of the app itself."""


def deployed_settings() -> dict[str, Value]:
    """All app settings by name, whatever the features."""
    merged = dig(FUNCTION_APP.resources["appSettings"].body, "properties")
    assert isinstance(merged, Expression)
    variables = re.fullmatch(r"union\((.*)\)", merged.text)
    assert variables
    found: dict[str, Value] = {}
    for variable in variables[1].split(", "):
        entries = variable_entries(FUNCTION_APP, variable)
        assert not found.keys() & entries.keys()
        found |= entries
    return found
