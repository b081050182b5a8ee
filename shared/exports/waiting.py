"""Exports that wait for Mailchimp: since when, why, when they try next, and when it has been too long."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared import log
from shared.exports.lane_rest import LaneRest
from shared.exports.model import Export, Plan, Status, Stop
from shared.exports.problems import waited_too_long
from shared.exports.store import ExportStore
from shared.storage import names
from shared.storage.json_documents import JsonDocument


class WaitView(JsonDocument):
    """Why nothing is sent at the moment."""

    since: datetime
    """Since when Mailchimp has not been available for this export."""
    reason: str
    """Why it waits, in plain words."""
    next_try_at: datetime | None = None
    """When Mailchimp is tried next; null while that is being done, and in lists of exports that have begun to send."""


def wait_of(export: Export, next_try_at: datetime | None, now: datetime) -> WaitView | None:
    """What is shown of the wait of ``export``; None unless it waits."""
    if export.status is not Status.WAITING or export.waiting_since is None or export.problem is None:
        return None
    due = next_try_at or export.resume_at
    return WaitView(
        since=export.waiting_since,
        reason=export.problem.message,
        next_try_at=due if due is not None and due > now else None,
    )


def next_try_at(store: ExportStore, plan: Plan) -> datetime | None:
    """When the first of the lanes that send the export is woken; None where one is at it."""
    lanes = [
        entry
        for entry in store.documents.list(names.account_lanes(plan.account_id), metadata=True)
        if int(entry.name.rsplit("/", 1)[1]) in plan.lanes  # the others are look-ups, or lanes of other exports
    ]
    if any(lane.leased for lane in lanes):
        return None
    woken = [LaneRest.from_metadata(lane.metadata).wake_at for lane in lanes]
    return min((moment for moment in woken if moment is not None), default=None)


def end_long_wait(store: ExportStore, export: Export, limit: timedelta, now: datetime) -> Export:
    """Ask ``export`` to end as Failed if it has been waiting for longer than ``limit``; returns it as it is then."""

    def is_too_long(newest: Export) -> bool:
        since = newest.waiting_since
        return (
            newest.status is Status.WAITING
            and newest.stop is None
            and since is not None
            and now - since > limit
            and now - _last_progress(store, newest.id, since) > limit
        )

    def fail(newest: Export) -> None:
        if newest.waiting_since is not None and is_too_long(newest):
            reason = newest.problem.message if newest.problem else None
            problem = waited_too_long(newest.waiting_since, limit, reason)
            newest.stop = Stop(status=Status.FAILED, problem=problem, at=now)

    if not is_too_long(export):
        return export
    changed = store.change(export.id, fail) or export
    if changed.stop is not None:
        log.warning("export.waitedTooLong", export=export.id, code=changed.stop.problem.code)
    return changed


def _last_progress(store: ExportStore, export_id: str, since: datetime) -> datetime:
    """When a lane last got something through, if that was after ``since``: one that never had to wait does not say
    that the wait of another is over."""
    return max((entry.changed_at for entry in store.documents.list(names.all_progress(export_id))), default=since)
