"""Documents, leases and queues against the storage emulator."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from azure.storage.queue import QueueClient, QueueServiceClient

from shared.settings import StorageConnection
from shared.storage.clients import _transport, blob_service, queue_service
from shared.storage.documents import AlreadyExists, Changed, Documents
from shared.storage.leases import LeaseLost, Leases
from shared.storage.names import LANES_QUEUE
from shared.storage.queues import Queues
from tests.support import StorageAccount


@pytest.fixture
def documents(storage_account: StorageAccount) -> Iterator[Documents]:
    with blob_service(StorageConnection(connection_string=storage_account.connection_string)) as service:
        yield Documents(service.get_container_client("state"))


class Clock:
    """A monotonic clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


# -- documents -------------------------------------------------------------------------------------------------------


def test_a_new_installation_has_nothing_and_makes_its_container_at_the_first_write(documents: Documents) -> None:
    assert documents.read("a") is None
    assert list(documents.list("")) == []
    documents.create("a", b"1")
    assert documents.read("a") is not None


def test_a_container_that_is_asked_for_is_made_and_answers(documents: Documents) -> None:
    assert documents.reachable()
    assert documents.container.exists()


def test_of_many_creators_exactly_one_succeeds(documents: Documents) -> None:
    documents.ensure_container()

    def create(number: int) -> bool:
        try:
            documents.create("elected", str(number).encode())
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(16))) == 1


def test_no_change_is_lost_between_many_writers(documents: Documents) -> None:
    documents.create("counter", b"0")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: documents.update("counter", lambda data: str(int(data) + 1).encode()), range(24)))
    found = documents.read("counter")
    assert found is not None
    assert found.data == b"24"


def test_a_stale_version_is_neither_replaced_nor_deleted(documents: Documents) -> None:
    etag = documents.create("a", b"1")
    documents.write("a", b"2")
    with pytest.raises(Changed):
        documents.replace("a", b"3", etag)
    with pytest.raises(Changed):
        documents.delete("a", etag)
    found = documents.read("a")
    assert found is not None
    assert found.data == b"2"


def test_metadata_comes_with_the_listing_and_a_prefix_is_deleted_as_a_whole(documents: Documents) -> None:
    for number in range(300):
        documents.create(f"run/{number:03}", b"", {"rows": str(number)})
    documents.create("other", b"")
    assert [entry.metadata["rows"] for entry in documents.list("run/", metadata=True)] == [str(n) for n in range(300)]
    assert documents.delete_all("run/") == 300
    assert [entry.name for entry in documents.list("")] == ["other"]


# -- leases ----------------------------------------------------------------------------------------------------------


def test_only_one_holds_a_lease_and_it_is_free_afterwards(documents: Documents) -> None:
    documents.ensure_container()
    leases = Leases(documents.container, time.monotonic, 15)
    with leases.take("lane") as first, leases.take("lane") as second:
        assert first is not None
        assert second is None
    with leases.take("lane") as third:
        assert third is not None


def test_what_somebody_leases_is_neither_written_over_nor_deleted(documents: Documents) -> None:
    documents.write("lane", b"1")
    with Leases(documents.container, time.monotonic, 15).take("lane") as lease:
        assert lease is not None
        with pytest.raises(Changed):
            documents.write("lane", b"2")
        with pytest.raises(Changed):
            documents.delete("lane")
    found = documents.read("lane")
    assert found is not None
    assert found.data == b"1"
    documents.delete("lane")
    assert not documents.exists("lane")


def test_a_lease_that_is_renewed_outlives_its_duration(documents: Documents) -> None:
    documents.ensure_container()
    with Leases(documents.container, time.monotonic, 15).take("lane") as lease:
        assert lease is not None
        until = lease.certain_until
        deadline = time.monotonic() + 30
        while lease.certain_until == until:
            assert time.monotonic() < deadline, "the lease was never renewed"
            time.sleep(0.1)
        lease.check(margin_s=5)


def test_a_lease_that_may_have_ended_is_given_up_before_somebody_else_can_have_it(documents: Documents) -> None:
    documents.ensure_container()
    clock = Clock()
    with Leases(documents.container, clock, 15).take("lane") as lease:
        assert lease is not None
        lease.check(margin_s=5)
        clock.ahead = 11  # a process that stood still
        with pytest.raises(LeaseLost):
            lease.check(margin_s=5)


def test_a_lease_of_something_that_must_exist_is_not_taken_on_nothing(documents: Documents) -> None:
    documents.ensure_container()
    with Leases(documents.container, time.monotonic, 15).take("absent", create=False) as lease:
        assert lease is None
    assert documents.read("absent") is None


# -- queues ----------------------------------------------------------------------------------------------------------


def test_messages_are_json_in_base64_and_a_queue_is_made_when_it_is_missing(storage_account: StorageAccount) -> None:
    connection = StorageConnection(connection_string=storage_account.connection_string)
    with queue_service(connection) as service:
        Queues(service).send(LANES_QUEUE, {"lane": 3})
        Queues(service).send(LANES_QUEUE, {"lane": 4}, delay_s=600)
    with QueueServiceClient.from_connection_string(storage_account.connection_string) as service:
        received = list(service.get_queue_client(LANES_QUEUE).receive_messages())
    assert [json.loads(b64decode(message.content)) for message in received] == [{"lane": 3}], "the other is delayed"


def test_a_delay_is_rounded_up_to_whole_seconds(
    storage_account: StorageAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden: list[int | None] = []
    monkeypatch.setattr(QueueClient, "send_message", lambda *_, visibility_timeout: hidden.append(visibility_timeout))
    with queue_service(StorageConnection(connection_string=storage_account.connection_string)) as service:
        for delay_s in (0, 0.2, 1, 1.5):
            Queues(service).send(LANES_QUEUE, {"lane": 3}, delay_s)
    assert hidden == [None, 1, 1, 2]


def test_a_download_is_not_read_in_the_small_pieces_of_the_library() -> None:
    """Which cost more CPU than everything else about it (docs/performance.md)."""
    assert _transport().connection_config.data_block_size >= 64 * 1024
