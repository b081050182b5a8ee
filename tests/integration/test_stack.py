"""The local stack itself: what it does when another program is quicker."""

from __future__ import annotations

import socket

import pytest

from dev.stack import Stack, _free_port
from tests.support import StorageAccount


def test_a_port_that_somebody_took_after_it_was_chosen_is_replaced_by_another(
    storage_account: StorageAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = iter([taken])
        monkeypatch.setattr("dev.stack._free_port", lambda: next(ports, None) or _free_port())
        with Stack(storage=storage_account.connection_string, name=storage_account.name) as stack:
            assert not stack.address.endswith(f":{taken}")
            assert stack.env["PUBLIC_URL"] == stack.address
            assert stack.api("GET", "/api/health").json()["status"] == "ok"
