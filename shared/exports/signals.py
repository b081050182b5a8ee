"""Sends the queue messages of the engine: prepare an export, wake a lane, finish an export, go on with a removal."""

from __future__ import annotations

from collections.abc import Iterable

from shared.exports.messages import ExportMessage, RemovalMessage, WakeMessage
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE, REMOVALS_QUEUE
from shared.storage.queues import Queues


class Signals:
    """Messages may arrive twice or late; whoever gets one looks at the state before doing anything."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def prepare(self, export_id: str, *, failures: int = 0, delay_s: float = 0) -> None:
        message = ExportMessage(export_id=export_id, failures=failures)
        self._queues.send(PREPARE_QUEUE, message.model_dump(by_alias=True), delay_s)

    def finish(self, export_id: str) -> None:
        self._queues.send(FINISH_QUEUE, ExportMessage(export_id=export_id).model_dump(by_alias=True))

    def wake(self, account_id: str, lane: int, *, again: bool = False, delay_s: float = 0) -> None:
        message = WakeMessage(account_id=account_id, lane=lane, again=again)
        self._queues.send(LANES_QUEUE, message.model_dump(by_alias=True), delay_s)

    def removal(self, destination_id: str, *, delay_s: float = 0) -> None:
        message = RemovalMessage(destination_id=destination_id)
        self._queues.send(REMOVALS_QUEUE, message.model_dump(by_alias=True), delay_s)

    def wake_all(self, account_id: str, lanes: Iterable[int], *, delay_s: float = 0) -> None:
        for lane in lanes:
            self.wake(account_id, lane, delay_s=delay_s)
