"""The memory of refusals as it is stored: unreadable, from an earlier version, outlived, unused, paged."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from shared.destinations.model import Destination
from shared.storage import names
from shared.storage.names import FINISH_QUEUE
from tests.integration.engine import TESTER, Engine, people
from tests.integration.refusals.steps import (
    FAKE,
    FORGOTTEN,
    MEMORY,
    clear,
    days_pass,
    remembered,
    until_finish,
)


@pytest.mark.parametrize("cut", ["half", "empty", "text"])
def test_a_memory_that_cannot_be_read_counts_as_empty_and_is_replaced(
    engine: Engine, destination: Destination, cut: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine.run(destination)
    stored = engine.product.documents.read(MEMORY)
    assert stored is not None
    broken = {"half": stored.data[: len(stored.data) // 2], "empty": b"", "text": b"this is no Parquet file"}[cut]
    engine.product.documents.write(MEMORY, broken)
    assert remembered(engine, destination) == {}
    view = engine.run(destination)
    assert (view.books.suppressed, view.books.rejected) == (0, 2)
    assert any("refusals.unreadable" in record.getMessage() for record in caplog.records)
    assert not any("@" in record.getMessage() for record in caplog.records if "refusals" in record.getMessage())
    assert set(remembered(engine, destination)) == {FAKE, FORGOTTEN}


def test_an_unreadable_memory_can_be_cleared(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    engine.product.documents.write(MEMORY, b"this is no Parquet file")
    assert clear(engine, destination) == 0
    assert not engine.product.documents.exists(MEMORY)


def test_the_timer_drops_those_whose_time_is_over_and_the_memory_with_the_last_of_them(
    engine: Engine, destination: Destination
) -> None:
    engine.run(destination)
    days_pass(engine, 30)
    engine.write_segment("Readers", [*people(5), {"EMail": "second@mailinator.com"}])
    engine.run(destination)
    days_pass(engine, 91)
    engine.product.sweeper.expire()
    days_pass(engine, 0)
    assert set(remembered(engine, destination)) == {"second@mailinator.com"}
    days_pass(engine, 121)
    engine.product.sweeper.expire()
    assert not engine.product.documents.exists(MEMORY)


def test_the_timer_drops_the_memory_of_an_audience_that_no_destination_uses(
    engine: Engine, destination: Destination
) -> None:
    engine.run(destination)
    engine.product.sweeper.expire()
    assert engine.product.documents.exists(MEMORY)

    def elsewhere(newest: Destination) -> Destination:
        assert newest.audience is not None
        newest.audience.id = "fffff00000"
        return newest

    engine.product.destination_store.change("d1", elsewhere, by=TESTER, action="destination.configured")
    engine.product.sweeper.expire()
    assert not engine.product.documents.exists(MEMORY)


def test_a_page_goes_on_where_the_last_one_ended_and_shows_one_reason_only(
    engine: Engine, destination: Destination
) -> None:
    engine.write_segment("Readers", [{"EMail": f"person{n}@mailinator.com"} for n in range(7)] + [{"EMail": FORGOTTEN}])
    engine.run(destination)
    engine.write_segment("Readers", [{"EMail": f"newer{n}@mailinator.com"} for n in range(3)])
    engine.run(destination)
    listed: list[str] = []
    behind: tuple[str, int] | None = None
    while page := engine.product.suppressed.members(destination, "fakeOrInvalid", behind, 4).members:
        listed += [member.email for member in page]
        behind = (page[-1].export_id, page[-1].number)
    assert listed == _addresses("newer", 3) + _addresses("person", 7)
    assert list(remembered(engine, destination, "forgotten")) == [FORGOTTEN]


def _addresses(word: str, count: int) -> list[str]:
    return [f"{word}{n}@mailinator.com" for n in range(count)]


def test_an_export_that_an_earlier_version_prepared_is_finished(
    engine: Engine, destination: Destination, tmp_path: Path
) -> None:
    """Its list of those who were left out has no word about refusals."""
    engine.write_segment("Readers", [*people(3), {"EMail": "nobody"}])
    export_id = engine.start(destination)
    body = until_finish(engine, export_id)
    plan = engine.product.store.plan(export_id)
    assert plan is not None
    name, file = names.left_out(export_id, plan.attempt), tmp_path / "left-out.parquet"
    engine.product.documents.download(name, file)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS SELECT * EXCLUDE (message, refused_at, until) FROM '{file}'")
        connection.execute(f"COPY t TO '{file}' (FORMAT parquet)")
    engine.product.documents.upload(name, file)
    engine.invoke(FINISH_QUEUE, body)
    assert [row["code"] for row in engine.rejected(export_id)] == ["emailInvalid"]
