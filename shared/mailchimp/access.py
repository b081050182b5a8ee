"""Who may open a connection to Mailchimp: look-ups use the connections that the lanes leave free.

Mailchimp allows a user ten connections at a time over all applications. Lanes hold leases 0 to
MAILCHIMP_MAX_CONNECTIONS-1 of an account (shared/exports/lanes.py); a look-up holds one of the rest. So the sum stays
below the limit over any number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from shared.mailchimp.client import MailchimpClient
from shared.settings import MAILCHIMP_CONNECTION_LIMIT
from shared.storage import names
from shared.storage.leases import Leases

_WAIT_S: Final = 15.0
_POLL_S: Final = 0.2


class LookupsBusy(Exception):
    """Raised when all connections for look-ups stayed in use; to be tried again in a few seconds."""


class MailchimpAccess:
    """Opens Mailchimp clients, each for one connection."""

    def __init__(
        self,
        leases: Leases,
        max_connections: int,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        open_client: Callable[[str, str], MailchimpClient] = MailchimpClient,
    ) -> None:
        self._leases = leases
        self._max_connections = max_connections
        self._clock = clock
        self._sleep = sleep
        self._open_client = open_client

    def client(self, api_root: str, token: str) -> MailchimpClient:
        """A client for somebody who holds a connection of the account already."""
        return self._open_client(api_root, token)

    @contextmanager
    def lookup(self, account_id: str | None, api_root: str, token: str) -> Iterator[MailchimpClient]:
        """A client that may be used inside the block, by one thread. Raises LookupsBusy.

        ``account_id`` is None at the first sign-in, when the account is not known yet: such look-ups take turns by
        their token and use the one connection that is kept for them.
        """
        deadline = self._clock() + _WAIT_S
        while True:
            for name in self._connections(account_id, token):
                with self._leases.take(name) as lease:
                    if lease is not None:
                        yield self.client(api_root, token)
                        return
            if self._clock() >= deadline:
                raise LookupsBusy("All connections kept for looking things up in Mailchimp are in use. Try again soon.")
            self._sleep(_POLL_S)

    def _connections(self, account_id: str | None, token: str) -> list[str]:
        if account_id is None:
            unknown = hashlib.sha256(token.encode()).hexdigest()[:24]
            return [names.lane(f"new-{unknown}", 0)]
        last = MAILCHIMP_CONNECTION_LIMIT - 1  # kept for the first sign-in of an account
        free = range(self._max_connections, last)
        return [names.lane(account_id, number) for number in free or range(self._max_connections)]
