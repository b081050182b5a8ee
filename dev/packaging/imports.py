"""What the code imports from outside the project, and from which installed package each import comes."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath

from packaging.utils import canonicalize_name

from dev.packaging.requirements import PROJECT

OWN_MODULES = frozenset({"function_app", "shared"})


def imported_modules(files: Iterable[Path]) -> dict[str, set[Path]]:
    """Everything that is imported anywhere in the files, also inside functions and for types only, and by whom.

    By dotted name, that of a class or function included. The project's own modules and the standard library are left
    out.
    """
    found: dict[str, set[Path]] = {}
    for file in files:
        for module in _imports(ast.parse(file.read_text(encoding="utf-8"))):
            if module.partition(".")[0] not in OWN_MODULES | sys.stdlib_module_names:
                found.setdefault(module, set()).add(file)
    return found


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # Whether the last part is a module (`from azure import functions`) or a name in one, package_of finds out.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(module: str, owners: Mapping[str, str]) -> str | None:
    """The package that an import comes from: of several that share a namespace, the one that holds the file."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if owner := owners.get(".".join(parts[:length])):
            return owner
    return None


@cache
def owners_of_modules() -> Mapping[str, str]:
    """The package of each module that is installed here, by dotted name. Looks once: there are thousands."""
    return {
        module: canonicalize_name(distribution.name)
        for distribution in distributions()
        for module in _modules(distribution)
    }


def _modules(distribution: Distribution) -> Iterator[str]:
    for file in distribution.files or ():
        path = PurePosixPath(file)
        if path.suffix not in {".py", ".so", ".pyd"} or ".." in path.parts:
            continue
        stem = path.name.partition(".")[0]
        parents = path.parent.parts
        yield ".".join(parents if stem == "__init__" else (*parents, stem))


def app_sources() -> list[Path]:
    """The Python files that are deployed."""
    return [PROJECT / "function_app.py", *sorted((PROJECT / "shared").rglob("*.py"))]
