"""What counts as a change of the data or of the configuration, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from shared.destinations.model import ChosenAudience, DataMatching, Destination, MemberStatus
from shared.exports import fingerprints
from shared.segments.formats import CsvFormat, PinnedFile, PinnedModel, PinnedSegment
from tests.unit.exports_in_memory import ready_destination

FILE = PinnedFile(
    name="Gold/part-1.csv",
    snapshot="2026-11-20T06:00:00.0000000Z",
    etag='"1"',
    size=10,
    last_modified=datetime(2026, 11, 20, tzinfo=UTC),
    csv=CsvFormat(),
)
GOLD = PinnedSegment(
    name="Gold",
    kind="commonDataModel",
    model=PinnedModel(name="model.json", etag='"m1"'),
    columns=("Id", "EMail"),
    files=(FILE,),
)
SILVER = GOLD.model_copy(update={"name": "Silver"})


@pytest.mark.parametrize(
    "changed",
    [
        GOLD.model_copy(update={"name": "Gold customers"}),
        GOLD.model_copy(update={"columns": ("EMail", "Id")}),
        GOLD.model_copy(update={"files": (FILE.model_copy(update={"etag": '"2"'}),)}),
        GOLD.model_copy(update={"files": (FILE.model_copy(update={"name": "Gold/part-2.csv"}),)}),
        GOLD.model_copy(update={"files": (FILE.model_copy(update={"snapshot": None}),)}),
        GOLD.model_copy(update={"files": (FILE.model_copy(update={"csv": CsvFormat(delimiter=";")}),)}),
        GOLD.model_copy(update={"files": (FILE, FILE.model_copy(update={"name": "Gold/part-2.csv"}))}),
        GOLD.model_copy(update={"files": ()}),
    ],
)
def test_another_version_of_a_segment_is_a_change(changed: PinnedSegment) -> None:
    assert fingerprints.of_segment(changed) != fingerprints.of_segment(GOLD)


def test_a_model_that_changed_for_another_segment_is_none() -> None:
    refreshed = GOLD.model_copy(update={"model": PinnedModel(name="model.json", etag='"m2"')})
    assert fingerprints.of_segment(refreshed) == fingerprints.of_segment(GOLD)


def test_a_segment_read_back_from_its_document_is_the_same() -> None:
    read_back = PinnedSegment.model_validate_json(GOLD.model_dump_json(by_alias=True))
    assert fingerprints.of_segment(read_back) == fingerprints.of_segment(GOLD)


def test_the_order_of_segments_matters_because_the_first_row_of_a_person_counts() -> None:
    assert fingerprints.of_sources([GOLD, SILVER]) != fingerprints.of_sources([SILVER, GOLD])
    assert fingerprints.of_sources([GOLD]) != fingerprints.of_sources([GOLD, SILVER])


def set_account(destination: Destination) -> None:
    destination.sign_in.account_id = "acc2"


def set_audience(destination: Destination) -> None:
    destination.audience = ChosenAudience(id="aud2", name="Newsletter")


def set_matching(destination: Destination) -> None:
    destination.data_matching = DataMatching(email="EMail", first_name="FirstName", merge_fields={"CITY": "City"})


def set_segments(destination: Destination) -> None:
    destination.segments = ("Gold", "Silver")


def set_member_status(destination: Destination) -> None:
    destination.member_status = MemberStatus.TRANSACTIONAL


@pytest.mark.parametrize("change", [set_account, set_audience, set_matching, set_segments, set_member_status])
def test_what_decides_what_is_sent_is_part_of_the_configuration(change: Callable[[Destination], None]) -> None:
    destination = ready_destination()
    change(destination)
    assert fingerprints.of_configuration(destination) != fingerprints.of_configuration(ready_destination())


def test_what_does_not_is_none_of_it() -> None:
    destination = ready_destination()
    destination.display_name, destination.every_contributor = "Another name", True
    destination.sign_in.secret_name = "mc-d1-2"
    destination.audience = ChosenAudience(id="aud1", name="Renamed")
    assert fingerprints.of_configuration(destination) == fingerprints.of_configuration(ready_destination())


def test_the_order_in_which_merge_fields_were_matched_does_not_matter() -> None:
    one, other = ready_destination(), ready_destination()
    one.data_matching = DataMatching(email="EMail", merge_fields={"A": "x", "B": "y"})
    other.data_matching = DataMatching(email="EMail", merge_fields={"B": "y", "A": "x"})
    assert fingerprints.of_configuration(one) == fingerprints.of_configuration(other)


def test_the_people_depend_on_the_segments_and_the_field_with_the_address() -> None:
    destination, other = ready_destination(), ready_destination()
    set_matching(other)
    assert fingerprints.of_people(destination, [GOLD]) == fingerprints.of_people(other, [GOLD])
    other.data_matching = DataMatching(email="WorkMail")
    assert fingerprints.of_people(destination, [GOLD]) != fingerprints.of_people(other, [GOLD])
    assert fingerprints.of_people(destination, [GOLD]) != fingerprints.of_people(destination, [SILVER])
