"""Which files are the app, and what must never be among them.

Two lists have to agree: .funcignore says what stays out (azd, Core Tools and VS Code read it too), and here stands what
may go in. A file that neither knows is an error, so that nothing is deployed by accident.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from pathspec import GitIgnoreSpec

from dev.packaging.errors import PackageError

DEPLOYED: Final = ("function_app.py", "host.json", "requirements.txt", "shared/*.py", "shared/*.html")
"""What may be deployed; `*` also stands for folders."""

REQUIRED: Final = ("function_app.py", "host.json", "requirements.txt", "shared/bootstrap.py")
"""Without these there is no app; for the case that .funcignore leaves out too much."""

_SECRETS: Final = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "the key of a storage account": re.compile(r"AccountKey=[A-Za-z0-9+/]{40,}"),
    "a shared access signature": re.compile(r"[?&;]sig=[A-Za-z0-9%+/]{30,}"),
    "a Mailchimp API key": re.compile(r"\b[0-9a-f]{32}-us\d{1,3}\b"),
    "a client secret of Entra ID": re.compile(r"\b[A-Za-z0-9_~.-]{3}8Q~[A-Za-z0-9_~.-]{31,34}\b"),
    "a token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}"),
    "a password in an address": re.compile(r"://[^/\s:@{}]+:[^/\s:@{}]+@"),
}


def app_files(project: Path) -> list[str]:
    """The files of the app, by their path in the package, sorted.

    Raises PackageError for a file that is not meant to be deployed, one that holds a secret, or one that is missing.
    """
    files = sorted(_kept(project))
    unknown = [file for file in files if not any(fnmatchcase(file, pattern) for pattern in DEPLOYED)]
    if unknown:
        raise PackageError(
            f"These would be deployed and nothing says that they should: {', '.join(unknown[:5])}. "
            "Name them in .funcignore, or in DEPLOYED of dev/packaging/contents.py."
        )
    if missing := [file for file in REQUIRED if file not in files]:
        raise PackageError(f"Without these there is no app: {', '.join(missing)}. Does .funcignore leave them out?")
    for file in files:
        _refuse_secrets(file, (project / file).read_bytes())
    return files


def left_out(project: Path) -> list[str]:
    """What .funcignore keeps out, of the files and folders at the top."""
    ignored = _ignored(project)
    entries = sorted(project.iterdir())
    return [entry.name for entry in entries if ignored.match_file(f"{entry.name}/" if entry.is_dir() else entry.name)]


def _ignored(project: Path) -> GitIgnoreSpec:
    lines: Sequence[str] = (project / ".funcignore").read_text(encoding="utf-8").splitlines()
    return GitIgnoreSpec.from_lines(lines)


def _kept(project: Path) -> Iterator[str]:
    """Every file that .funcignore does not keep out. Raises PackageError for links: what is behind them may change."""
    ignored = _ignored(project)
    for folder, subfolders, names in os.walk(project):
        here = Path(folder).relative_to(project)
        subfolders[:] = [name for name in subfolders if not ignored.match_file(f"{(here / name).as_posix()}/")]
        for name in (*names, *(name for name in subfolders if (Path(folder) / name).is_symlink())):
            path = (here / name).as_posix()
            if ignored.match_file(path):
                continue
            if (project / path).is_symlink():
                raise PackageError(f"{path} is a link: put the file itself there, or name it in .funcignore.")
            yield path


def _refuse_secrets(file: str, content: bytes) -> None:
    text = content.decode("utf-8", errors="replace")
    for what, pattern in _SECRETS.items():
        if found := pattern.search(text):
            line = text.count("\n", 0, found.start()) + 1
            raise PackageError(f"{file}, line {line}, looks like {what}. Nothing secret may be deployed.")
