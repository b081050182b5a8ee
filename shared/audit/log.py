"""The audit log: one blob per record in a container of its own, created if absent and never written again.

There is nothing here to change or delete a record with: ``AppendOnly`` is all that the log knows of its container.
infra/modules/storage.bicep can make the container refuse it too (``auditImmutabilityDays``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, takewhile
from typing import Final, Protocol

from shared.audit.model import AuditRecord, TargetType, time_in_ids
from shared.storage.documents import AlreadyExists, Document

RECORD_ID_PATTERN: Final = r"[0-9]{8}T[0-9]{12}Z-[!-~]{1,200}"
RECORDS_READ_AT_MOST: Final = 1000
"""By one call of ``newest``: so that it ends within seconds, however rare what it looks for."""

_READERS: Final = 16
_READ_AHEAD: Final = 4 * _READERS
_MONTH: Final = len("YYYYMM")
_BLOB_NAME: Final = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}/(?P<id>{RECORD_ID_PATTERN})\.json")
_FIRST, _LAST = "0", "9" * 8


class AppendOnly(Protocol):
    """The part of ``shared.storage.documents.Documents`` that a log needs."""

    def create(self, name: str, data: bytes) -> str: ...

    def read(self, name: str) -> Document | None: ...

    def names(self, prefix: str) -> Iterator[str]: ...

    def beginnings(self, prefix: str, end: str) -> Iterator[str]: ...


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What to look for; all of it has to fit. ``since`` is the first moment, ``until`` the first one after.

    ``actions``: any of them, or any at all where it is empty. ``who``: the ID or the name of a person; the case of a
    name makes no difference.
    """

    since: datetime | None = None
    until: datetime | None = None
    actions: frozenset[str] = frozenset()
    target_type: TargetType | None = None
    target_id: str | None = None
    who: str | None = None

    @property
    def looks_inside(self) -> bool:
        """Whether records have to be read to know whether they fit."""
        return bool(self.actions) or (self.target_type, self.target_id, self.who) != (None, None, None)

    def takes(self, record: AuditRecord) -> bool:
        """Whether a record within the time fits."""
        return (
            (not self.actions or record.action in self.actions)
            and self.target_type in {None, record.target_type}
            and self.target_id in {None, record.target_id}
            and (self.who is None or self.who == record.who.id or self.who.casefold() == record.who.name.casefold())
        )


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Records, the newest first. ``next_after``: the ID to go on behind, None where nothing more can follow."""

    records: list[AuditRecord]
    next_after: str | None


def blob_name(record_id: str) -> str:
    """Records lie in a folder per month, so that the newest are found without listing all."""
    return f"{record_id[:4]}-{record_id[4:_MONTH]}/{record_id}.json"


class AuditLog:
    """The log of one installation."""

    def __init__(self, documents: AppendOnly) -> None:
        self._documents = documents

    def append(self, record: AuditRecord) -> None:
        """Write the record, unless it is there already: after a crash the same record is written again."""
        with suppress(AlreadyExists):
            self._documents.create(blob_name(record.id), record.to_bytes())

    def newest(self, query: AuditQuery, *, after: str | None = None, top: int) -> AuditPage:
        """The next ``top`` records that fit, from the newest to the oldest; ``after`` is where a page before ended.

        Reads at most RECORDS_READ_AT_MOST records. A page that found fewer than ``top`` by then is short, even empty,
        and has a ``next_after`` all the same.
        """
        ids = self._ids(query, after)
        found: list[AuditRecord] = []
        last: str | None = None
        left = RECORDS_READ_AT_MOST
        with ThreadPoolExecutor(_READERS, thread_name_prefix="audit") as readers:
            while left and len(found) < top:
                wanted = min(_READ_AHEAD, left) if query.looks_inside else top - len(found)
                chunk = list(islice(ids, wanted))
                if not chunk:
                    return AuditPage(found, None)
                left -= len(chunk)
                for record_id, record in zip(chunk, readers.map(self._read, chunk), strict=True):
                    last = record_id
                    if record is not None and query.takes(record):
                        found.append(record)
                        if len(found) == top:
                            break
        more = last != chunk[-1] or next(ids, None) is not None
        return AuditPage(found, last if more else None)

    def _ids(self, query: AuditQuery, after: str | None) -> Iterator[str]:
        """The IDs of records within the time and behind ``after``, the newest first; a month is listed when it is
        its turn."""
        first = time_in_ids(query.since) if query.since is not None else _FIRST
        ends = [time_in_ids(query.until)] if query.until is not None else []
        end = min([*ends, after] if after is not None else [*ends, _LAST])
        for folder in sorted(self._documents.beginnings("", "/"), reverse=True):
            month = folder.removesuffix("/").replace("-", "")
            if first[:_MONTH] <= month <= end[:_MONTH]:
                # What lies between two texts begins with all that both begin with.
                begin = _common_start(max(first, month), end) if end.startswith(month) else month
                found = self._documents.names(f"{folder}{begin}")
                yield from reversed([each for each in _ids_in(found) if first <= each < end])

    def _read(self, record_id: str) -> AuditRecord | None:
        found = self._documents.read(blob_name(record_id))
        return AuditRecord.from_bytes(found.data) if found is not None else None


def _common_start(one: str, other: str) -> str:
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "".join(character for character, _ in same)


def _ids_in(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        match = _BLOB_NAME.fullmatch(name)
        if match is not None and blob_name(match["id"]) == name:
            yield match["id"]
