"""Which data a destination's audience has: what lets a scheduled export be skipped when nothing has changed.

``succeeded/{destination}.json`` names the last export that arrived as a whole, as long as nothing else was sent since.
Finish writes it before the export's last status, so no later export can miss it; prepare deletes it before other data
go out. In doubt it is missing, and then the export is made. It is also made when somebody may be sent again whom that
export left out, because Mailchimp had refused them: their time is over, or they were cleared.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from shared.exports import fingerprints
from shared.exports.model import Export, LeftOut, Status
from shared.exports.store import ExportStore
from shared.storage import names
from shared.storage.json_documents import JsonDocument


class Sent(JsonDocument):
    """The content of ``succeeded/{destination}.json``."""

    export_id: str
    sources: str
    configuration: str
    left_out: LeftOut | None = None

    def is_of(self, export: Export, configuration: str | None) -> bool:
        """Whether ``export``, with this configuration, sends the same."""
        return (self.sources, self.configuration) == (fingerprints.of_sources(export.sources), configuration)


def remember_success(store: ExportStore, export: Export, left_out: LeftOut | None) -> None:
    """Note that everybody of ``export`` arrived who can, and what keeps the others out."""
    if export.configuration is not None:
        sources = fingerprints.of_sources(export.sources)
        sent = Sent(export_id=export.id, sources=sources, configuration=export.configuration, left_out=left_out)
        store.documents.write(names.succeeded(export.destination_id), sent.to_bytes())


def forget_other_data(store: ExportStore, export: Export) -> None:
    """Before ``export`` sends: unless it sends again what the audience has, nobody knows any more what that is."""
    known = _known(store, export.destination_id)
    if known is not None and not known.is_of(export, export.configuration):
        store.documents.delete(names.succeeded(export.destination_id))


def unchanged_since(
    store: ExportStore, export: Export, configuration: str, still_keeps_out: Callable[[LeftOut], bool]
) -> datetime | None:
    """When the audience got the very data that ``export`` has pinned, with the same configuration; None if it has
    others, if somebody may be sent whom that export left out (``still_keeps_out``), or nobody knows."""
    known = _known(store, export.destination_id)
    if known is None or not known.is_of(export, configuration):
        return None
    if known.left_out is not None and not still_keeps_out(known.left_out):
        return None
    last = store.find(known.export_id)
    if last is None or last.status not in {Status.SUCCESSFUL, Status.COMPLETED_WITH_ERRORS}:
        return None
    return last.ended_at


def _known(store: ExportStore, destination_id: str) -> Sent | None:
    found = store.documents.read(names.succeeded(destination_id))
    return Sent.from_bytes(found.data) if found else None
