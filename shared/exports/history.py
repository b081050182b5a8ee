"""Finds exports among thousands: newest first, by destination, status, trigger and time, without opening them.

What the list filters by stands in the metadata of each export's blob, written together with its content; the time is in
the ID, and so in the name. A listing with metadata costs about 0.2 ms an entry, so it is read a day at a time, the
newest first, and only as far as somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from shared.exports.model import Export, Status, Trigger, time_of
from shared.storage import names
from shared.storage.documents import Documents, Entry

_CALLS_AT_ONCE: Final = 8
_DAYS_AT_ONCE: Final = 16
_END_OF_DAY: Final = "T"
"""What follows the day in an ID."""


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


@dataclass(frozen=True, slots=True)
class Summary:
    """What a listing tells of an export."""

    id: str
    destination_id: str
    status: Status
    trigger: str
    ended_at: datetime | None

    @property
    def created_at(self) -> datetime:
        return time_of(self.id)


def metadata_of(data: bytes) -> Mapping[str, str]:
    """The metadata of an export's blob with this content."""
    export = Export.from_bytes(data)
    ended = {"ended": export.ended_at.isoformat()} if export.ended_at else {}
    return {"destination": export.destination_id, "status": export.status.value, "trigger": export.trigger, **ended}


def _summary(entry: Entry) -> Summary:
    given = entry.metadata
    return Summary(
        id=entry.name.removeprefix(names.EXPORTS_PREFIX).removesuffix(".json"),
        destination_id=given["destination"],
        status=Status(given["status"]),
        trigger=given["trigger"],
        ended_at=datetime.fromisoformat(given["ended"]) if "ended" in given else None,
    )


class History:
    """The exports of an installation, those that run among them."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def newest_first(self, wanted: ExportFilter, before: str | None = None) -> Iterator[Summary]:
        """The wanted exports; those whose ID comes before the ID ``before``, which need not exist."""
        days = [day for day in self._days() if _may_hold(day, wanted, before)]
        size = 1
        with ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="history") as pool:
            while days:
                days, some = days[:-size], days[-size:]
                for entries in pool.map(self._entries, reversed(some)):
                    for found in map(_summary, reversed(entries)):
                        if (before is None or found.id < before) and wanted.wants(found):
                            yield found
                size = min(2 * size, _DAYS_AT_ONCE)  # who looks that far will look further

    def oldest_first(self) -> Iterator[Summary]:
        """All exports."""
        for day in self._days():
            yield from map(_summary, self._entries(day))

    def read(self, ids: Iterable[str]) -> list[Export]:
        """The exports with these IDs, in their order, without those that are gone."""
        with ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="history") as pool:
            found = pool.map(self._documents.read, map(names.export, ids))
            return [Export.from_bytes(each.data) for each in found if each is not None]

    def _days(self) -> Sequence[str]:
        """The days on which exports were asked for, each as the names of its exports begin, the oldest first."""
        return list(self._documents.beginnings(names.EXPORTS_PREFIX, _END_OF_DAY))

    def _entries(self, day: str) -> Sequence[Entry]:
        return list(self._documents.list(day, metadata=True))


def _may_hold(day: str, wanted: ExportFilter, before: str | None) -> bool:
    """Whether the exports of ``day`` may be wanted; IDs, and so names, sort by time."""
    date = day.removeprefix(names.EXPORTS_PREFIX).removesuffix(_END_OF_DAY)
    return (
        (before is None or date <= before)
        and (wanted.created_from is None or date >= _date(wanted.created_from))
        and (wanted.created_to is None or date <= _date(wanted.created_to))
    )


def _date(moment: datetime) -> str:
    with suppress(OverflowError):  # at the ends of the calendar a day more or less makes no difference
        moment = moment.astimezone(UTC)
    return f"{moment.year:04}{moment.month:02}{moment.day:02}"
