"""The storage proxy of the fault campaign, in front of a real Azurite."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import BlobServiceClient, ContainerClient
from azure.storage.queue import QueueClient

from dev.azurite import start_azurite
from dev.chaos.storage_proxy import ANY_REQUEST, StorageProxy, start_proxy
from tests.support import wait_for

SURE = 1.0


@pytest.fixture(scope="module")
def proxy() -> Iterator[StorageProxy]:
    with start_azurite() as azurite:
        ports = (urlsplit(address).port or 0 for address in (azurite.blob_address, azurite.queue_address))
        with start_proxy(1, *ports) as running:
            yield running


@pytest.fixture
def container(proxy: StorageProxy, request: pytest.FixtureRequest) -> Iterator[ContainerClient]:
    with BlobServiceClient.from_connection_string(proxy.connection_string, retry_total=0) as service:
        name = f"c{abs(hash(request.node.name))}"
        yield service.create_container(name)
        proxy.disarm()


@pytest.fixture
def queue(proxy: StorageProxy, request: pytest.FixtureRequest) -> Iterator[QueueClient]:
    name = f"q{abs(hash(request.node.name))}"
    with QueueClient.from_connection_string(proxy.connection_string, name, retry_total=0) as client:
        client.create_queue()
        yield client
        proxy.disarm()


def test_without_faults_requests_and_answers_pass_as_they_are(container: ContainerClient) -> None:
    data = bytes(range(256)) * 20_000
    container.upload_blob("large", data)
    assert container.download_blob("large").readall() == data
    assert [blob.name for blob in container.list_blobs()] == ["large"]
    container.delete_blobs("large")
    assert not container.get_blob_client("large").exists()


@pytest.mark.parametrize("fault", [fault for fault in ANY_REQUEST if fault.endswith((" before", " after"))])
def test_a_fault_comes_before_or_after_the_request_is_applied(
    proxy: StorageProxy, container: ContainerClient, fault: str
) -> None:
    struck = proxy.struck[fault]
    proxy.arm({fault: SURE})
    with pytest.raises(AzureError) as failure:
        container.upload_blob("small", b"data", overwrite=True)
    proxy.disarm()
    assert container.get_blob_client("small").exists() is fault.endswith(" after")
    assert proxy.struck[fault] == struck + 1
    if "500" in fault or "503" in fault:
        assert isinstance(failure.value, HttpResponseError)
        assert str(failure.value.status_code) in fault


def test_the_clients_own_repetition_gets_over_a_fault(proxy: StorageProxy) -> None:
    with BlobServiceClient.from_connection_string(proxy.connection_string, initial_backoff=0.01) as service:
        struck = proxy.struck["storage 503 before"]
        proxy.arm({"storage 503 before": SURE})
        service.create_container("repeated", retry_hook=lambda **_: proxy.disarm())
        assert proxy.struck["storage 503 before"] == struck + 1
        assert service.get_container_client("repeated").exists()


def _count(queue: QueueClient) -> int:
    return len(queue.peek_messages(max_messages=32))


def test_a_message_is_copied(proxy: StorageProxy, queue: QueueClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dev.chaos.storage_proxy._LATEST_COPY_S", 0.5)
    proxy.arm({"message copied": SURE})
    queue.send_message("once")
    proxy.disarm()
    wait_for(lambda: _count(queue) == 2, "the copy")


def test_a_deletion_comes_to_nothing(proxy: StorageProxy, queue: QueueClient) -> None:
    queue.send_message("once")
    message = queue.receive_message(visibility_timeout=1)
    assert message is not None
    proxy.arm({"message deleted in vain": SURE})
    queue.delete_message(message)
    proxy.disarm()
    wait_for(lambda: _count(queue) == 1, "the second delivery")


def test_a_message_whose_delivery_is_lost_comes_late(proxy: StorageProxy, queue: QueueClient) -> None:
    queue.send_message("once")
    proxy.arm({"message late": SURE})
    with pytest.raises(AzureError):
        queue.receive_message(visibility_timeout=1)
    proxy.disarm()
    wait_for(lambda: _count(queue) == 1, "the late delivery")
    [message] = queue.peek_messages()
    assert message.dequeue_count == 1, "it was under way before"


@pytest.mark.parametrize("call", [lambda c: c.exists(), lambda c: c.upload_blob("small", b"", overwrite=True)])
def test_a_closed_proxy_refuses_every_request(
    proxy: StorageProxy, container: ContainerClient, call: Callable[[ContainerClient], object]
) -> None:
    with proxy.closed(), pytest.raises(AzureError):
        call(container)
    assert container.exists()


def test_a_proxy_that_ends_leaves_no_connection_open() -> None:
    with start_azurite() as azurite:
        ports = [urlsplit(address).port or 0 for address in (azurite.blob_address, azurite.queue_address)]
        with ExitStack() as clients:
            with start_proxy(1, *ports) as proxy:
                blobs = urlsplit(BlobServiceClient.from_connection_string(proxy.connection_string).url)
                client = clients.enter_context(closing(HTTPConnection(blobs.netloc)))
                client.request("GET", blobs.path)
                client.getresponse().read()  # and the connection stays as it is
            gc.collect()  # what is still open warns, and a warning fails the test
