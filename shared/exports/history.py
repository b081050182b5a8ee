"""Finds exports among thousands, the newest first, and opens only those that are asked for.

Those of one destination are found by its markers, which name nothing but IDs. Over all destinations, what the list
filters by stands in the metadata of each export's blob, written together with its content. A listing with metadata
costs about 0.2 ms an entry, so it is read a day at a time (IDs begin with the time), and only as far as somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from shared.exports.model import Export, Status, Trigger, time_of
from shared.storage import names
from shared.storage.documents import Documents, Entry

_CALLS_AT_ONCE: Final = 8
_DAYS_AT_ONCE: Final = 16
_END_OF_DAY: Final = "T"
"""What follows the day in an ID."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a listing tells of an export."""

    id: str
    destination_id: str
    status: Status
    trigger: str
    ended_at: datetime | None
    resumable_until: datetime | None = None

    @property
    def created_at(self) -> datetime:
        return time_of(self.id)


@dataclass(frozen=True, slots=True)
class ExportFilter:
    """Which exports are wanted: ``created_from`` ≤ createdAt < ``created_to``; what is empty does not matter."""

    destination_id: str | None = None
    statuses: frozenset[Status] = frozenset()
    trigger: Trigger | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None

    def wants(self, export: Summary | Export) -> bool:
        return (
            self.destination_id in {None, export.destination_id}
            and (not self.statuses or export.status in self.statuses)
            and self.trigger in {None, export.trigger}
            and (self.created_from is None or export.created_at >= self.created_from)
            and (self.created_to is None or export.created_at < self.created_to)
        )

    def may_want_of(self, date: str) -> bool:
        """Whether exports of this day, as it stands in IDs, may be wanted."""
        after_from = self.created_from is None or date >= _date(self.created_from)
        return after_from and (self.created_to is None or date <= _date(self.created_to))


def metadata_of(data: bytes) -> Mapping[str, str]:
    """The metadata of an export's blob with this content."""
    export = Export.from_bytes(data)
    ended = {"ended": export.ended_at.isoformat()} if export.ended_at else {}
    kept = {"resumableUntil": export.resumable_until.isoformat()} if export.resumable_until else {}
    return {
        "destination": export.destination_id,
        "status": export.status.value,
        "trigger": export.trigger,
        **ended,
        **kept,
    }


class History:
    """The exports of an installation, those that run among them."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def newest_first(self, wanted: ExportFilter, before: str | None = None, at_once: int = 50) -> Iterator[Export]:
        """The wanted exports whose ID comes before the ID ``before``, which need not exist; ``at_once`` are opened at a
        time."""
        ids = self._of_destination(wanted) if wanted.destination_id is not None else self._of_all(wanted, before)
        behind = (found for found in ids if before is None or found < before)
        with ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="history") as pool:
            while some := list(islice(behind, at_once)):
                for found in pool.map(self._documents.read, map(names.export, some)):
                    export = Export.from_bytes(found.data) if found is not None else None
                    if export is not None and wanted.wants(export):  # it may have gone on since the listing
                        yield export

    def oldest_first(self) -> Iterator[Summary]:
        """All exports, as the listing tells of them."""
        for day in self._days():
            yield from map(_summary, self._entries(day))

    def _of_destination(self, wanted: ExportFilter) -> Iterator[str]:
        prefix = names.exports_of(wanted.destination_id or "")
        ids = [name.removeprefix(prefix) for name in self._documents.names(prefix)]
        return (found for found in reversed(ids) if wanted.may_want_of(_date_of(found)))

    def _of_all(self, wanted: ExportFilter, before: str | None) -> Iterator[str]:
        days = [
            day
            for day in self._days()
            if wanted.may_want_of(_date_of_day(day)) and (before is None or _date_of_day(day) <= before)
        ]
        size = 1
        with ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="history") as pool:
            while days:
                days, some = days[:-size], days[-size:]
                for entries in pool.map(self._entries, reversed(some)):
                    yield from (found.id for found in map(_summary, reversed(entries)) if wanted.wants(found))
                size = min(2 * size, _DAYS_AT_ONCE)  # who looks that far back will look further

    def _days(self) -> Sequence[str]:
        """The days on which exports were asked for, each as the names of its exports begin, the oldest first."""
        return list(self._documents.beginnings(names.EXPORTS_PREFIX, _END_OF_DAY))

    def _entries(self, day: str) -> Sequence[Entry]:
        return list(self._documents.list(day, metadata=True))


def _summary(entry: Entry) -> Summary:
    given = entry.metadata
    return Summary(
        id=entry.name.removeprefix(names.EXPORTS_PREFIX).removesuffix(".json"),
        destination_id=given["destination"],
        status=Status(given["status"]),
        trigger=given["trigger"],
        ended_at=datetime.fromisoformat(given["ended"]) if "ended" in given else None,
        resumable_until=datetime.fromisoformat(given["resumableUntil"]) if "resumableUntil" in given else None,
    )


def _date_of(export_id: str) -> str:
    return export_id.partition(_END_OF_DAY)[0]


def _date_of_day(day: str) -> str:
    return day.removeprefix(names.EXPORTS_PREFIX).removesuffix(_END_OF_DAY)


def _date(moment: datetime) -> str:
    with suppress(OverflowError):  # at the ends of the calendar a day more or less makes no difference
        moment = moment.astimezone(UTC)
    return f"{moment.year:04}{moment.month:02}{moment.day:02}"
