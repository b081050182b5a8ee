"""What the figures of an export with faults say is what its books and Mailchimp's own journal say."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from shared import telemetry
from shared.telemetry.log_lines import LogLines
from tests.integration.engine import Engine, people

BATCH = {"method": "POST", "pathPattern": "^/3.0/lists/[^/]+$"}


@pytest.fixture
def figures() -> Iterator[LogLines]:
    """Written when the test wants it: for this clock no minute ever goes by."""
    lines = LogLines(lambda: 0.0)
    before = telemetry.use(lines)
    yield lines
    telemetry.use(before)


def written(figures: LogLines, caplog: pytest.LogCaptureFixture) -> dict[str, list[dict[str, Any]]]:
    """The series of the line, by metric."""
    figures.tell()
    (line,) = [json.loads(r.getMessage()) for r in caplog.records if '"metrics.told"' in r.getMessage()]
    found: dict[str, list[dict[str, Any]]] = {}
    for series in line["series"]:
        found.setdefault(series.pop("name"), []).append(series)
    return found


def test_figures_agree_with_the_books_and_with_mailchimps_journal(
    engine: Engine, figures: LogLines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="segments_to_mailchimp")
    engine.write_segment("Readers", [*people(1_800), *people(3), {"EMail": "nobody"}])
    engine.sandbox.set_faults(
        {"action": "bare", "status": 503, "count": 4, "match": BATCH},
        {"action": "resetAfter", "count": 1, "match": BATCH},
        {"action": "memberError", "match": {"emailContains": "person7@"}, "detail": "looks fake or invalid"},
    )
    export = engine.run(engine.destination(["Readers"]))
    assert export.status == "CompletedWithErrors"

    told = written(figures, caplog)
    books = export.books
    outcomes = {series["outcome"]: series["sum"] for series in told["export.profiles"]}
    assert outcomes == {
        "invalid": 1,
        "duplicates": 3,
        "created": books.created,
        **({"updated": books.updated} if books.updated else {}),
        "rejected": 1,
    }
    assert sum(outcomes.values()) == books.rows_read == 1_804

    journal = Counter(str(call["status"]) for call in engine.sandbox.calls())
    journal["connectionLost"] = journal.pop("0")  # what the sandbox calls a reset
    assert {series["status"]: series["sum"] for series in told["mailchimp.calls"]} == journal
    assert (journal["503"], journal["connectionLost"]) == (4, 1)

    (open_calls,) = told["mailchimp.calls.open"]
    assert open_calls["last"] == 0
    assert 1 <= open_calls["max"] <= 10
    (batches,) = told["export.batch.duration"]
    assert batches["count"] == len(list(engine.product.store.recorded(export.id)))
    assert batches["sum"] >= batches["max"] > 0
