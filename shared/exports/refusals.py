"""The memory of an audience: whom Mailchimp refused for good, so that later exports leave them out for a while.

One blob per account and audience, whichever destination sent them: ``refusals/{account}/{audience}.parquet``, changed
with its ETag only, so of two who change it at once neither loses anything. What decides about it without opening it
stands in its metadata (``MemoryNote``).

Finish folds an export in before it creates the books, and may be cut off in between. So that nobody comes back whom
somebody has cleared meanwhile, an export is folded in once: the same write notes its ID, which is kept until the export
has ended. From then on nobody finishes it again; a finisher that was overtaken finds the books.

A blob that cannot be read counts as empty, and is replaced by the next one who writes: what is lost is a saving of
calls, because Mailchimp refuses the same people again, and they are remembered again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from shared import log
from shared.destinations.store import DestinationStore
from shared.exports.model import MEMBERS_PER_BATCH, LeftOut, Plan, RejectedRow
from shared.exports.refusal_table import Place, Refusal, RefusalTable, Unreadable
from shared.exports.store import ExportStore
from shared.mailchimp.row_errors import LASTING
from shared.storage import names
from shared.storage.documents import Changed
from shared.storage.json_documents import JsonDocument

_FOLDED_AT_MOST: Final = 40
"""Exports that are noted as folded in. Metadata hold 8 KB; as many destinations would have to share the audience and
finish at the same moment before one were left out."""


class MemoryNote(JsonDocument):
    """What the blob's metadata tell of it.

    ``version``: another one when people were taken off for another reason than that their time was over. ``folded``: by
    the ID of an export that may not have ended, what it was told when it was folded in.
    """

    version: str = ""
    first_until: datetime | None = None
    folded: dict[str, LeftOut | None] = Field(default_factory=dict)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> MemoryNote:
        try:
            return cls.model_validate_json(metadata.get("note", "{}"))
        except ValidationError:
            return cls()

    def to_metadata(self) -> dict[str, str]:
        return {"note": self.model_dump_json(by_alias=True)}


@dataclass(slots=True)
class _Memory:
    """An opened blob; ``etag`` is None where there is none, ``file`` too where it cannot be read."""

    folder: Path
    file: Path | None
    table: RefusalTable
    note: MemoryNote
    etag: str | None


@dataclass(frozen=True, slots=True)
class Remembered:
    """Whom an export is to leave out: a Parquet file of ``RefusalTable``, None where there is nobody, in which those
    count whose time is not over ``at`` a moment; and the version of it."""

    file: Path | None
    at: datetime
    version: str

    def keeps_out(self, until: datetime | None, before: LeftOut | None = None) -> LeftOut | None:
        """What keeps out those whom an export leaves out for it, the first of them until a moment (None: it leaves out
        nobody), and those whom the export before did not reach, where it goes on with one (``before``)."""
        return _kept_out(before, self.version, until, self.version)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an export's members: the Parquet file of them, the batches that have a result, the refused rows,
    each with its batch, and since when it has been sending."""

    members: Path
    sent: Sequence[int]
    rejected: Sequence[tuple[int, RejectedRow]]
    began: datetime


