"""The events that the app logs and their fields, read from its calls of shared/log.py."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from shared.exports.model import Books

ROOT: Final = Path(__file__).resolve().parents[2]

_FUNCTIONS: Final = frozenset({"event", "warning", "error"})
_WORKFLOW: Final = {
    *("eventType", "operationType", "workflowType", "workflowJobId", "workflowStatus", "workflowSubmissionKind"),
    *("submissionKind", "identifier", "export", "destination"),
}
"""What shared/exports/workflow.py says of every export."""

_EXPANSIONS: Final = {
    "export.books.model_dump(by_alias=True)": {str(field.alias) for field in Books.model_fields.values()},
    "_which(export)": _WORKFLOW,
    "_which(after)": _WORKFLOW,
    "error.log_fields()": {"errorCode", "failureClass", "status", "title", "mailchimpInstance"},
}
"""What ``**expression`` in a call stands for."""


@cache
def logged_events() -> dict[str, set[str]]:
    """Fields by event name, of all calls of the deployed code together."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "function_app.py", *sorted((ROOT / "shared").rglob("*.py"))):
        for call in _calls(ast.parse(path.read_text(encoding="utf-8"))):
            name = call.args[0]
            assert isinstance(name, ast.Constant), f"{path.name}:{call.lineno}: the name of an event is a constant"
            found.setdefault(str(name.value), set()).update(_fields(call))
    return found


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "shared.log"
        for alias in node.names
        if alias.name in _FUNCTIONS
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=function)) if function in _FUNCTIONS:
                yield node
            case ast.Call(func=ast.Name(id=function)) if function in imported:
                yield node


def _fields(call: ast.Call) -> Iterator[str]:
    for keyword in call.keywords:
        if keyword.arg is not None:
            yield keyword.arg
        else:
            yield from _EXPANSIONS.get(ast.unparse(keyword.value), ())
