"""Secrets that may belong to no destination: noted before they are, so that none outlives a crash or a fault unseen.

A sign-in writes a secret, points the destination to it, and deletes the one before. Whatever of that is cut off, a note
is left, and the app's daily timer deletes the secret, unless the destination points to it after all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from azure.core.exceptions import AzureError

from shared import log
from shared.destinations.store import DestinationStore
from shared.secrets.store import SecretStore, SecretStoreError
from shared.storage import names
from shared.storage.documents import Changed
from shared.storage.json_documents import JsonDocument

_UNDER_WAY: Final = timedelta(hours=1)
"""A younger note may be of a sign-in that goes on."""


class LooseSecret(JsonDocument):
    """The note; stored at ``loose-secrets/{name of the secret}.json``."""

    destination_id: str
    noted_at: datetime


class LooseSecrets:
    """Writes and deletes secrets of destinations, and knows which of them may be left over."""

    def __init__(
        self, destinations: DestinationStore, secret_store: SecretStore, clock: Callable[[], datetime]
    ) -> None:
        self._destinations = destinations
        self._documents = destinations.documents
        self._secrets = secret_store
        self._clock = clock

    def write(self, destination_id: str, name: str, secret: str) -> None:
        """Store a secret that nothing points to yet."""
        self.note(destination_id, name)
        self._secrets.write(name, secret)

    def note(self, destination_id: str, name: str) -> None:
        """Note that the destination may stop pointing to this secret at any moment."""
        note = LooseSecret(destination_id=destination_id, noted_at=self._clock())
        self._documents.write(names.loose_secret(name), note.to_bytes())

    def kept(self, name: str) -> None:
        """The destination points to the secret now."""
        with suppress(AzureError):  # the timer sees that too
            self._documents.delete(names.loose_secret(name))

    def delete(self, name: str) -> None:
        """Delete a noted secret. What fails is made up for by the timer."""
        try:
            self._secrets.delete(name)
        except (AzureError, SecretStoreError) as error:
            log.warning("secret.notDeleted", error=type(error).__name__)
        else:
            self.kept(name)

    def delete_left_over(self) -> int:
        """Delete the noted secrets that no destination points to, for the app's timer; returns how many."""
        deleted = 0
        for entry in list(self._documents.list(names.LOOSE_SECRETS_PREFIX)):
            found = self._documents.read(entry.name)
            if found is None:
                continue
            note = LooseSecret.from_bytes(found.data)
            if self._clock() - note.noted_at < _UNDER_WAY:
                continue
            name = names.secret_of(entry.name)
            destination = self._destinations.find(note.destination_id)
            if destination is None or destination.destination.sign_in.secret_name != name:
                self._secrets.delete(name)
                deleted += 1
            with suppress(Changed):  # a sign-in has noted it anew: the next round looks again
                self._documents.delete(entry.name, found.etag)
        return deleted
