"""The memory of an audience: who comes and goes, and what the exports are told of that; over documents in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest

from shared.destinations.store import DestinationStore
from shared.exports.model import LeftOut, Plan, RejectedRow, Status
from shared.exports.refusals import MemoryNote, Outcome, Refusals
from shared.storage import names
from shared.storage.documents import Changed
from tests.unit.exports_in_memory import NOW, ExportsInMemory
from tests.unit.plans import a_plan

ANN, BOB = "ann@mail.example", "bob@mail.example"
MEMORY = names.refusals("acc1", "aud1")
LASTING = timedelta(days=90)


class Destinations:
    """Which audiences are used."""

    def __init__(self) -> None:
        self.used = {("acc1", "aud1")}

    def targets_in_use(self) -> set[tuple[str, str]]:
        return self.used


class Memory:
    """The memory, and exports that are to be folded in."""

    def __init__(self, folder: Path) -> None:
        self.exports = ExportsInMemory()
        self.destinations = Destinations()
        self._folder = folder
        self._versions = 0
        self.refusals = Refusals(
            self.exports.store,
            cast("DestinationStore", self.destinations),
            lasting=LASTING,
            now=lambda: self.exports.now,
            new_id=self._version,
        )

    def _version(self) -> str:
        self._versions += 1
        return f"v{self._versions}"

    def plan(self, left_out: LeftOut | None = None) -> Plan:
        """That of an export that has not ended."""
        export_id = self.exports.add(status=Status.FINISHING)
        return a_plan(export_id, account_id="acc1", audience_id="aud1", attempt="a1", members=2, left_out=left_out)

    def fold(
        self,
        plan: Plan,
        refused: Sequence[str],
        sent: Sequence[str] = (),
        *,
        position: int | None = 0,
        code: str = "forgotten",
    ) -> object:
        """An export whose members are those who were refused, then the others."""
        people = [*refused, *sent]
        rows = ", ".join(f"({number}, '{address}')" for number, address in enumerate(people))
        file = self._folder / "members.parquet"
        with duckdb.connect() as connection:
            connection.execute(f"COPY (FROM (VALUES {rows}) t(position, email)) TO '{file}'")
        rejected = [
            RejectedRow(
                position=None if position is None else number,
                email=address,
                code=code,
                message="was deleted",
                action="Nothing.",
                retryable=False,
            )
            for number, address in enumerate(refused)
        ]
        outcome = Outcome(file, [0], [(0, row) for row in rejected], self.exports.now)
        return self.refusals.fold_in(plan, outcome)

    def held(self) -> list[str]:
        return [each.email for each in self.refusals.page("acc1", "aud1", None, None, 100)]

    def note(self) -> MemoryNote:
        return MemoryNote.from_metadata(self.exports.documents.metadata[MEMORY])

    def keeps_out(self, left_out: LeftOut) -> bool:
        return self.refusals.still_keeps_out("acc1", "aud1", left_out)

    def clear(self, *emails: str) -> int:
        return self.refusals.clear("acc1", "aud1", list(emails) or None)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path)


def kept_out_by(memory: Memory) -> LeftOut:
    """What an export is told that has just left somebody out."""
    first = memory.note().first_until
    assert first is not None
    return LeftOut(until=first, memory=memory.note().version)


def test_an_export_is_folded_in_once_whatever_is_cleared_in_between(memory: Memory) -> None:
    plan = memory.plan()
    told = memory.fold(plan, [ANN])
    assert told == LeftOut(until=NOW + LASTING, memory=memory.note().version)
    assert memory.held() == [ANN]
    assert memory.clear() == 1
    assert memory.fold(plan, [ANN]) == told
    assert memory.held() == []


def test_whose_books_are_closed_adds_nobody(memory: Memory) -> None:
    plan = memory.plan()
    memory.exports.documents.write(names.books(plan.export_id), b"{}")
    memory.fold(plan, [ANN])
    assert memory.held() == []


def test_an_address_that_was_not_sent_is_not_remembered(memory: Memory) -> None:
    """Mailchimp's reply names it, nobody knows why."""
    assert memory.fold(memory.plan(), [ANN], position=None) is None
    assert memory.held() == []


def test_who_was_refused_for_a_passing_reason_is_not_remembered(memory: Memory) -> None:
    assert memory.fold(memory.plan(), [ANN], code="tooManySignups") is None
    assert memory.held() == []


def test_an_export_that_is_through_is_noted_no_longer(memory: Memory) -> None:
    first, second = memory.plan(), memory.plan()
    memory.fold(first, [ANN])
    assert memory.note().folded.keys() == {first.export_id}
    memory.exports.store.change(first.export_id, lambda export: setattr(export, "status", Status.SUCCESSFUL))
    memory.fold(second, [BOB])
    assert memory.note().folded.keys() == {second.export_id}


def test_of_very_many_exports_at_once_the_newest_are_noted(memory: Memory) -> None:
    """Metadata have room for so many."""
    plans = []
    for _ in range(42):
        memory.exports.now += timedelta(seconds=1)
        plans.append(memory.plan())
    told = {plan.export_id: LeftOut(until=NOW, memory="v0") for plan in plans[:-1]}
    memory.fold(memory.plan(), [ANN])
    note = memory.note()
    note.folded = dict(told)
    memory.exports.documents.metadata[MEMORY] = note.to_metadata()
    memory.fold(plans[-1], [BOB])
    assert sorted(memory.note().folded) == [plan.export_id for plan in plans[2:]]


