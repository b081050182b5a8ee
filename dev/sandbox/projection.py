"""`fields` and `exclude_fields`: partial answers, as in the Marketing API's collections and instances."""

from __future__ import annotations

from typing import Any

import msgspec

Tree = dict[str, "Tree"]


def project(body: bytes, query: dict[str, str]) -> bytes:
    """The JSON `body` with only the `fields`, or without the `exclude_fields`, that the query names.

    Both are comma-separated paths with dots, such as `lists.id,total_items`; paths lead through arrays.
    """
    document = msgspec.json.decode(body)
    if wanted := query.get("fields"):
        document = _only(document, _tree(wanted))
    elif unwanted := query.get("exclude_fields"):
        document = _without(document, _tree(unwanted))
    return msgspec.json.encode(document)


def _tree(paths: str) -> Tree:
    root: Tree = {}
    for path in paths.split(","):
        branch = root
        for name in path.strip().split("."):
            branch = branch.setdefault(name, {})
    return root


def _only(value: Any, tree: Tree) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_only(item, tree) for item in value]
    if isinstance(value, dict):
        return {name: _only(item, tree[name]) for name, item in value.items() if name in tree}
    return value


def _without(value: Any, tree: Tree) -> Any:
    if isinstance(value, list):
        return [_without(item, tree) for item in value]
    if isinstance(value, dict):
        return {
            name: _without(item, tree[name]) if name in tree else item
            for name, item in value.items()
            if name not in tree or tree[name]
        }
    return value
