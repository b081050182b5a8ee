"""The licence of each installed package, as its metadata tells it, and which ones may be deployed."""

from __future__ import annotations

import re
from email.message import Message
from importlib.metadata import metadata
from typing import Final, cast

PERMISSIVE: Final = frozenset({"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0"})
"""Licences (SPDX) that ask for no more than their notice, which each package carries in its `dist-info` folder."""

REVIEWED: Final = {
    "certifi": ("MPL-2.0", "a list of certificates; used unchanged, and its source is what is deployed"),
}
"""Packages under another licence that may be deployed all the same: the licence that was looked at, and why."""

_SPDX_OF_CLASSIFIER: Final = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",  # it does not tell two clauses from three; both are permitted
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
_SPDX_OF_WORDS: Final = {
    "apache 2.0": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "mit": "MIT",
    "mit license": "MIT",
    "mpl-2.0": "MPL-2.0",
}


def licence_of(package: str) -> str:
    """The licence in SPDX's words, or `unknown`. Metadata has three places for it; the newest is asked first.

    Raises PackageNotFoundError when the package is not installed here.
    """
    about = cast("Message", metadata(package))
    if expression := about.get("License-Expression"):
        return str(expression)
    if words := _SPDX_OF_WORDS.get(str(about.get("License", "")).strip().lower()):
        return words
    kinds = [str(one).rpartition(" :: ")[2] for one in about.get_all("Classifier", []) if "License ::" in str(one)]
    known = {_SPDX_OF_CLASSIFIER[kind] for kind in kinds if kind in _SPDX_OF_CLASSIFIER}
    return " OR ".join(sorted(known)) or "unknown"


def objection_to(package: str, licence: str) -> str | None:
    """Why a package must not be deployed; None when it may. An `OR` gives a choice, an `AND` asks for all."""
    if package in REVIEWED:
        reviewed, _ = REVIEWED[package]
        return None if licence == reviewed else f"{package} was reviewed as {reviewed} and is now {licence}"
    choices = [set(re.split(r"\s+AND\s+", one.strip("() "))) for one in re.split(r"\s+OR\s+", licence)]
    if any(choice <= PERMISSIVE for choice in choices):
        return None
    return f"{package} is under {licence}, which is not on the list of permissive licences"
