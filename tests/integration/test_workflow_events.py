"""The workflow events of an export whose messages all arrive twice: each event is told once, in order."""

from __future__ import annotations

import json
import logging
from base64 import b64decode

import pytest

from shared.storage.names import FINISH_QUEUE, PREPARE_QUEUE
from tests.integration.engine import Engine, people

COURSE = [
    ("WorkflowStarted", None),
    ("TaskStarted", "prepare"),
    ("TaskCompleted", "prepare"),
    ("TaskStarted", "send"),
    ("TaskCompleted", "send"),
    ("TaskStarted", "finish"),
    ("TaskCompleted", "finish"),
    ("WorkflowCompleted", None),
]


def test_messages_that_come_twice_tell_nothing_twice(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    engine.write_segment("Readers", people(1_200))
    export_id = engine.start(engine.destination(["Readers"]))
    while not engine.export(export_id).ended:
        for queue, message in engine.receive():
            engine.invoke(queue, b64decode(message.content))
            engine.handle(queue, message)
    for queue in (PREPARE_QUEUE, FINISH_QUEUE):
        engine.invoke(queue, json.dumps({"v": 1, "exportId": export_id}).encode())

    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "segments_to_mailchimp"]
    course = [line for line in lines if line["event"].startswith("Export.")]
    assert [(line["event"].removeprefix("Export."), line.get("task")) for line in course] == COURSE
    assert {line["resultType"] for line in course if "durationMs" in line} == {"Successful"}
    assert [line["event"] for line in lines].count("export.ended") == 1
