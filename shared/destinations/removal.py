"""Removes destinations: ends their exports, deletes what is stored, completes removals that were interrupted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from shared.destinations.model import Destination, Removal
from shared.destinations.service import RunningExports
from shared.destinations.store import DestinationStore
from shared.people import Person
from shared.secrets.store import SecretStore
from shared.storage import names


class Removals:
    """Removals, begun and completed."""

    def __init__(
        self,
        store: DestinationStore,
        secrets: SecretStore,
        exports: RunningExports,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._exports = exports
        self._clock = clock

    def remove(self, destination_id: str, user: Person, if_match: str | None = None) -> None:
        """Stop the destination's exports, delete its secret, its ledgers and itself.

        It is marked first, so that nothing starts any more, and an interrupted removal can be repeated.
        Raises DestinationNotFound, DestinationChanged.
        """
        stored = self._store.get(destination_id)
        if stored.destination.removal is None:

            def mark(destination: Destination) -> Destination:
                destination.removal = destination.removal or Removal(requested_by=user, requested_at=self._clock())
                return destination

            stored = self._store.change(
                destination_id, mark, if_match, by=user, action="destination.removalStarted", even_removed=True
            )
        self._finish(stored.destination)

    def finish_removals(self) -> int:
        """Complete removals that were interrupted, for the app's timer; returns how many there were."""
        begun = [stored.destination for stored in self._store.all() if stored.destination.removal is not None]
        for destination in begun:
            self._finish(destination)
        return len(begun)

    def _finish(self, destination: Destination) -> None:
        removal = destination.removal
        if removal is None:
            return
        user = removal.requested_by
        self._exports.stop_for_destination(destination.id, f"The destination was removed by {user.name}.")
        if destination.sign_in.secret_name is not None:
            self._secrets.delete(destination.sign_in.secret_name)
        self._store.documents.delete_all(names.ledgers(destination.id))
        self._store.documents.delete_all(names.idempotency(destination.id, "").removesuffix(".json"))
        self._store.delete(destination, user)