class Refusals:
    """The memories of all audiences."""

    def __init__(
        self,
        store: ExportStore,
        destinations: DestinationStore,
        *,
        lasting: timedelta,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        """``lasting``: how long somebody is left out."""
        self._store = store
        self._documents = store.documents
        self._destinations = destinations
        self._lasting = lasting
        self._now = now
        self._new_id = new_id

    # -- for prepare ---------------------------------------------------------------------------------------------

    def remembered(self, account: str, audience: str, folder: Path) -> Remembered:
        """Whom an export to the audience leaves out now; the file lies in ``folder``."""
        with self._open(names.refusals(account, audience), folder, to_change=False) as memory:
            return Remembered(memory.file, self._now(), memory.note.version)

    def still_keeps_out(self, account: str, audience: str, left_out: LeftOut) -> bool:
        """Whether all whom an earlier export left out would be left out again."""
        if left_out.until <= self._now():
            return False
        name = names.refusals(account, audience)
        entry = next((each for each in self._documents.list(name, metadata=True) if each.name == name), None)
        version = MemoryNote.from_metadata(entry.metadata).version if entry is not None else ""
        return version == left_out.memory != ""

    # -- for finish ----------------------------------------------------------------------------------------------

    def fold_in(self, plan: Plan, outcome: Outcome) -> LeftOut | None:
        """Remember whom Mailchimp refused for good in the export, and forget whom it has taken; returns what keeps the
        people out whom the export did not reach for that reason, None where there are none."""
        now = self._now()
        until = now + self._lasting
        lasting = list(_lasting(plan.export_id, outcome, now, until))
        refused = [_position(batch, row) for batch, row in outcome.rejected if row.position is not None]
        told: LeftOut | None = None

        def fold(memory: _Memory) -> bool:
            nonlocal told
            note, table = memory.note, memory.table
            if plan.export_id in note.folded:
                told = note.folded[plan.export_id]
                return False
            before = note.version
            taken = table.drop_taken(outcome.members, outcome.sent, refused, outcome.began) if table.extent()[0] else 0
            note.version = self._new_id() if taken else note.version
            told = _kept_out(plan.left_out, before, until if lasting else None, note.version)
            if not (lasting or taken) or self._documents.exists(names.books(plan.export_id)):
                return False
            table.add(lasting)
            note.folded[plan.export_id] = told
            return True

        self._change(names.refusals(plan.account_id, plan.audience_id), fold)
        return told

    # -- for people ----------------------------------------------------------------------------------------------

    def page(self, account: str, audience: str, code: str | None, behind: Place | None, top: int) -> list[Refusal]:
        """Who is left out now, the newest export's first: at most ``top`` behind a place."""
        with self._opened(names.refusals(account, audience), to_change=False) as memory:
            return memory.table.page(self._now(), code, behind, top)

    def clear(self, account: str, audience: str, emails: Sequence[str] | None) -> int:
        """Forget these people, or all where ``emails`` is None, so that the next export sends them; returns how many
        there were."""
        cleared = 0

        def forget(memory: _Memory) -> bool:
            nonlocal cleared
            memory.table.drop_expired(self._now())
            found = memory.table.drop_all() if emails is None else memory.table.drop(emails)
            cleared = max(cleared, found)  # of our own write whose answer was lost nothing is found any more
            memory.note.version = self._new_id()
            return bool(found) or (emails is None and memory.etag is not None)

        self._change(names.refusals(account, audience), forget)
        return cleared

    # -- the timer -----------------------------------------------------------------------------------------------

    def expire(self) -> None:
        """Drop those whose time is over, and memories of audiences that no destination uses any more."""
        entries = list(self._documents.list(names.REFUSALS_PREFIX, metadata=True))  # before the destinations
        used = self._destinations.targets_in_use()
        for entry in entries:
            first = MemoryNote.from_metadata(entry.metadata).first_until
            if names.refusals_of(entry.name) not in used:
                with suppress(Changed):
                    self._documents.delete(entry.name, entry.etag)
            elif first is None or first <= self._now():
                self._change(entry.name, lambda memory: memory.etag is not None)

    # -- plumbing ------------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self, name: str, *, to_change: bool = True) -> Iterator[_Memory]:
        with (
            tempfile.TemporaryDirectory(prefix="refusals-") as folder,
            self._open(name, Path(folder), to_change=to_change) as memory,
        ):
            yield memory

    @contextmanager
    def _open(self, name: str, folder: Path, *, to_change: bool) -> Iterator[_Memory]:
        file = folder / "refusals.parquet"
        found = self._documents.download(name, file)
        note = MemoryNote.from_metadata(found.metadata) if found else MemoryNote()
        readable = file if found else None
        try:
            table = RefusalTable(folder, readable, to_change=to_change)
        except Unreadable:
            log.error("refusals.unreadable", audience=names.refusals_of(name)[1])
            note.version, readable = "", None
            table = RefusalTable(folder)
        note.version = note.version or self._new_id()
        try:
            yield _Memory(folder, readable, table, note, found.etag if found else None)
        finally:
            table.close()

    def _change(self, name: str, change: Callable[[_Memory], bool]) -> None:
        """Open, change and write until nobody interferes. ``change`` may run more than once, each time on what is
        stored then; it returns whether there is anything to write."""
        while True:
            with self._opened(name) as memory:
                if not change(memory):
                    return
                with suppress(Changed):
                    self._write(name, memory)
                    return

    def _write(self, name: str, memory: _Memory) -> None:
        """Write the memory, or delete the blob where nothing is left that is still needed. Raises Changed."""
        table, note = memory.table, memory.note
        table.drop_expired(self._now())
        note.folded = self._not_ended(note.folded)
        count, note.first_until = table.extent()
        if count or note.folded:
            file = memory.folder / "changed.parquet"
            table.write(file)
            self._documents.upload_over(name, file, memory.etag, note.to_metadata())
        elif memory.etag is not None:
            self._documents.delete(name, memory.etag)

    def _not_ended(self, folded: Mapping[str, LeftOut | None]) -> dict[str, LeftOut | None]:
        kept = {}
        for export_id in sorted(folded)[-_FOLDED_AT_MOST:]:
            export = self._store.find(export_id)
            if export is not None and not export.ended:
                kept[export_id] = folded[export_id]
        return kept


def _kept_out(before: LeftOut | None, then: str, until: datetime | None, version: str) -> LeftOut | None:
    """What keeps out those of ``before``, and others until a moment; None where there are none of either.

    ``then`` is the version of the memory in which those of ``before`` should still be: if it is another one, some may
    have been taken off since. ``version`` is the one of which this is told.
    """
    ends = [each for each in (before and before.until, until) if each]
    is_stale = before is not None and before.memory != then
    return LeftOut(until=min(ends), memory="" if is_stale else version) if ends else None


def _position(batch: int, row: RejectedRow) -> int:
    return batch * MEMBERS_PER_BATCH + (row.position or 0)


def _lasting(export_id: str, outcome: Outcome, at: datetime, until: datetime) -> Iterator[Refusal]:
    """The refusals to remember. A row that Mailchimp's reply names by an address that was not sent is none of them."""
    for batch, row in outcome.rejected:
        if row.code in LASTING and row.position is not None:
            yield Refusal(row.email, row.code, row.message, at, until, export_id, _position(batch, row))
