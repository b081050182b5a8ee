"""Bodies in packs: dealt to lanes, written some at a time, and found again one by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from unittest.mock import patch

import pytest
from azure.core.exceptions import ServiceRequestError
from hypothesis import given
from hypothesis import strategies as st

from shared.exports.model import BATCHES_PER_PACK, Plan
from shared.exports.packs import PackMissing, lanes_for, read_bodies, write_packs
from shared.storage import names
from tests.unit.fake_documents import FakeDocuments
from tests.unit.plans import a_plan


def body(batch: int) -> bytes:
    return b'{"members":[%d]}' % batch


def bodies(plan: Plan) -> Iterator[tuple[int, bytes]]:
    return ((batch, body(batch)) for batch in range(plan.batches))


def written(plan: Plan) -> FakeDocuments:
    documents = FakeDocuments()
    write_packs(documents.as_documents(), plan, bodies(plan), lambda: None)
    return documents


# -- lanes -------------------------------------------------------------------------------------------------------------


def test_an_export_of_many_batches_uses_all_lanes() -> None:
    assert lanes_for("e1", 100, open_lanes=2, max_connections=8) == tuple(range(8))
    assert lanes_for("e1", 5, open_lanes=2, max_connections=8) == tuple(range(5))


@given(batches=st.integers(1, 8), open_lanes=st.integers(1, 8), number=st.integers(0, 99))
def test_an_export_of_few_batches_uses_open_lanes_each_once(batches: int, open_lanes: int, number: int) -> None:
    found = lanes_for(f"e{number}", batches, open_lanes, 8)
    assert len(set(found)) == len(found) == batches
    assert set(found) & set(range(open_lanes)), "a closed lane's first call cannot open others"
    if batches <= open_lanes:
        assert set(found) <= set(range(open_lanes))


def test_exports_of_one_batch_do_not_all_use_the_same_lane() -> None:
    assert {lanes_for(f"e{number}", 1, 4, 8) for number in range(100)} == {(0,), (1,), (2,), (3,)}


# -- writing and reading -----------------------------------------------------------------------------------------------


@given(lanes=st.integers(1, 8), batches=st.integers(0, 200), data=st.data())
def test_any_bodies_that_are_asked_for_are_found(lanes: int, batches: int, data: st.DataObject) -> None:
    plan = a_plan(lanes=tuple(range(lanes)), batches=batches)
    documents = written(plan)
    asked = sorted(data.draw(st.sets(st.integers(0, batches - 1)))) if batches else []
    assert list(read_bodies(documents.as_documents(), plan, asked)) == [(batch, body(batch)) for batch in asked]


def test_a_pack_is_read_once_for_all_its_bodies() -> None:
    plan = a_plan(lanes=(3, 5), batches=60)
    documents = written(plan)
    with patch.object(documents, "read", wraps=documents.read) as read:
        assert len(list(read_bodies(documents.as_documents(), plan, range(60)))) == 60
    assert read.call_count == 60 // BATCHES_PER_PACK == len(documents.blobs)


def test_bodies_that_are_gone_are_not_passed_over() -> None:
    plan = a_plan(batches=30)
    documents = written(plan)
    documents.delete(names.pack(plan.export_id, plan.attempt, 0, 1))
    with pytest.raises(PackMissing):
        list(read_bodies(documents.as_documents(), plan, range(30)))


def test_a_pack_that_cannot_be_written_is_told() -> None:
    plan, documents = a_plan(batches=30), FakeDocuments()
    write = documents.write

    def fail(name: str, data: bytes) -> str:
        if name == names.pack(plan.export_id, plan.attempt, 0, 2):
            raise ServiceRequestError("storage is down")
        return write(name, data)

    with patch.object(documents, "write", fail), pytest.raises(ServiceRequestError):
        write_packs(documents.as_documents(), plan, bodies(plan), lambda: None)


def test_whoever_is_to_stop_stops_between_two_packs() -> None:
    plan, documents, checked = a_plan(batches=1000), FakeDocuments(), []

    def check() -> None:
        checked.append(1)
        if len(checked) == 3:
            raise KeyError("stop")

    with pytest.raises(KeyError):
        write_packs(documents.as_documents(), plan, bodies(plan), check)
    assert len(documents.blobs) == 3


def test_bodies_are_not_made_faster_than_storage_takes_them() -> None:
    """A million members are 350 MB of bodies: they must not all wait in memory."""
    plan, documents = a_plan(batches=3000), FakeDocuments()
    write, open_ = documents.write, threading.Event()
    made: list[int] = []

    def slow(name: str, data: bytes) -> str:
        assert open_.wait(60)
        return write(name, data)

    def noted() -> Iterable[tuple[int, bytes]]:
        for batch, text in bodies(plan):
            made.append(batch)
            yield batch, text

    with patch.object(documents, "write", slow):
        writer = threading.Thread(target=write_packs, args=(documents, plan, noted(), lambda: None))
        writer.start()
        before = -1
        while before != len(made):
            before = len(made)
            time.sleep(0.2)
        open_.set()
        writer.join()
    assert 0 < before <= 40 * BATCHES_PER_PACK
    assert len(made) == 3000
    assert len(documents.blobs) == 300