# -- what keeps people out -------------------------------------------------------------------------------------------


def test_they_are_kept_out_until_the_time_of_the_first_is_over(memory: Memory) -> None:
    memory.fold(memory.plan(), [ANN])
    left_out = kept_out_by(memory)
    memory.exports.now = left_out.until - timedelta(microseconds=1)
    assert memory.keeps_out(left_out)
    memory.exports.now = left_out.until
    assert not memory.keeps_out(left_out)


def test_who_comes_in_changes_nothing_for_the_others_and_who_goes_does(memory: Memory) -> None:
    memory.fold(memory.plan(), [ANN])
    left_out = kept_out_by(memory)
    memory.fold(memory.plan(left_out), [BOB])
    assert memory.keeps_out(left_out)
    memory.clear(BOB)
    assert not memory.keeps_out(left_out)


def test_whom_mailchimp_takes_after_all_may_be_sent_by_every_destination(memory: Memory) -> None:
    memory.fold(memory.plan(), [ANN, BOB])
    left_out = kept_out_by(memory)
    memory.exports.now += timedelta(days=1)
    assert memory.fold(memory.plan(), [], sent=[ANN]) is None
    assert memory.held() == [BOB]
    assert not memory.keeps_out(left_out)


def test_who_is_refused_again_was_not_taken(memory: Memory) -> None:
    memory.fold(memory.plan(), [ANN, BOB])
    left_out = kept_out_by(memory)
    memory.exports.now += timedelta(days=1)
    memory.fold(memory.plan(), [ANN])
    assert set(memory.held()) == {ANN, BOB}
    assert memory.keeps_out(left_out)


def test_what_an_export_is_told_after_somebody_was_cleared_keeps_nobody_out(memory: Memory) -> None:
    """Also when nobody is left in the memory."""
    memory.fold(memory.plan(), [ANN])
    plan = memory.plan(kept_out_by(memory))
    memory.exports.store.change(plan.export_id, lambda export: setattr(export, "status", Status.SUCCESSFUL))
    memory.exports.documents.delete(MEMORY)
    told = memory.fold(plan, [], sent=[BOB])
    assert isinstance(told, LeftOut)
    assert told.memory == ""
    assert MEMORY not in memory.exports.documents.blobs
    assert not memory.keeps_out(told)


# -- cleared, and expired --------------------------------------------------------------------------------------------


def test_whose_time_is_over_is_not_counted_among_the_cleared(memory: Memory) -> None:
    memory.fold(memory.plan(), [ANN])
    memory.exports.now += timedelta(days=1)
    memory.fold(memory.plan(), [BOB])
    memory.exports.now = NOW + LASTING
    assert memory.clear(ANN, BOB) == 1


def test_who_was_cleared_is_counted_though_the_answer_was_lost(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks again because it got no answer hears that somebody else was faster."""
    memory.fold(memory.plan(), [ANN, BOB])
    write = memory.exports.documents.upload_over

    def told_of_itself(name: str, *arguments: Any) -> None:
        monkeypatch.undo()
        write(name, *arguments)
        raise Changed(name)

    monkeypatch.setattr(memory.exports.documents, "upload_over", told_of_itself)
    assert memory.clear(ANN) == 1
    assert memory.held() == [BOB]


def test_the_timer_drops_those_whose_time_is_over_and_what_no_destination_uses(memory: Memory) -> None:
    first = memory.plan()
    memory.fold(first, [ANN])
    memory.exports.store.change(first.export_id, lambda export: setattr(export, "status", Status.SUCCESSFUL))
    held = memory.exports.documents.blobs[MEMORY]
    memory.exports.now = NOW + LASTING - timedelta(microseconds=1)
    memory.refusals.expire()
    assert memory.exports.documents.blobs[MEMORY] == held, "nothing is written while nothing is over"
    memory.exports.now = NOW + LASTING
    memory.refusals.expire()
    assert MEMORY not in memory.exports.documents.blobs
    memory.fold(memory.plan(), [ANN])
    memory.destinations.used = set()
    memory.refusals.expire()
    assert MEMORY not in memory.exports.documents.blobs


def test_the_timer_drops_a_memory_that_is_only_there_for_an_export_which_has_ended(memory: Memory) -> None:
    plan = memory.plan()
    memory.fold(plan, [ANN])
    memory.clear()
    memory.refusals.expire()
    assert MEMORY in memory.exports.documents.blobs
    memory.exports.store.change(plan.export_id, lambda export: setattr(export, "status", Status.SUCCESSFUL))
    memory.refusals.expire()
    assert MEMORY not in memory.exports.documents.blobs


def moment(days: float) -> datetime:
    return NOW + timedelta(days=days)


def test_an_export_is_told_which_of_those_who_are_kept_out_comes_first(memory: Memory) -> None:
    memory.fold(memory.plan(), [ANN])
    version = memory.note().version
    before = LeftOut(until=moment(5), memory=version)
    assert memory.fold(memory.plan(before), [], sent=["carl@mail.example"]) == before
    assert memory.fold(memory.plan(before), [BOB]) == before
    late = LeftOut(until=moment(500), memory=version)
    assert memory.fold(memory.plan(late), [BOB]) == LeftOut(until=NOW + LASTING, memory=version)
    stale = LeftOut(until=moment(5), memory="another")
    assert memory.fold(memory.plan(stale), [BOB]) == LeftOut(until=moment(5), memory="")
