"""Storage whose writes fail, one after the other, before or after they took effect."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from azure.core.exceptions import ServiceResponseError

from shared.storage.documents import DocumentError, Documents


class WriteFaults:
    """Makes the n-th write of a function fail, for n = 1, 2, …, every other time after it took effect."""

    def __init__(self, *containers: Documents) -> None:
        self.raised = 0
        self._left = 0
        self._lock = threading.Lock()
        for documents in containers:
            for name in ("create", "write", "replace", "upload", "upload_over", "delete"):
                setattr(documents, name, self._faulty(getattr(documents, name)))

    def _faulty(self, write: Callable[..., object]) -> Callable[..., object]:
        def attempt(*arguments: object, **options: object) -> object:
            with self._lock:
                self._left -= 1
                strikes, number = self._left == 0, self.raised
            if strikes and number % 2:
                with suppress(DocumentError):  # its answer is lost as well
                    write(*arguments, **options)
            if strikes:
                self.raised += 1
                raise ServiceResponseError("the answer was lost")
            return write(*arguments, **options)

        return attempt

    def until_done(self, function: Callable[[], object]) -> None:
        """Run ``function`` again and again, each time with the fault one write later, until nothing fails any more."""
        for number in range(1, 60):
            before = self.raised
            with self._lock:
                self._left = number
            try:
                function()
            except ServiceResponseError:
                continue
            if self.raised == before:
                with self._lock:
                    self._left = 0
                return
        raise AssertionError("it never came through")
