"""The course of an export in the events of Customer Insights: each once, when the status changes, in its trace."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest

from shared import trace
from shared.exports.model import ENDED, Export, Status, Stop
from shared.exports.workflow import RESULTS
from tests.unit.exports_in_memory import ADA, NOT_READY, ExportsInMemory, ready_destination
from tests.unit.log_events import logged_events

TRACE = "0af7651916cd43dd8448eb211c80319c"
SECOND = timedelta(seconds=1)


@pytest.fixture
def exports(caplog: pytest.LogCaptureFixture) -> ExportsInMemory:
    caplog.set_level(logging.INFO)
    return ExportsInMemory()


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "segments_to_mailchimp"]
    return [line for line in lines if line["event"].startswith("Export.")]


def short(lines: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Each event without "Export.", its task if it has one, its result and its seconds."""
    return [
        (
            line["event"].removeprefix("Export."),
            *([line["task"]] if "task" in line else []),
            line["resultType"],
            *([line["durationMs"] / 1000] if "durationMs" in line else []),
        )
        for line in lines
    ]


def queued(exports: ExportsInMemory) -> str:
    with trace.going_on(f"00-{TRACE}-b7ad6b7169203331-01"):
        export_id = exports.add(status=Status.QUEUED)
        exports.store.change(export_id, lambda export: setattr(export, "traceparent", trace.current()))
    return export_id


def move(exports: ExportsInMemory, export_id: str, to: Status, **fields: Any) -> None:
    """A second later, as the engine does it."""
    exports.now += SECOND

    def also(export: Export) -> None:
        for name, value in fields.items():
            setattr(export, name, value)

    exports.store.move(export_id, to, also)


def to_sending(exports: ExportsInMemory, export_id: str) -> None:
    move(exports, export_id, Status.PREPARING, started_at=exports.now + SECOND)
    move(exports, export_id, Status.SENDING, sending_at=exports.now + SECOND)


def test_an_export_is_a_workflow_of_three_tasks(exports: ExportsInMemory, caplog: pytest.LogCaptureFixture) -> None:
    export_id = queued(exports)
    to_sending(exports, export_id)
    move(exports, export_id, Status.WAITING)
    move(exports, export_id, Status.SENDING)
    move(exports, export_id, Status.FINISHING)
    move(exports, export_id, Status.COMPLETED_WITH_ERRORS, ended_at=exports.now + SECOND)
    lines = told(caplog)
    assert short(lines) == [
        ("WorkflowStarted", "Running"),
        ("TaskStarted", "prepare", "Running"),
        ("TaskCompleted", "prepare", "Successful", 1),
        ("TaskStarted", "send", "Running"),
        ("TaskCompleted", "send", "Successful", 3),
        ("TaskStarted", "finish", "Running"),
        ("TaskCompleted", "finish", "Successful", 1),
        ("WorkflowCompleted", "Successful", 5),
    ]
    assert {line["traceId"] for line in lines} == {TRACE}
    assert {(line["workflowJobId"], line["identifier"], line["submissionKind"]) for line in lines} == {
        (export_id, "d1", "OnDemand")
    }
    assert lines[-1]["workflowStatus"] == "CompletedWithErrors"


def test_a_change_that_changes_no_status_tells_nothing(
    exports: ExportsInMemory, caplog: pytest.LogCaptureFixture
) -> None:
    export_id = queued(exports)
    to_sending(exports, export_id)
    before = told(caplog)
    move(exports, export_id, Status.SENDING)
    move(exports, export_id, Status.PREPARING)  # the table of transitions does not allow it
    exports.store.change(export_id, lambda export: setattr(export, "calls", 7))
    assert told(caplog) == before


@pytest.mark.parametrize(
    ("status", "result"), [(Status.FAILED, "Failure"), (Status.CANCELED, "Canceled"), (Status.SKIPPED, "Skipped")]
)
def test_what_stops_an_export_is_the_result_of_the_task_that_was_under_way(
    exports: ExportsInMemory, caplog: pytest.LogCaptureFixture, status: Any, result: str
) -> None:
    export_id = queued(exports)
    move(exports, export_id, Status.PREPARING, started_at=exports.now + SECOND)
    exports.store.request_stop(export_id, Stop(status=status, problem=NOT_READY, at=exports.now))
    move(exports, export_id, Status.FINISHING)
    move(exports, export_id, status, ended_at=exports.now + SECOND, problem=NOT_READY)
    lines = told(caplog)
    assert short(lines)[2:] == [
        ("TaskCompleted", "prepare", result, 1),
        ("TaskStarted", "finish", "Running"),
        ("TaskCompleted", "finish", "Successful", 1),
        ("WorkflowCompleted", result, 2),
    ]
    assert lines[-1]["error"] == "destinationNotReady"


def test_books_that_cannot_be_closed_are_the_failure_of_the_last_task(
    exports: ExportsInMemory, caplog: pytest.LogCaptureFixture
) -> None:
    export_id = queued(exports)
    to_sending(exports, export_id)
    move(exports, export_id, Status.FINISHING)
    move(exports, export_id, Status.FAILED, ended_at=exports.now + SECOND)
    assert short(told(caplog))[-2:] == [("TaskCompleted", "finish", "Failure", 1), ("WorkflowCompleted", "Failure", 3)]


def test_an_export_that_is_gone_on_with_begins_a_workflow_again(
    exports: ExportsInMemory, caplog: pytest.LogCaptureFixture
) -> None:
    export_id = exports.add(status=Status.FAILED)
    exports.store.change(export_id, lambda export: setattr(export, "status", Status.SENDING))
    assert short(told(caplog))[1:] == [("WorkflowStarted", "Running"), ("TaskStarted", "send", "Running")]


def test_a_run_that_was_skipped_before_it_began_is_told_once(
    exports: ExportsInMemory, caplog: pytest.LogCaptureFixture
) -> None:
    destination = ready_destination()
    for _ in range(2):
        exports.service.record_skipped(
            destination, trigger="scheduled", requested_by=ADA, idempotency_key="monday", problem=NOT_READY
        )
    (line,) = told(caplog)
    assert short([line]) == [("WorkflowCompleted", "Skipped", 0)]
    assert line["submissionKind"] == "Scheduled"


def test_every_last_status_has_a_result() -> None:
    assert set(RESULTS) == ENDED


def test_the_events_and_fields_of_customer_insights_are_there() -> None:
    logged = logged_events()
    for event in ("WorkflowStarted", "TaskStarted", "TaskCompleted", "WorkflowCompleted"):
        assert {"resultType", "identifier", "submissionKind", "workflowJobId"} <= logged[f"Export.{event}"], event
        assert ("durationMs" in logged[f"Export.{event}"]) == event.endswith("Completed")
