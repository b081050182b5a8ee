"""Where destinations are kept: one document each in the state container, changed with ETag only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from shared.destinations.errors import DestinationBeingRemoved, DestinationChanged, DestinationNotFound
from shared.destinations.model import Destination, SignInState
from shared.storage import names
from shared.storage.documents import Changed, Documents

_TRIES = 8


@dataclass(frozen=True, slots=True)
class StoredDestination:
    """A destination and the ETag of the version that was read."""

    destination: Destination
    etag: str


class DestinationStore:
    """Reads and changes destinations. The engine of exports needs no more than this."""

    def __init__(self, documents: Documents, clock: Callable[[], datetime]) -> None:
        self.documents = documents
        self._clock = clock

    def find(self, destination_id: str) -> StoredDestination | None:
        found = self.documents.read(names.destination(destination_id))
        return StoredDestination(Destination.from_bytes(found.data), found.etag) if found else None

    def get(self, destination_id: str) -> StoredDestination:
        """The destination. Raises DestinationNotFound."""
        found = self.find(destination_id)
        if found is None:
            raise DestinationNotFound(destination_id)
        return found

    def all(self) -> Iterator[StoredDestination]:
        """Every destination, in the order of their IDs."""
        for entry in list(self.documents.list(names.DESTINATIONS_PREFIX)):
            found = self.documents.read(entry.name)
            if found is not None:  # removed since the listing
                yield StoredDestination(Destination.from_bytes(found.data), found.etag)

    def create(self, destination: Destination) -> StoredDestination:
        etag = self.documents.create(names.destination(destination.id), destination.to_bytes())
        return StoredDestination(destination, etag)

    def change(
        self, destination_id: str, change: Callable[[Destination], Destination], if_match: str | None = None
    ) -> StoredDestination:
        """Store what ``change`` makes of the newest version. It gets a copy, may run again, and may raise.

        ``if_match``: the ETag that the newest version must have. Without it the change is repeated on whatever
        somebody else wrote meanwhile. Raises DestinationNotFound, DestinationBeingRemoved, DestinationChanged.
        """
        for _ in range(_TRIES):
            found = self.get(destination_id)
            if if_match is not None and found.etag != if_match:
                raise DestinationChanged(destination_id)
            if found.destination.removed_at is not None:
                raise DestinationBeingRemoved(destination_id)
            wanted = change(found.destination.model_copy(deep=True))
            if wanted == found.destination:
                return found
            try:
                etag = self.documents.replace(names.destination(destination_id), wanted.to_bytes(), found.etag)
            except Changed:
                continue
            return StoredDestination(wanted, etag)
        raise DestinationChanged(destination_id)

    def mark_sign_in_again(self, destination_id: str, secret_name: str | None = None) -> None:
        """Note that Mailchimp refused the sign-in; nothing starts until somebody signs in again.

        ``secret_name``: the secret that was refused. Somebody may have signed in again since: then all is well.
        A destination that is gone or going is left alone.
        """

        def mark(destination: Destination) -> Destination:
            sign_in = destination.sign_in
            if sign_in.state is SignInState.CONNECTED and secret_name in {None, sign_in.secret_name}:
                sign_in.state = SignInState.SIGN_IN_AGAIN
                destination.updated_at = self._clock()
                destination.updated_by = "Mailchimp"
            return destination

        try:
            self.change(destination_id, mark)
        except (DestinationNotFound, DestinationBeingRemoved):
            return

    def delete(self, destination_id: str) -> None:
        self.documents.delete(names.destination(destination_id))
