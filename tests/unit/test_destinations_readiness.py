"""The readiness report: everything that is missing, in plain words."""

from __future__ import annotations

import pytest

from shared.destinations.model import Destination
from shared.destinations.readiness import Readiness
from shared.mailchimp.errors import Unavailable
from tests.unit.setup_fakes import KEY, Setup


def report(setup: Setup, destination: Destination) -> Readiness:
    return setup.readiness.report(destination)


def missing(found: Readiness) -> dict[str, str | None]:
    return {check.code: check.message for check in found.checks if check.state == "missing"}


def test_a_new_destination_misses_every_step(setup: Setup) -> None:
    found = report(setup, setup.created().destination)
    assert not found.ready
    assert list(missing(found)) == [
        "signIn",
        "audience",
        "exportUser",
        "dataMatching",
        "segments",
        "segmentsFit",
        "audienceFits",
    ]
    assert all(missing(found).values())


def test_a_complete_destination_is_ready_and_says_so_for_each_step(setup: Setup) -> None:
    found = report(setup, setup.ready().destination)
    assert found.ready
    assert {check.state for check in found.checks} == {"done"}
    assert found.warnings == []


def test_the_report_agrees_with_whether_an_export_may_start(setup: Setup) -> None:
    for destination in (setup.created("A").destination, setup.connected("B").destination, setup.ready("C").destination):
        assert report(setup, destination).ready == (not destination.missing_steps())


def test_a_field_that_a_segment_lost_since_is_found(setup: Setup) -> None:
    stored = setup.ready()
    setup.segments.fields["Gold"].remove("FirstName")
    assert "no field 'FirstName'" in str(missing(report(setup, stored.destination))["segmentsFit"])


def test_a_segment_that_is_gone_is_found(setup: Setup) -> None:
    stored = setup.ready()
    del setup.segments.fields["Gold"]
    found = report(setup, stored.destination)
    assert "Gold" in str(missing(found)["segmentsFit"])
    assert [(each.name, each.profiles) for each in found.segments] == [("Gold", None)]


def test_an_audience_that_is_gone_is_found(setup: Setup) -> None:
    stored = setup.ready()
    del setup.mailchimp.names["aud1"]
    assert "no audience with the ID 'aud1'" in str(missing(report(setup, stored.destination))["audienceFits"])


def test_a_merge_field_that_the_audience_lost_is_found(setup: Setup) -> None:
    stored = setup.ready()
    setup.mailchimp.fields["aud1"] = []
    assert "FNAME" in str(missing(report(setup, stored.destination))["audienceFits"])


def test_a_refused_sign_in_is_found_and_noted_with_its_reason(setup: Setup) -> None:
    stored = setup.ready()
    del setup.mailchimp.accounts[KEY]
    assert "audienceFits" in missing(report(setup, stored.destination))
    noted = setup.service.get(stored.destination.id).destination
    assert noted.sign_in.problem == "Mailchimp does not accept the API key."
    assert missing(report(setup, noted))["signIn"] == (
        "Mailchimp does not accept the API key. Sign in to Mailchimp again."
    )


def test_an_outage_of_mailchimp_is_unknown_and_not_missing(setup: Setup) -> None:
    stored = setup.ready()
    setup.mailchimp.fault = Unavailable("Down.", reason="serverError", outcome_unknown=False)
    found = report(setup, stored.destination)
    assert found.ready
    assert [check.code for check in found.checks if check.state == "unknown"] == ["audienceFits"]


def test_double_opt_in_is_warned_of_as_it_is_now(setup: Setup) -> None:
    stored = setup.ready()
    setup.mailchimp.double_optin.add("aud1")
    assert [warning.code for warning in report(setup, stored.destination).warnings] == ["doubleOptInBypassed"]


@pytest.mark.parametrize("status", ["pending", "transactional"])
def test_another_status_than_subscribed_is_explained(setup: Setup, status: str) -> None:
    stored = setup.patch(setup.ready(), memberStatus=status)
    assert [warning.code for warning in report(setup, stored.destination).warnings] == ["memberStatus"]


def test_counts_are_shown_when_they_are_known(setup: Setup) -> None:
    stored = setup.ready(segments=("Gold", "Silver"))
    setup.counts.rows_of = {"Gold": 700}
    partly = report(setup, stored.destination)
    assert [(each.name, each.profiles) for each in partly.segments] == [("Gold", 700), ("Silver", None)]
    assert (partly.profiles, partly.members) == (None, None)
    setup.counts.rows_of["Silver"] = 500
    setup.counts.distinct = 900
    known = report(setup, stored.destination)
    assert (known.profiles, known.members, known.limit) == (1200, 900, 1_000_000)


@pytest.mark.parametrize(
    ("rows", "members", "warned", "refused"),
    [
        (899_999, None, False, False),
        (900_000, None, True, False),
        (5_000_000, None, True, False),  # perhaps many of them are the same people
        (5_000_000, 899_999, False, False),
        (5_000_000, 1_000_000, True, False),
        (5_000_000, 1_000_001, False, True),
    ],
)
def test_near_the_limit_there_is_a_warning_and_above_it_a_refusal(
    setup: Setup, rows: int, members: int | None, warned: bool, refused: bool
) -> None:
    stored = setup.ready()
    setup.counts.rows_of, setup.counts.distinct = {"Gold": rows}, members
    found = report(setup, stored.destination)
    assert ("nearLimit" in [warning.code for warning in found.warnings]) == warned
    assert ("limit" in missing(found)) == refused
    assert found.ready != refused
