"""Tells the course of an export in the events of Customer Insights' diagnostic logs, so that dashboards made for those
carry over: an export is a workflow of three tasks, prepare, send and finish.

Names and values are those of Customer Insights (docs/operations.md, "Workflow events"). Each event is told by whoever
made the change of status, after it was written, so that a message which comes twice tells nothing twice.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from shared import log
from shared.exports.model import Export, Status


class Task(StrEnum):
    """The parts of the work; a wait for Mailchimp belongs to the part that waits."""

    PREPARE = "prepare"
    SEND = "send"
    FINISH = "finish"


RUNNING: Final = "Running"
SUCCESSFUL: Final = "Successful"

RESULTS: Final = MappingProxyType(
    {
        Status.SUCCESSFUL: SUCCESSFUL,
        Status.COMPLETED_WITH_ERRORS: SUCCESSFUL,  # Customer Insights' logs know no word in between
        Status.FAILED: "Failure",
        Status.SKIPPED: "Skipped",
        Status.CANCELED: "Canceled",
    }
)
"""The ``resultType`` of an export that has ended."""


def tell(before: Export, after: Export, now: datetime) -> None:
    """Tell what began and what ended with a change that was written at ``now``."""
    left, entered = _task_of(before), _task_of(after)
    if left is None and entered is not None:
        log.event(
            "Export.WorkflowStarted",
            resultType=RUNNING,
            tasksCount=len(Task),
            submittedTimestamp=after.created_at.isoformat(),
            startTimestamp=now.isoformat(),
            **_which(after),
        )
    if left is not None and left is not entered:
        log.event(
            "Export.TaskCompleted",
            task=left,
            resultType=_result_of(left, after),
            durationMs=_milliseconds(_began(left, before), now),
            **_which(after),
        )
    if entered is not None and left is not entered:
        log.event("Export.TaskStarted", task=entered, resultType=RUNNING, **_which(after))
    if after.ended and not before.ended:
        tell_completed(after)


def tell_completed(export: Export) -> None:
    """Tell the end of an export; of one that was skipped without having begun nothing else is told."""
    began = export.started_at or export.created_at
    ended = export.ended_at or began
    log.event(
        "Export.WorkflowCompleted",
        resultType=RESULTS[export.status],
        durationMs=_milliseconds(began, ended),
        error=export.problem.code if export.problem else None,
        tasksCount=len(Task),
        submittedTimestamp=export.created_at.isoformat(),
        startTimestamp=began.isoformat(),
        endTimestamp=ended.isoformat(),
        **_which(export),
    )


def _task_of(export: Export) -> Task | None:
    """The task that is under way; None before the first and after the last."""
    match export.status:
        case Status.PREPARING:
            return Task.PREPARE
        case Status.SENDING:
            return Task.SEND
        case Status.WAITING:
            return Task.PREPARE if export.sending_at is None else Task.SEND
        case Status.FINISHING:
            return Task.FINISH
    return None


def _began(task: Task, export: Export) -> datetime:
    began = {Task.PREPARE: export.started_at, Task.SEND: export.sending_at, Task.FINISH: export.finishing_at}[task]
    return began or export.created_at


def _result_of(task: Task, after: Export) -> str:
    """How a task ended. What stops an export is the end of the task before: its finish succeeds all the same."""
    if task is Task.FINISH:
        return RESULTS[Status.FAILED] if after.status is Status.FAILED and after.stop is None else SUCCESSFUL
    return RESULTS[after.stop.status] if after.stop is not None else SUCCESSFUL


def _which(export: Export) -> dict[str, Any]:
    """What every event says of its export. ``identifier`` is that of the configuration, which is the destination."""
    kind = {"onDemand": "OnDemand", "scheduled": "Scheduled"}[export.trigger]
    return {
        "eventType": "WorkflowEvent",
        "operationType": "export",
        "workflowType": "full",
        "workflowJobId": export.id,
        "workflowStatus": export.status,
        "workflowSubmissionKind": kind,
        "submissionKind": kind,
        "identifier": export.destination_id,
        "export": export.id,
        "destination": export.destination_id,
    }


def _milliseconds(begin: datetime, end: datetime) -> int:
    return max(0, round((end - begin).total_seconds() * 1000))
