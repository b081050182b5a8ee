"""A process that is killed with ``kill -9`` at any write between "due" and "done" loses no export and doubles none.

Real storage, real processes; what one process left is taken up by the next tick of another.
"""

from __future__ import annotations

import multiprocessing
import signal
from base64 import b64decode
from collections import Counter
from datetime import timedelta

from azure.storage.queue import QueueServiceClient

from shared.bootstrap import Product, Surroundings, bootstrap
from shared.destinations.model import SignInState
from shared.exports.messages import ExportMessage
from shared.exports.model import Export, Status
from shared.schedule.requests import ScheduleRequest
from shared.settings import read_settings
from shared.storage import names
from tests.integration import schedule_child
from tests.support import StorageAccount
from tests.unit.schedule_fakes import ADA, NOW, SIX, Clock, ready_destination

MINUTE = timedelta(minutes=1)
EXPECTED = {"d1": Status.QUEUED, "d2": Status.QUEUED, "d3": Status.SKIPPED}


class Survivor:
    """Another process of the app, and the means to set up and to look."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.clock = Clock(NOW)
        self.product: Product = bootstrap(read_settings(environment), Surroundings(now=self.clock))
        self.product.ensure_storage()
        self._queue = QueueServiceClient.from_connection_string(environment["AzureWebJobsStorage"]).get_queue_client(
            names.PREPARE_QUEUE
        )

    def set_up(self) -> None:
        """Two destinations that can run at six, and one that cannot; nothing of an earlier round is left."""
        self.product.documents.delete_all("")
        self._queue.clear_messages()
        self.clock.now = NOW
        for id_, status in EXPECTED.items():
            destination = ready_destination(id_, NOW)
            if status is Status.SKIPPED:
                destination.sign_in.state = SignInState.NEEDS_AUTHENTICATION
            self.product.destination_store.create(destination, ADA)
        daily = {"isActive": True, "timeZone": "UTC", "times": ["06:00"]}
        self.product.schedule.put(ScheduleRequest.model_validate(daily), ADA)

    def assert_each_runs_once(self, where: str) -> None:
        """After the next tick; and the sweeper sees to it that each that was started is prepared."""
        self.clock.now = SIX + MINUTE
        self.product.schedule.run(self.clock.now)
        self.clock.now = SIX + 2 * MINUTE
        assert self.product.schedule.run(self.clock.now) == [], where
        exports = self.exports()
        assert {export.destination_id: export.status for export in exports} == EXPECTED, where
        assert len(exports) == len(EXPECTED), where
        assert {export.trigger for export in exports} == {"scheduled"}, where

        self.clock.now = SIX + 5 * MINUTE  # by now a message that has not come counts as lost
        self.product.sweeper.sweep()
        prepared = Counter(self.messages())
        assert set(prepared) == {export.id for export in exports if not export.ended}, where

    def exports(self) -> list[Export]:
        documents = self.product.documents
        found = [documents.read(entry.name) for entry in documents.list(names.EXPORTS_PREFIX)]
        return [Export.from_bytes(each.data) for each in found if each is not None]

    def messages(self) -> list[str]:
        peeked = self._queue.peek_messages(max_messages=32)
        return [ExportMessage.model_validate_json(b64decode(message.content)).export_id for message in peeked]


def test_killed_at_any_write_nothing_is_lost_and_nothing_doubled(storage_account: StorageAccount) -> None:
    environment = {"AzureWebJobsStorage": storage_account.connection_string}
    survivor = Survivor(environment)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([schedule_child.__name__])
    for write in range(100):
        survivor.set_up()
        child = processes.Process(target=schedule_child.run, args=(environment, SIX, write))
        child.start()
        child.join(60)
        assert child.exitcode in {0, -signal.SIGKILL}, child.exitcode
        survivor.assert_each_runs_once(f"killed at write {write}")
        if child.exitcode == 0:
            break
    assert 12 <= write < 99, "starting two exports and skipping one takes as many writes"
