"""Holds a resource of a template against the table of infra_types.py.

Values are followed through parameters (with their ``@allowed`` and limits), variables, conditions (each branch), loops
over literal lists, ``union`` (each of its objects by itself) and ``concat`` (each of its lists). What only a deployment
knows counts by its kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Final, TypeAlias

import tree_sitter

from tests.unit.infra_support import (
    Expression,
    Parameter,
    Resource,
    Template,
    Value,
    load,
    member_chains,
    read_template,
    text_of,
    value_of,
)
from tests.unit.infra_types import READABLE, SETTABLE, Paths

OF_BICEP: Final = {"parent", "scope", "dependsOn"}
"""Set by a template, and part of the language: no type has them."""

RETURNS: Final = {
    "contains": "bool",
    "empty": "bool",
    "guid": "string",
    "loadTextContent": "string",
    "replace": "string",
    "resourceId": "string",
    "split": "array",
    "string": "string",
    "subscriptionResourceId": "string",
    "toLower": "string",
    "uniqueString": "string",
}


@dataclass(frozen=True)
class Known:
    """A value that only a deployment knows, of this kind; the limits are those that its parameter declares."""

    kind: str
    low: int | None = None
    high: int | None = None


ANYTHING: Final = Known("anything")

Possible: TypeAlias = "Value | Known"


@dataclass(frozen=True)
class Spec:
    """What may stand at one path."""

    kind: str
    required: bool = False
    values: tuple[Value, ...] = ()
    written_out: bool = False
    low: int | None = None
    high: int | None = None
    pattern: str | None = None

    @property
    def shape(self) -> str:
        """The kind of the value itself, whatever is in it."""
        if self.kind.endswith("[]"):
            return "array"
        return "object" if self.kind in {"strings", "objects"} else self.kind

    @property
    def item(self) -> Spec:
        """What may stand in it: the items of an array, the values of any name."""
        return Spec(self.kind.removesuffix("[]").removesuffix("s"))

    @classmethod
    def read(cls, text: str, *, required: bool) -> Spec:
        if "'" in text:
            values = tuple(re.findall(r"'([^']*)'", text))
            return cls("string", required, values, text.startswith("literal "))
        parts = re.fullmatch(r"((?:string|object)(?:\[\]|s)?|int|bool)(?: (\d*)\.\.(\d*))?(?: (\^.*\$))?", text)
        assert parts, text
        low, high = (int(limit) if limit else None for limit in parts.group(2, 3))
        return cls(parts[1], required, low=low, high=high, pattern=parts[4])


@cache
def specs_of(key: str) -> dict[str, Spec]:
    return {
        path.removesuffix("!"): Spec.read(text, required=path.endswith("!")) for path, text in SETTABLE[key].items()
    }


# -- what a value can be -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """Follows expressions of a template to what they can be; ``items`` are those of the loop around them."""

    template: Template
    items: dict[str, list[Possible]] = field(default_factory=dict)

    def possible(self, value: Possible) -> Iterator[Possible]:
        if isinstance(value, Expression):
            declared = read_template(f"var it = {value.text}\n", self.template.path)
            yield from self._node(declared.root.named_children[0].named_children[1])
        else:
            yield value

    def all_possible(self, values: Iterable[Possible]) -> Iterator[Possible]:
        for value in values:
            yield from self.possible(value)

    def _node(self, node: tree_sitter.Node) -> Iterator[Possible]:
        literal = value_of(node)
        children = node.named_children
        if not isinstance(literal, Expression):
            yield literal
            return
        match node.type:
            case "identifier":
                yield from self._symbol(literal.text)
            case "string":
                yield Known("string")
            case "parenthesized_expression":
                yield from self._node(children[0])
            case "ternary_expression":
                yield from self._node(children[1])
                yield from self._node(children[2])
            case "call_expression":
                yield from self._call(text_of(children[0]), children[1].named_children)
            case "member_expression" | "subscript_expression":
                yield from self._member(node)
            case "unary_expression":
                yield Known("bool")
            case "binary_expression":
                yield Known("bool" if re.search("[=!<>&|]", text_of(node.children[1])) else "int")
            case "for_statement":
                yield Known("array")
            case _:
                yield ANYTHING

    def _symbol(self, name: str) -> Iterator[Possible]:
        if name in self.items:
            yield from self.all_possible(self.items[name])
        elif name in self.template.variables:
            yield from self.possible(self.template.variables[name])
        elif name in self.template.parameters:
            yield from of_parameter(self.template.parameters[name])
        else:
            yield ANYTHING

    def _call(self, function: str, arguments: list[tree_sitter.Node]) -> Iterator[Possible]:
        if function in {"union", "concat"}:
            for argument in arguments:
                yield from self._node(argument)
        else:
            yield Known(RETURNS[function]) if function in RETURNS else ANYTHING

    def _member(self, node: tree_sitter.Node) -> Iterator[Possible]:
        inner, step = node.named_children
        chain = next(member_chains(node), [])
        if inner.type == "unary_expression":  # the grammar reads !a.b as (!a).b
            yield Known("bool")
        elif inner.type == "call_expression" and node.type == "member_expression":
            yield Known("string")  # tenant().tenantId, subscription().id
        elif chain and chain[0] in self.template.modules:
            yield Known(load(self.template.modules[chain[0]].path).outputs[chain[2]].type)
        elif chain and chain[0] in self.template.resources:
            yield Known(readable(self.template.resources[chain[0]]).get(".".join(chain[1:]), "nothing"))
        else:
            for one in self._node(inner):
                if not isinstance(one, dict):
                    yield Known("string") if text_of(node).startswith("environment()") else ANYTHING
                elif node.type == "subscript_expression":
                    yield from self.all_possible(one.values())
                else:
                    yield from self.possible(one[text_of(step)])


def of_parameter(parameter: Parameter) -> Iterator[Possible]:
    spec = spec_of(parameter)
    if spec.values:
        yield from spec.values
    else:
        yield Known(spec.kind, spec.low, spec.high)


def spec_of(parameter: Parameter) -> Spec:
    """What a parameter takes, by its type and its decorators."""
    limits = [parameter.decorators.get(name) for name in ("minValue", "maxValue", "minLength", "maxLength")]
    least, most, shortest, longest = (limit if isinstance(limit, int) else None for limit in limits)
    allowed = parameter.decorators.get("allowed")
    values = tuple(allowed) if isinstance(allowed, list) else ()
    low, high = (least, most) if parameter.type == "int" else (shortest, longest)
    return Spec(parameter.type, required=True, values=values, low=low, high=high)


def reader_of(template: Template, symbol: str) -> Reader:
    """The reader for a resource's body, with the items of its loop."""
    plain = Reader(template)
    for node in template.root.named_children:
        if node.type == "resource_declaration" and text_of(node.named_children[0]) == symbol:
            loop = node.named_children[2]
            if loop.type != "for_statement":
                return plain
            names = [text_of(one) for one in loop.named_children[0].named_children] or [text_of(loop.named_children[0])]
            lists = list(plain.possible(Expression(text_of(loop.named_children[1]))))
            items = [item for one in lists for item in (one if isinstance(one, list) else [ANYTHING])]
            return Reader(template, {names[0]: items, **{index: [Known("int")] for index in names[1:]}})
    raise AssertionError(f"{symbol} is not declared")


