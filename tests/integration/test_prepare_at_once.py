"""However many exports the host hands to one process, it prepares two at a time, and closes the books of two."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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


def test_a_process_prepares_two_exports_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their memory is bounded: each would take up to 300 MB of the 2 GB that an instance has."""
    engine.write_segment("Readers", [{"EMail": "ada@mail.example", "FirstName": "Ada", "LastName": "L"}])
    exports = [engine.start(engine.destination(["Readers"], id_=f"d{number}")) for number in range(6)]
    lock, at_once = threading.Lock(), [0, 0]
    go_on = threading.Event()
    real = prepare._profiles

    @contextmanager
    def counted() -> Iterator[tuple[Profiles, Path]]:
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        go_on.wait(30)
        with real() as profiles:
            yield profiles
        with lock:
            at_once[0] -= 1

    monkeypatch.setattr(prepare, "_profiles", counted)
    with ThreadPoolExecutor(len(exports)) as pool:
        runs = [pool.submit(engine.product.preparer.prepare, ExportMessage(export_id=one)) for one in exports]
        wait_for(lambda: at_once[0] >= 2, "two exports to be prepared")
        go_on.set()
        for run in runs:
            run.result(60)
    assert at_once == [0, 2]
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
    lock, at_once = threading.Lock(), [0, 0]
    go_on = threading.Event()

    def counted(*arguments: Any) -> None:
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        go_on.wait(30)
        write_rejected(*arguments)
        with lock:
            at_once[0] -= 1

    monkeypatch.setattr("shared.exports.finish.write_rejected", counted)
    with ThreadPoolExecutor(len(exports)) as pool:
        runs = [pool.submit(engine.product.finisher.finish, ExportMessage(export_id=one)) for one in exports]
        wait_for(lambda: at_once[0] >= 2, "the books of two exports to be closed")
        go_on.set()
        for run in runs:
            run.result(60)
    assert at_once == [0, 2]
    assert {engine.export(one).status for one in exports} == {Status.SUCCESSFUL}
