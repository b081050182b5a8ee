"""What exports leave behind about the size of segments, so that it is known before the next export."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from shared.destinations.model import DataMatching, Destination
from shared.exports.counts import known_rows, last_members
from shared.exports.model import Status
from tests.integration.engine import Engine, people


def rows(engine: Engine, segments: Sequence[str]) -> list[int | None]:
    return [known_rows(engine.product.documents, pinned) for pinned in engine.product.catalog.pin(segments)]


def members(engine: Engine, destination: Destination) -> int | None:
    pinned = engine.product.catalog.pin(destination.segments)
    return last_members(engine.product.store, destination, pinned)


def test_after_an_export_rows_are_known_to_all_and_people_to_its_destination(engine: Engine) -> None:
    engine.write_segment("Readers", [*people(70), {"EMail": "nobody"}])
    engine.write_segment("VIP", people(30, start=60))
    destination = engine.destination(["Readers", "VIP"])
    other = engine.destination(["VIP", "Readers"], id_="d2")
    assert rows(engine, ["Readers", "VIP"]) == [None, None]
    assert members(engine, destination) is None

    assert engine.run(destination).books.members == 90
    assert rows(engine, ["VIP", "Readers"]) == [30, 71]
    assert members(engine, destination) == 90
    assert members(engine, other) is None
    less = destination.model_copy(update={"segments": ("Readers",)})
    assert members(engine, less) is None
    elsewhere = destination.model_copy(update={"data_matching": DataMatching(email="FirstName")})
    assert members(engine, elsewhere) is None
    more = destination.model_copy(update={"data_matching": DataMatching(email="EMail", last_name="LastName")})
    assert members(engine, more) == 90


def test_they_are_known_too_when_there_were_too_many(engine: Engine) -> None:
    engine.product.preparer._max_profiles = 100
    engine.write_segment("Readers", people(90))
    engine.write_segment("VIP", people(60, start=60))
    destination = engine.destination(["Readers", "VIP"])
    view = engine.run(destination)
    assert (view.status, view.books.members) == (Status.FAILED, 120)
    assert rows(engine, ["Readers", "VIP"]) == [90, 60]
    assert members(engine, destination) == 120


def test_they_are_known_too_when_mailchimp_refused(engine: Engine) -> None:
    engine.write_segment("Readers", people(5))
    destination = engine.destination(["Readers"])
    engine.sandbox.revoke("sandbox-key-us1")
    assert engine.run(destination).status is Status.FAILED
    assert rows(engine, ["Readers"]) == [5]


def test_a_refreshed_segment_is_unknown_until_it_is_exported(engine: Engine) -> None:
    engine.write_segment("Readers", people(5))
    destination = engine.destination(["Readers"])
    engine.run(destination)
    engine.write_segment("Readers", people(8))
    assert rows(engine, ["Readers"]) == [None]
    assert members(engine, destination) is None
    engine.run(destination)
    assert (rows(engine, ["Readers"]), members(engine, destination)) == ([8], 8)


def test_the_newest_export_of_the_same_data_counts(engine: Engine) -> None:
    """A field that is matched now takes a row out, whose value does not fit its type."""
    columns = ("EMail", "Points")
    engine.write_segment("Readers", [{"EMail": f"p{n}@mail.example", "Points": "x" * n} for n in range(3)], columns)
    destination = engine.destination(["Readers"], DataMatching(email="EMail"))
    assert engine.run(destination).books.members == members(engine, destination) == 3
    matched = destination.model_copy(
        update={"data_matching": DataMatching(email="EMail", merge_fields={"LTV": "Points"})}
    )
    engine.product.documents.write("destinations/d1.json", matched.to_bytes())
    assert engine.run(matched).books.members == members(engine, matched) == 1


def test_counts_expire(engine: Engine) -> None:
    engine.write_segment("Readers", people(5))
    destination = engine.destination(["Readers"])
    engine.run(destination)
    sweeper = engine.product.sweeper
    now = datetime.now(UTC)
    object.__setattr__(sweeper._tools, "now", lambda: now + timedelta(days=89))
    sweeper.expire()
    assert (rows(engine, ["Readers"]), members(engine, destination)) == ([5], 5)
    object.__setattr__(sweeper._tools, "now", lambda: now + timedelta(days=91))
    sweeper.expire()
    assert (rows(engine, ["Readers"]), members(engine, destination)) == ([None], None)
