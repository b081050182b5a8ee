"""Route templates of HTTP triggers, matched as ASP.NET Core does for the real host.

`destinations/{id}`, `{x:int}`, `{x?}`, `{*rest}`; literals match without regard to case and win over parameters,
parameters with a constraint over those without, and all over a catch-all. Source: "Routing in ASP.NET Core",
route templates and URL matching.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

_PARAMETER = re.compile(r"\{(?P<star>\*{0,2})(?P<name>\w+)(?P<constraints>(?::[^}?]+)*)(?P<optional>\?)?\}")
_CONSTRAINTS: Mapping[str, re.Pattern[str]] = {
    "int": re.compile(r"[+-]?\d{1,10}"),
    "long": re.compile(r"[+-]?\d{1,19}"),
    "bool": re.compile(r"true|false", re.IGNORECASE),
    "alpha": re.compile(r"[a-z]+", re.IGNORECASE),
    "guid": re.compile(r"\{?[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\}?", re.IGNORECASE),
    "decimal": re.compile(r"[+-]?\d+(?:\.\d+)?"),
}
_ANY_METHOD: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Route:
    """One HTTP function's route: how to recognise its path, and its rank (lower wins)."""

    function: str
    methods: frozenset[str]
    pattern: re.Pattern[str]
    constraints: tuple[tuple[str, str], ...]
    rank: tuple[int, ...]

    @classmethod
    def parse(cls, template: str, function: str, methods: Iterable[str]) -> Route:
        """`template` with its prefix and without a leading slash. Raises ValueError for what is not understood."""
        expression, rank, constraints = "", [], []
        for segment in [part for part in template.strip("/").split("/") if part]:
            found = list(_PARAMETER.finditer(segment))
            part = _segment_pattern(segment, found)
            if len(found) == 1 and found[0].span() == (0, len(segment)) and (found[0]["optional"] or found[0]["star"]):
                expression += f"(?:/{part})?"
            else:
                expression += f"/{part}"
            rank.append(_rank(found, segment))
            for parameter in found:
                names = [name for name in parameter["constraints"].split(":") if name]
                constraints += [(parameter["name"], _known_constraint(name, template)) for name in names]
        pattern = re.compile(f"{expression}/?", re.IGNORECASE)
        return cls(function, frozenset(methods), pattern, tuple(constraints), tuple(rank))

    def match(self, path: str) -> dict[str, str] | None:
        """Route parameters, decoded, of a path as it came in the request (still percent-encoded); None: no match."""
        match = self.pattern.fullmatch(path)
        if match is None:
            return None
        values = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
        if any(name in values and not _CONSTRAINTS[kind].fullmatch(values[name]) for name, kind in self.constraints):
            return None
        return values


@dataclass(frozen=True, slots=True)
class Match:
    """The function that answers a request, and the values of its route parameters."""

    function: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NoMatch:
    """No function answers. `allowed`: the methods with which one would; empty when the path is unknown."""

    allowed: tuple[str, ...]


class Router:
    """All routes of the app, best first."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = sorted(routes, key=lambda route: route.rank)

    def find(self, method: str, path: str) -> Match | NoMatch:
        """`path` as it came in the request line, percent-encoded, without the query."""
        allowed: set[str] = set()
        for route in self._routes:
            parameters = route.match(path)
            if parameters is None:
                continue
            if route.methods == _ANY_METHOD or method in route.methods:
                return Match(route.function, parameters)
            allowed |= route.methods
        return NoMatch(tuple(sorted(allowed)))


def _segment_pattern(segment: str, found: list[re.Match[str]]) -> str:
    """A regular expression for one segment: `{id}`, `report-{id}.csv`, `{*rest}`."""
    expression, position = "", 0
    for parameter in found:
        literal = segment[position : parameter.start()]
        expression += f"{_escape(literal)}(?P<{parameter['name']}>{'.*' if parameter['star'] else '[^/]+?'})"
        position = parameter.end()
    return expression + _escape(segment[position:])


def _escape(literal: str) -> str:
    if "{" in literal or "}" in literal:
        raise ValueError(f"'{literal}' in a route is not understood: parameters look like {{id}}, {{id?}}, {{*rest}}")
    return re.escape(literal)


def _rank(found: list[re.Match[str]], segment: str) -> int:
    """Order of a segment's kinds, as ASP.NET Core's inbound precedence: literal 1 … catch-all 5."""
    if not found:
        return 1
    if found[0]["star"]:
        return 4 if found[0]["constraints"] else 5
    whole = found[0].span() == (0, len(segment))
    return 2 if found[0]["constraints"] or not whole else 3


def _known_constraint(name: str, template: str) -> str:
    if name not in _CONSTRAINTS:
        known = ", ".join(sorted(_CONSTRAINTS))
        raise ValueError(f"the constraint '{name}' of the route '{template}' is not imitated here (known: {known})")
    return name
