"""A cache in front of a secret store, so that a lane does not ask the vault before every wake-up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from shared.secrets.store import SecretStore

CACHE_SECONDS: Final = 300.0


class CachedSecretStore:
    """Remembers what was read for five minutes, per process. Only found secrets are remembered."""

    def __init__(self, store: SecretStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._values: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def read(self, name: str) -> str:
        with self._lock:
            value, until = self._values.get(name, ("", float("-inf")))
            if self._clock() < until:
                return value
        asked_at = self._clock()
        value = self._store.read(name)
        with self._lock:
            self._values[name] = (value, asked_at + CACHE_SECONDS)
        return value

    def write(self, name: str, value: str) -> None:
        self._store.write(name, value)

    def delete(self, name: str) -> None:
        """Delete and forget. Other processes may use the secret until their five minutes have passed."""
        self.forget(name)
        self._store.delete(name)
        self.forget(name)

    def forget(self, name: str) -> None:
        """Read the secret anew next time; for the moment when Mailchimp refuses it."""
        with self._lock:
            self._values.pop(name, None)

    def reachable(self) -> bool:
        return self._store.reachable()
