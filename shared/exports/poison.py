"""What becomes of a message that failed too often: it is booked on its export, which then ends with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared import log, trace
from shared.destinations.removal import Removals
from shared.exports.finish import Finisher
from shared.exports.lane_work import open_shares
from shared.exports.messages import ExportMessage, RemovalMessage, WakeMessage
from shared.exports.pace import Paces, stands_in_for
from shared.exports.problems import internal
from shared.exports.signals import Signals
from shared.exports.store import ExportStore
from shared.storage import names
from shared.storage.leases import Leases


@dataclass(frozen=True, slots=True)
class PoisonTools:
    """What the handling of poison messages needs from outside."""

    store: ExportStore
    leases: Leases
    signals: Signals
    paces: Paces
    removals: Removals
    finisher: Callable[[], Finisher]


class Poison:
    """Ends what could not be done, so that every export ends."""

    def __init__(self, tools: PoisonTools, *, max_connections: int) -> None:
        self._tools = tools
        self._max_connections = max_connections

    def prepare(self, message: ExportMessage) -> None:
        log.error("poison.prepare", export=message.export_id)
        self._tools.store.fail(message.export_id, internal("preparing the export"))
        self._tools.signals.finish(message.export_id)

    def wake(self, message: WakeMessage) -> None:
        """The lane fails again and again: what it has not sent is booked as not sent, for itself and for the closed
        lanes that it stands in for."""
        log.error("poison.lane", account=message.account_id, lane=message.lane)
        pace = self._tools.paces.get(message.account_id)
        for lane in (message.lane, *stands_in_for(message.lane, pace, self._max_connections)):
            self._give_up(message.account_id, lane)

    def _give_up(self, account: str, connection: int) -> None:
        """A lane that somebody holds is working after all, and then there is nothing to book."""
        store = self._tools.store
        with self._tools.leases.take(names.lane(account, connection)) as lease:
            if lease is None:
                return
            for plan, lane in open_shares(store, account, connection, self._max_connections):
                with trace.going_on(plan.traceparent, trace.current()):
                    store.fail(plan.export_id, internal("sending a part of the profiles"))
                    store.end_lane(plan.export_id, lane)
                    self._tools.signals.finish(plan.export_id)

    def finish(self, message: ExportMessage) -> None:
        log.error("poison.finish", export=message.export_id)
        self._tools.finisher().give_up(message.export_id, internal("closing the books"))

    def removal(self, message: RemovalMessage) -> None:
        """A removal is never given up: it says that it is in trouble, and the timer has it tried again."""
        log.error("poison.removal", destination=message.destination_id)
        self._tools.removals.troubled(message.destination_id)