# -- what is wrong with a resource ---------------------------------------------------------------------------------


def kind_of(value: Possible) -> str:
    match value:
        case Known():
            return value.kind
        case bool():
            return "bool"
        case int():
            return "int"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "null"


def misfit(value: Possible, spec: Spec) -> str | None:
    """Why the value is none for this path."""
    kind = kind_of(value)
    if kind == "null" and not spec.required:
        return None
    if kind != spec.shape:
        return f"is {kind} and not {spec.shape}"
    if spec.values and (isinstance(value, Known) or value not in spec.values):
        return f"{value} is not one of {', '.join(map(str, spec.values))}"
    if isinstance(value, str) and spec.pattern and not re.search(spec.pattern, value):
        return f"{value} does not match {spec.pattern}"
    low, high = extent(value)
    too_low = low is not None and spec.low is not None and low < spec.low
    too_high = high is not None and spec.high is not None and high > spec.high
    return f"{low} to {high} is not within {spec.low} to {spec.high}" if too_low or too_high else None


def extent(value: Possible) -> tuple[int | None, int | None]:
    match value:
        case Known():
            return value.low, value.high
        case str():
            return len(value), len(value)
        case int():
            return value, value
        case _:
            return None, None


def type_of(resource: Resource) -> str:
    return f"{resource.type}@{resource.api_version}"


def key_of(resource: Resource) -> str:
    """Where the table has the resource."""
    key = type_of(resource)
    return key if key in SETTABLE else f"{key} {resource.body.get('name')}"


def readable(resource: Resource) -> Paths:
    return {"id": "string", "name": "string"} | READABLE.get(type_of(resource), {})


class Check:
    """A resource that has been gone through: what is wrong, which paths it sets, and where a value was not followed."""

    def __init__(self, template: Template, resource: Resource) -> None:
        self.faults: list[str] = []
        self.used: set[str] = set()
        self.not_followed: set[str] = set()
        self._resource = resource.symbol
        self._place = f"{template.path.stem}.{resource.symbol}"
        self._reader = reader_of(template, resource.symbol)
        key = key_of(resource)
        self._specs = specs_of(key) if key in SETTABLE else {}
        if self._specs:
            self._object("", {name: value for name, value in resource.body.items() if name not in OF_BICEP})
        else:
            self._fault(f"{key} is not in the table")

    def _fault(self, text: str) -> None:
        self.faults.append(f"{self._resource}: {text}")

    def _object(self, path: str, body: dict[str, Value]) -> None:
        before = f"{path}." if path else ""
        for name, value in body.items():
            if before + name in self._specs:
                self._at(before + name, value, self._specs[before + name])
            else:
                self._fault(f"{before}{name} is not known")
        for name in required_in(self._specs, before) - body.keys():
            self._fault(f"{before}{name} is missing")

    def _at(self, path: str, value: Value, spec: Spec) -> None:
        self.used.add(path)
        if spec.written_out and isinstance(value, Expression):
            self._fault(f"{path} is not written out")
        for one in self._reader.possible(value):
            if one == ANYTHING:
                self.not_followed.add(f"{self._place} {path}")
            elif fault := misfit(one, spec):
                self._fault(f"{path} {fault}")
            else:
                self._below(path, one, spec)

    def _below(self, path: str, value: Possible, spec: Spec) -> None:
        if isinstance(value, list):
            for one in value:
                self._at(f"{path}[]", one, self._specs.get(f"{path}[]", spec.item))
        elif isinstance(value, dict) and spec.kind == "object":
            self._object(path, value)
        elif isinstance(value, dict):
            for name, one in value.items():
                self._at(f"{path}.{name}", one, spec.item)


def required_in(specs: dict[str, Spec], before: str) -> set[str]:
    """Names of the properties that the object at a path must have."""
    names = {path.removeprefix(before) for path, spec in specs.items() if spec.required and path.startswith(before)}
    return {name for name in names if not re.search(r"[.\[]", name)}
