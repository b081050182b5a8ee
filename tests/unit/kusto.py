"""Reads a query of Azure Monitor's logs as Kusto does: its form, the names in it, and of what kind each value is.

Only what the queries of this project use is known, and of Kusto's conversions none: what compares a text with a number
may mean something there, and never what was wanted. Whatever is new has to be looked up in Kusto's reference and added.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NoReturn, TypeVar

Read = TypeVar("Read")
Kind = str
"""One of string, long, real, bool, datetime, timespan, dynamic. An int of a table is a long here."""
Columns = dict[str, Kind]

_EVERY_TABLE: Final[Columns] = {
    "TimeGenerated": "datetime",
    "OperationId": "string",
    "OperationName": "string",
    "ParentId": "string",
    "AppRoleName": "string",
    "AppRoleInstance": "string",
    "ItemCount": "long",
    "Properties": "dynamic",
}
_A_CALL: Final[Columns] = {
    "Id": "string",
    "Name": "string",
    "Success": "bool",
    "ResultCode": "string",
    "DurationMs": "real",
}
TABLES: Final[dict[str, Columns]] = {
    "AppTraces": _EVERY_TABLE | {"Message": "string", "SeverityLevel": "long"},
    "AppRequests": _EVERY_TABLE | _A_CALL | {"Url": "string", "Source": "string"},
    "AppDependencies": _EVERY_TABLE | _A_CALL | {"Target": "string", "Data": "string", "DependencyType": "string"},
    "AppMetrics": _EVERY_TABLE | {"Name": "string", "Sum": "real", "Min": "real", "Max": "real"},
}
"""What the app fills and somebody may ask for (Microsoft's reference "Azure Monitor Logs", one page a table)."""

_NUMBERS: Final = frozenset({"long", "real"})
_ORDERED: Final = _NUMBERS | {"datetime", "timespan"}
_ANY: Final = _ORDERED | {"string", "bool", "dynamic"}
_FUNCTIONS: Final[dict[str, tuple[list[frozenset[Kind]], Kind]]] = {
    "bin": ([frozenset({"datetime"}), frozenset({"timespan"})], "datetime"),
    "coalesce": ([_ANY, _ANY], "the first's"),
    "isnotempty": ([frozenset({"string"})], "bool"),
    "parse_json": ([frozenset({"string"})], "dynamic"),
    "round": ([_NUMBERS, frozenset({"long"})], "real"),
    "todatetime": ([_ANY], "datetime"),
    "todouble": ([_ANY], "real"),
    "toint": ([_ANY], "long"),
    "tolong": ([_ANY], "long"),
    "tostring": ([_ANY], "string"),
}
_AGGREGATES: Final[dict[str, tuple[list[frozenset[Kind]], Kind]]] = {
    "count": ([], "long"),
    "countif": ([frozenset({"bool"})], "long"),
    "max": ([_ORDERED], "the first's"),
    "sum": ([_NUMBERS], "the first's"),
}
"""Kinds of the arguments, and of the result (Kusto's reference of functions)."""

_RESERVED: Final = {
    *("and", "as", "asc", "between", "by", "contains", "date", "desc", "dynamic", "find", "first", "has", "in", "int"),
    *("invoke", "last", "latest", "like", "long", "of", "or", "others", "print", "project", "real", "sample", "search"),
    *("set", "sql", "string", "time", "title", "to", "union", "where"),
}
"""Names that Kusto takes only in brackets, also behind a dot. It has more of them; these a log line may have."""

_TOKEN: Final = re.compile(
    r"""(?P<nothing>\s+|//[^\n]*)
    |(?P<string>"[^"\\\n]*")
    |(?P<timespan>\d+(?:ms|[dhms])\b)
    |(?P<number>\d+(?:\.\d+)?\b)
    |(?P<name>mv-expand\b|[A-Za-z_]\w*)
    |(?P<sign>!between\b|[!=<>]=|\.\.|[<>=|()\[\],;./])""",
    re.VERBOSE,
)


class KustoError(ValueError):
    """A query that Kusto would refuse, or that uses what is not known here."""


def columns_of(query: str) -> Columns:
    """The columns of a query's result, in order. Raises KustoError."""
    return _Reader(query).query()


class _Reader:
    def __init__(self, query: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(query):
            found = _TOKEN.match(query, at)
            if found is None:
                raise KustoError(f"not a word of Kusto: {query[at : at + 20]!r}")
            if found.lastgroup not in {None, "nothing"}:
                self._tokens.append((str(found.lastgroup), found[0]))
            at = found.end()
        self._at = 0
        self._tables = dict(TABLES)
        self._values: Columns = {}
        """Kinds of the values that ``let`` has named."""
        self._columns: Columns = {}
        self._grouping = False
        """Whether a group of rows is looked at, and not one: then columns are in aggregates only."""

    def query(self) -> Columns:
        while self._took("let"):
            name = self._new_name()
            self._expect("=")
            if self._took("toscalar"):
                self._expect("(")
                self._values[name] = next(iter(self._pipeline().values()))
                self._expect(")")
            else:
                self._tables[name] = self._pipeline()
            self._expect(";")
        result = self._pipeline()
        if self._at < len(self._tokens):
            self._fail("the end of the query")
        return result

    def _pipeline(self) -> Columns:
        table = self._word()
        if table not in self._tables:
            raise KustoError(f"no table {table}")
        self._columns = dict(self._tables[table])
        steps: dict[str, Callable[[], None]] = {
            "where": self._where,
            "extend": self._extend,
            "project": self._project,
            "summarize": self._summarize,
            "order": self._order,
            "mv-expand": self._expand,
            "take": self._take,
        }
        while self._took("|"):
            step = self._word()
            if step not in steps:
                raise KustoError(f"no operator {step}")
            steps[step]()
        return self._columns

    def _where(self) -> None:
        self._is("bool", self._either())

    def _extend(self) -> None:
        made = self._list(self._assignment)
        self._columns = self._columns | _named(made)

    def _project(self) -> None:
        self._columns = _named(self._list(self._item))

    def _summarize(self) -> None:
        self._grouping = True
        made = [pair for pairs in self._list(self._aggregate) for pair in pairs]
        self._grouping = False
        by = self._list(self._item) if self._took("by") else []
        for name, kind in by:
            if kind == "dynamic":
                raise KustoError(f"rows cannot be grouped by {name}, which is dynamic")
        self._columns = _named([*by, *made])

    def _aggregate(self) -> list[tuple[str, Kind]]:
        if not self._took("arg_max"):
            return [self._assignment()]
        self._expect("(")
        names = self._list(self._word)
        self._expect(")")
        kinds = [self._column(name) for name in names]
        if len(names) < 2 or kinds[0] not in _ORDERED:
            raise KustoError(f"arg_max of {names}")
        return list(zip(names, kinds, strict=True))

    def _order(self) -> None:
        self._expect("by")
        for name in self._list(self._word):
            self._column(name)
            if not self._took("asc"):
                self._expect("desc")

    def _expand(self) -> None:
        name, kind = self._assignment()
        self._is("dynamic", kind)
        self._columns = self._columns | {name: "dynamic"}

    def _take(self) -> None:
        self._is("number", self._next()[0])

    def _assignment(self) -> tuple[str, Kind]:
        name = self._new_name()
        self._expect("=")
        return name, self._either()

    def _item(self) -> tuple[str, Kind]:
        """A column under its name or a new one. Kusto leaves a time its name when it is put into a bin."""
        if self._peek(1) == "=":
            return self._assignment()
        start = self._at
        kind = self._either()
        words = [word for _, word in self._tokens[start : self._at]]
        if len(words) > 1 and words[0] != "bin":
            return f"Column{start}", kind
        return words[-1 if len(words) == 1 else 2], kind

    def _either(self) -> Kind:
        kind = self._both()
        while self._took("or"):
            self._is("bool", kind)
            self._is("bool", self._both())
        return kind

    def _both(self) -> Kind:
        kind = self._comparison()
        while self._took("and"):
            self._is("bool", kind)
            self._is("bool", self._comparison())
        return kind

    def _comparison(self) -> Kind:
        left = self._ratio()
        if self._took("==", "!="):
            _comparable(left, self._ratio(), _ANY - {"dynamic"})
        elif self._took("<", "<=", ">", ">="):
            _comparable(left, self._ratio(), _ORDERED)
        elif self._took("has", "startswith"):
            self._is("string", left)
            self._is("string", self._ratio())
        elif self._took("in", "has_any"):
            self._is("string", left)
            self._expect("(")
            for kind in self._list(self._ratio):
                self._is("string", kind)
            self._expect(")")
        elif self._took("between", "!between"):
            self._expect("(")
            _comparable(left, self._ratio(), _ORDERED)
            self._expect("..")
            _comparable(left, self._ratio(), _ORDERED)
            self._expect(")")
        else:
            return left
        return "bool"

    def _ratio(self) -> Kind:
        kind = self._path()
        while self._took("/"):
            other = self._path()
            _comparable(kind, other, _NUMBERS)
            kind = "real" if "real" in {kind, other} else "long"
        return kind

    def _path(self) -> Kind:
        kind = self._value()
        while self._took(".", "["):
            self._is("dynamic", kind)
            if self._tokens[self._at - 1][1] == "[":
                self._is("string", self._next()[0])
                self._expect("]")
            else:
                self._new_name()
        return kind

    def _value(self) -> Kind:
        sort, word = self._next()
        if sort in {"string", "timespan"}:
            return sort
        if sort == "number":
            return "real" if "." in word else "long"
        if word == "(":
            kind = self._either()
            self._expect(")")
            return kind
        if sort != "name":
            self._at -= 1
            self._fail("a value")
        if word in {"true", "false"}:
            return "bool"
        if self._peek() == "(":
            return self._call(word)
        if word in self._values:
            return self._values[word]
        if self._grouping:
            raise KustoError(f"{word} has many values in a group")
        return self._column(word)

    def _call(self, name: str) -> Kind:
        grouping = self._grouping
        if name in _AGGREGATES and not grouping:
            raise KustoError(f"{name} is for groups of rows")
        if name not in _FUNCTIONS | _AGGREGATES:
            raise KustoError(f"no function {name}")
        wanted, result = (_AGGREGATES | _FUNCTIONS)[name]
        self._grouping = grouping and name not in _AGGREGATES
        self._expect("(")
        kinds = [] if self._peek() == ")" else self._list(self._either)
        self._expect(")")
        self._grouping = grouping
        if len(kinds) != len(wanted) or not all(kind in one for kind, one in zip(kinds, wanted, strict=True)):
            raise KustoError(f"{name} does not take {kinds}")
        if result != "the first's":
            return result
        for kind in kinds[1:]:
            _comparable(kinds[0], kind, _ANY)
        return kinds[0]

    def _column(self, name: str) -> Kind:
        if name not in self._columns:
            raise KustoError(f"no column {name} among {sorted(self._columns)}")
        return self._columns[name]

    def _list(self, read: Callable[[], Read]) -> list[Read]:
        found = [read()]
        while self._took(","):
            found.append(read())
        return found

    def _new_name(self) -> str:
        name = self._word()
        if name in _RESERVED:
            raise KustoError(f"{name} is a word of Kusto: it has to be in brackets")
        return name

    def _word(self) -> str:
        sort, word = self._next()
        if sort != "name":
            self._at -= 1
            self._fail("a name")
        return word

    def _next(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise KustoError("the query ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _peek(self, ahead: int = 0) -> str | None:
        at = self._at + ahead
        return self._tokens[at][1] if at < len(self._tokens) else None

    def _took(self, *words: str) -> bool:
        if self._peek() not in words:
            return False
        self._at += 1
        return True

    def _expect(self, word: str) -> None:
        if not self._took(word):
            self._fail(word)

    def _fail(self, wanted: str) -> NoReturn:
        rest = " ".join(word for _, word in self._tokens[self._at : self._at + 5])
        raise KustoError(f"{wanted} is wanted here: {rest!r}")

    @staticmethod
    def _is(wanted: Kind, kind: Kind) -> None:
        if kind != wanted:
            raise KustoError(f"{kind} where {wanted} is wanted")


def _named(columns: list[tuple[str, Kind]]) -> Columns:
    result = dict(columns)
    if len(result) < len(columns):
        raise KustoError(f"a name is given twice: {[name for name, _ in columns]}")
    return result


def _comparable(left: Kind, right: Kind, allowed: frozenset[Kind]) -> None:
    same = left == right or {left, right} <= _NUMBERS
    if not (same and left in allowed):
        raise KustoError(f"{left} with {right}")
