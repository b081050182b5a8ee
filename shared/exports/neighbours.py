"""Other destinations that send to the audience of one that is being removed: what they tagged is theirs to keep."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from shared.destinations.model import Destination
from shared.destinations.store import DestinationStore
from shared.exports.model import Plan
from shared.exports.store import ExportStore
from shared.storage import names


class Neighbours:
    """The neighbours of ``destination``, whose removal has begun."""

    def __init__(self, store: ExportStore, destinations: DestinationStore, destination: Destination) -> None:
        self._store = store
        self._destinations = destinations
        self._destination = destination
        self._plans: dict[str, Plan | None] = {}

    def ledgers(self, audience_id: str) -> Sequence[tuple[str, str]]:
        """Name and ETag of the ledgers for the audience of every other destination, in the order of their names."""
        found = []
        for entry in self._store.documents.list(names.LEDGERS_PREFIX):
            destination_id, audience = names.ledger_of(entry.name)
            if audience == audience_id and destination_id != self._destination.id:
                found.append((entry.name, entry.etag))
        return found

    def sending(self, audience_id: str) -> str | None:
        """A sentence about an export that sends to the audience right now: whom it tags is not in a ledger yet."""
        account = self._destination.sign_in.account_id
        for entry in self._store.documents.list(names.open_exports(account)) if account else ():
            export_id = entry.name.rsplit("/", 1)[1]
            if export_id not in self._plans:
                self._plans[export_id] = self._store.plan(export_id)
            plan = self._plans[export_id]
            if plan is not None and plan.audience_id == audience_id and plan.destination_id != self._destination.id:
                return (
                    f"Waiting for export '{export_id}' of another destination, which is sending to the same audience."
                )
        return None

    def removed_before(self, audience_id: str) -> str | None:
        """A sentence about another destination whose tags are taken away first. Of two that go at once, the one that
        was removed first leaves what both have tagged to the other."""
        mine = self._destination.removal
        for name, _ in self.ledgers(audience_id):
            found = self._destinations.find(names.ledger_of(name)[0])
            removal = found.destination.removal if found else None
            if found is None or removal is None or mine is None or not removal.takes_tags_away:
                continue
            if (removal.requested_at, found.destination.id) < (mine.requested_at, self._destination.id):
                return (
                    f"Waiting for the removal of the destination '{found.destination.display_name}', which has "
                    "exported to the same audience."
                )
        return None


def version_of(ledgers: Sequence[tuple[str, str]]) -> str:
    """A short text that is another one when any of the ledgers is."""
    return hashlib.sha256(repr(sorted(ledgers)).encode()).hexdigest()[:16]
