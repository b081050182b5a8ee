"""Helpers that tests of every area share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StorageAccount:
    """A storage account of the emulator that one test has for itself."""

    name: str
    connection_string: str


def wait_for(look: Callable[[], T | None], what: str, seconds: float = 60) -> T:
    """Calls `look` until it returns something other than None or False; AssertionError naming `what` after a while."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.05)
