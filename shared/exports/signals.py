"""Sends the queue messages of the engine: prepare an export, wake a lane, finish an export, go on with a removal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from shared import trace
from shared.exports.messages import ExportMessage, Message, RemovalMessage, WakeMessage
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE, REMOVALS_QUEUE
from shared.storage.queues import Queues


class Signals:
    """Messages may arrive twice or late; whoever gets one looks at the state before doing anything.

    Each goes on with the trace in which it is sent. ``ends_wait`` names the moment at which a wait is to end, by the
    state: a message with the same moment ends it, however early it is by the clock of the host that gets it.
    """

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def prepare(
        self, export_id: str, *, failures: int = 0, delay_s: float = 0, ends_wait: datetime | None = None
    ) -> None:
        self._send(PREPARE_QUEUE, ExportMessage(export_id=export_id, failures=failures, ends_wait=ends_wait), delay_s)

    def finish(self, export_id: str) -> None:
        self._send(FINISH_QUEUE, ExportMessage(export_id=export_id))

    def wake(
        self,
        account_id: str,
        lane: int,
        *,
        again: bool = False,
        delay_s: float = 0,
        ends_wait: datetime | None = None,
    ) -> None:
        message = WakeMessage(account_id=account_id, lane=lane, again=again, ends_wait=ends_wait)
        self._send(LANES_QUEUE, message, delay_s)

    def removal(self, destination_id: str, *, delay_s: float = 0, ends_wait: datetime | None = None) -> None:
        self._send(REMOVALS_QUEUE, RemovalMessage(destination_id=destination_id, ends_wait=ends_wait), delay_s)

    def wake_all(self, account_id: str, lanes: Iterable[int], *, delay_s: float = 0) -> None:
        for lane in lanes:
            self.wake(account_id, lane, delay_s=delay_s)

    def _send(self, queue: str, message: Message, delay_s: float = 0) -> None:
        message.traceparent = trace.current()
        message.delay_seconds = round(delay_s, 1) if delay_s > 0 else None
        self._queues.send(queue, message.model_dump(mode="json", by_alias=True, exclude_none=True), delay_s)
