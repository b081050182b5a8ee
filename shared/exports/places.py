"""How many may do something that takes much memory at the same time in this process, whatever the host hands out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_LOOK_EVERY_S: Final = 0.5


class Places:
    """A number of places. Who finds none waits, on its thread, until somebody leaves."""

    def __init__(self, count: int) -> None:
        self._free = threading.BoundedSemaphore(count)

    @contextmanager
    def take(self, check: Callable[[], None]) -> Iterator[None]:
        """Hold a place while the block runs. ``check`` is called twice a second while it waits; it may raise."""
        while not self._free.acquire(timeout=_LOOK_EVERY_S):
            check()
        try:
            yield
        finally:
            self._free.release()
