"""Time zones by IANA's names and by those of Windows; everything else is refused, with a suggestion."""

from __future__ import annotations

from zoneinfo import available_timezones

import pytest

from shared.schedule.errors import ScheduleInvalid
from shared.schedule.requests import DestinationScheduleRequest, ScheduleRequest
from shared.schedule.zones import open_zone


@pytest.mark.parametrize(
    "name", ["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "Japan", "Asia/Kathmandu"]
)
def test_iana_names_are_time_zones(name: str) -> None:
    assert open_zone(name).key == name


def test_every_iana_zone_but_the_machines_own_is_one() -> None:
    for name in available_timezones() - {"localtime", "posixrules", "Factory"}:
        assert open_zone(name).key == name


@pytest.mark.parametrize(
    ("windows", "iana"),
    [  # CLDR, common/supplemental/windowsZones.xml, territory 001
        ("Dateline Standard Time", "Etc/GMT+12"),
        ("Pacific Standard Time", "America/Los_Angeles"),
        ("Central Standard Time (Mexico)", "America/Mexico_City"),
        ("E. South America Standard Time", "America/Sao_Paulo"),
        ("UTC-02", "Etc/GMT+2"),
        ("GMT Standard Time", "Europe/London"),
        ("W. Europe Standard Time", "Europe/Berlin"),
        ("Romance Standard Time", "Europe/Paris"),
        ("Turkey Standard Time", "Europe/Istanbul"),
        ("Russia Time Zone 11", "Asia/Kamchatka"),
        ("Lord Howe Standard Time", "Australia/Lord_Howe"),
        ("UTC+13", "Etc/GMT-13"),
        ("Samoa Standard Time", "Pacific/Apia"),
        ("Yukon Standard Time", "America/Whitehorse"),
        ("w. europe standard time", "Europe/Berlin"),
    ],
)
def test_names_of_windows_stand_for_the_zone_that_cldr_gives(windows: str, iana: str) -> None:
    assert open_zone(windows).key == iana


def test_every_name_of_windows_opens_and_fits_into_a_request() -> None:
    from tzlocal.windows_tz import win_tz

    assert len(win_tz) > 130
    for name in win_tz:
        request = ScheduleRequest.model_validate({"isActive": True, "timeZone": name, "times": ["06:00"]})
        assert request.checked().time_zone in available_timezones()


@pytest.mark.parametrize(
    "name",
    ["localtime", "posixrules", "Factory", "America", "Europe/", "/etc/localtime", "../UTC", "W. Europe", "\x00"],
)
def test_other_names_are_not(name: str) -> None:
    with pytest.raises(ScheduleInvalid, match="not the name of a time zone"):
        open_zone(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Berlin", "'Europe/Berlin'"),
        ("Europe/Berln", "'Europe/Berlin'"),
        ("new york", "'America/New_York'"),
        ("W. Europe", "'W. Europe Standard Time'"),
        ("Pacific Standrd Time", "'Pacific Standard Time'"),
        ("Mars", "Examples: "),
    ],
)
def test_what_was_probably_meant_is_suggested(name: str, meant: str) -> None:
    with pytest.raises(ScheduleInvalid, match=meant):
        open_zone(name)


def test_a_fault_in_the_rule_of_a_destination_names_the_property_of_the_request() -> None:
    rule = {"times": ["06:00"], "timeZone": "Mars"}
    request = DestinationScheduleRequest.model_validate({"mode": "ownSchedule", "rule": rule})
    with pytest.raises(ScheduleInvalid) as caught:
        request.checked()
    assert caught.value.target == "schedule.rule.timeZone"
