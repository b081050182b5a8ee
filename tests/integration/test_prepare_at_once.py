"""However many exports the host hands to one process, it prepares two at a time, and closes the books of two."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.exports import prepare
from shared.exports.messages import ExportMessage
from shared.exports.model import Status
from shared.exports.places import Places
from shared.exports.profiles import Profiles
from shared.exports.rejected import write_rejected
from shared.storage.names import LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import Engine
from tests.support import wait_for


class Room:
    """Counts who is in it at once, and lets nobody out before ``open`` was called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened = threading.Event()
        self.inside = self.most = 0

    @contextmanager
    def visit(self) -> Iterator[None]:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self._opened.wait(30)
        yield
        with self._lock:
            self.inside -= 1

    def open(self) -> None:
        self._opened.set()


def at_once(work: Callable[[ExportMessage], None], exports: Sequence[str], room: Room) -> int:
    """How many are in the room at most, when all exports are worked on at the same time."""
    with ThreadPoolExecutor(len(exports)) as pool:
        runs = [pool.submit(work, ExportMessage(export_id=one)) for one in exports]
        wait_for(lambda: room.inside >= 2, "two exports to be worked on")
        room.open()
        for run in runs:
            run.result(60)
    assert room.inside == 0
    return room.most


def test_a_process_prepares_two_exports_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their memory is bounded: each would take up to 300 MB of the 2 GB that an instance has."""
    engine.write_segment("Readers", [{"EMail": "ada@mail.example", "FirstName": "Ada", "LastName": "L"}])
    exports = [engine.start(engine.destination(["Readers"], id_=f"d{number}")) for number in range(6)]
    room, real = Room(), prepare._profiles

    @contextmanager
    def counted() -> Iterator[tuple[Profiles, Path]]:
        with room.visit(), real() as profiles:
            yield profiles

    monkeypatch.setattr(prepare, "_profiles", counted)
    assert at_once(engine.product.preparer.prepare, exports, room) == 2
    assert {engine.export(one).status for one in exports} == {Status.SENDING}


def test_who_waits_for_a_place_notices_that_it_is_not_wanted_any_more() -> None:
    places = Places(1)

    def give_up() -> None:
        raise InterruptedError

    with places.take(lambda: None), pytest.raises(InterruptedError), places.take(give_up):
        pass
    with places.take(give_up):
        pass


def test_a_process_closes_the_books_of_two_exports_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes then is joined in DuckDB: the memory that this takes is bounded too."""
    engine.write_segment("Readers", [{"EMail": "ada@mail.example", "FirstName": "Ada", "LastName": "L"}])
    exports = [engine.start(engine.destination(["Readers"], id_=f"d{number}")) for number in range(5)]
    for stage in (PREPARE_QUEUE, LANES_QUEUE):
        for queue, message in engine.receive([stage]):
            engine.handle(queue, message)
    room = Room()

    def counted(*arguments: Any) -> None:
        with room.visit():
            write_rejected(*arguments)

    monkeypatch.setattr("shared.exports.finish.write_rejected", counted)
    assert at_once(engine.product.finisher.finish, exports, room) == 2
    assert {engine.export(one).status for one in exports} == {Status.SUCCESSFUL}
