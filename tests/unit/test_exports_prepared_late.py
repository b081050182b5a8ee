"""A process that sleeps while it prepares an export, which somebody else ends meanwhile: nothing is opened for it any
more, because nobody would close it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from unittest.mock import patch

import pytest

from shared.exports.messages import ExportMessage
from shared.exports.model import Status
from shared.exports.pace import Paces
from shared.exports.prepare import Preparer, PrepareTools
from shared.exports.signals import Signals
from shared.storage import names
from shared.storage.leases import Leases
from tests.unit.exports_in_memory import ExportsInMemory
from tests.unit.plans import a_plan
from tests.unit.test_exports_ended import FreeLeases


class LateSignals:
    """Notes the messages."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def finish(self, _export_id: str) -> None:
        self.sent.append("finish")

    def wake_all(self, _account: str, lanes: list[int]) -> None:
        self.sent += [f"wake {lane}" for lane in lanes]


def prepare(product: ExportsInMemory, export_id: str) -> list[str]:
    """Go on behind the writing of the plan; returns the messages."""
    plan = a_plan(export_id, lanes=(0, 1), members=600, batches=2)
    product.store.publish(plan)
    signals = LateSignals()
    others: dict[str, Any] = dict.fromkeys(PrepareTools.__dataclass_fields__)
    others |= {
        "store": product.store,
        "leases": cast("Leases", FreeLeases()),
        "signals": cast("Signals", signals),
        "paces": Paces(product.documents.as_documents(), lambda: product.now, most_lanes=8),
        "now": lambda: product.now,
    }
    Preparer(PrepareTools(**others), max_profiles=1000, max_connections=8).prepare(ExportMessage(export_id=export_id))
    return signals.sent


@pytest.mark.parametrize("status", [Status.FINISHING, Status.CANCELED, Status.FAILED])
def test_an_export_whose_end_came_first_is_not_opened(status: Status) -> None:
    product = ExportsInMemory()
    export_id = product.add(status=status)
    assert prepare(product, export_id) == ["finish"]
    assert names.open_export("account", export_id) not in product.documents.blobs


def test_what_was_opened_after_the_end_is_closed_again() -> None:
    """It would keep removals waiting that share the audience."""
    product = ExportsInMemory()
    export_id = product.add(status=Status.SENDING)
    write = product.documents.write

    def write_late(name: str, data: bytes, metadata: Mapping[str, str] | None = None) -> str:
        product.store.move(export_id, Status.FINISHING)
        product.store.move(export_id, Status.SUCCESSFUL)
        return write(name, data, metadata)

    with patch.object(product.documents, "write", write_late):
        assert prepare(product, export_id) == ["finish"]
    assert names.open_export("account", export_id) not in product.documents.blobs


@pytest.mark.parametrize("status", [Status.PREPARING, Status.SENDING])
def test_one_that_goes_on_is_opened_whoever_wrote_its_plan(status: Status) -> None:
    product = ExportsInMemory()
    export_id = product.add(status=status)
    assert prepare(product, export_id) == ["wake 0", "wake 1"]
    assert names.open_export("account", export_id) in product.documents.blobs
