"""Every list in pages, alike: none missed, none twice, filters kept, links that lead back to this app."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.api.errors import ApiError
from shared.api.paging import MAX_TOP, decode, encode
from shared.audit.model import AuditRecord, record_id
from shared.settings import read_settings
from tests.unit.api_caller import DEPLOYED, LOCAL, Api, signed_in
from tests.unit.setup_fakes import ADA, NOW

KEYS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=3)


def pages(api: Api, path: str) -> list[list[dict[str, Any]]]:
    """The values of all pages, following the links."""
    found: list[list[dict[str, Any]]] = []
    while True:
        reply = api.call("GET", path)
        assert reply.status == 200, reply.body
        assert set(reply.json) == {"value", "nextLink"}
        found.append(reply.json["value"])
        link = reply.json["nextLink"]
        if link is None:
            return found
        assert link.startswith(f"{api.settings.public_url}/api/")
        path = link.removeprefix(api.settings.public_url)
        assert len(found) < 500


# -- the cursor --------------------------------------------------------------------------------------------------


@given(KEYS)
def test_a_key_comes_back_from_its_cursor(key: list[str]) -> None:
    assert decode(encode(tuple(key)), len(key)) == tuple(key)


def test_a_cursor_for_the_longest_names_is_still_taken(api: Api) -> None:
    longest = "🎈" * 1024  # the longest name of a blob, in characters that take most room
    assert decode(encode((longest,)), 1) == (longest,)
    assert api.call("GET", f"/api/segments?after={encode((longest,))}").status == 200


RAW = st.binary(max_size=60) | KEYS.map(json.dumps).map(str.encode)


@given(st.text(max_size=60) | RAW.map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
@example(base64.urlsafe_b64encode(b'["a", "bcd"]').decode())  # a cursor
@example(base64.urlsafe_b64encode(b'["a","b"]').decode())  # says the same as one
def test_anything_else_is_no_cursor(after: str) -> None:
    try:
        key = decode(after, 2)
    except ApiError:
        return
    assert key is not None
    assert encode(key) == after


LISTS = ("/api/destinations", "/api/segments", "/api/destinations/{id}/audiences", "/api/exports", "/api/audit")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "after",
    [
        "",
        "x",
        "AAAA",
        "..%2F..",
        "%00",
        encode(()),
        encode(("a", "b", "c")),
        base64.urlsafe_b64encode(b"[1, 2]").decode(),
        base64.urlsafe_b64encode(b'["a", "b"]').decode(),  # right, but not as it is written here
        base64.urlsafe_b64encode(b'["\\ud800"]').decode(),
        base64.urlsafe_b64encode(b"[" * 3000).decode(),
        "A" * 9000,
    ],
)
def test_a_made_up_cursor_is_refused_everywhere(api: Api, path: str, after: str) -> None:
    path = path.format(id=api.setup.connected().destination.id)
    reply = api.call("GET", f"{path}?after={after}")
    assert (reply.status, reply.error["code"], reply.error["target"]) == (422, "invalidRequest", "after")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("top", ["0", "-1", str(MAX_TOP + 1), "1.5", "many", "", "9" * 5000])
def test_a_size_that_no_page_has_is_refused_everywhere(api: Api, path: str, top: str) -> None:
    reply = api.call("GET", f"{path.format(id=api.setup.connected().destination.id)}?top={top}")
    assert (reply.status, reply.error["target"]) == (422, "top")


# -- the lists ---------------------------------------------------------------------------------------------------


def destinations(api: Api) -> tuple[str, list[str]]:
    names = ["b", "A", "a2", "Ä", "äb", "Z", "ß", "ssa", "Ω", "10", "9"]
    for name in names:
        api.setup.created(name)
    return "/api/destinations", sorted(names, key=str.casefold)


def segments(api: Api) -> tuple[str, list[str]]:
    names = ["Gold", "Silver", "gold", "Überall", "a/b", "a b", "Z"]
    api.setup.segments.fields = {name: ["EMail"] for name in names}
    return "/api/segments", sorted(names)


def audiences(api: Api) -> tuple[str, list[str]]:
    api.setup.mailchimp.names = {f"aud{n}": f"Audience {n}" for n in (5, 3, 9, 1, 12, 4, 2)}
    names = list(api.setup.mailchimp.names.values())
    return f"/api/destinations/{api.setup.connected().destination.id}/audiences", names


Fill = Callable[[Api], tuple[str, list[str]]]


@pytest.mark.parametrize("fill", [destinations, segments, audiences])
@pytest.mark.parametrize("top", [1, 2, 3, 6, 7, 11, 50])
def test_pages_follow_each_other_in_the_order_of_the_list(api: Api, fill: Fill, top: int) -> None:
    path, names = fill(api)
    found = pages(api, f"{path}?top={top}")
    shown = [each.get("displayName") or each["name"] for page in found for each in page]
    assert shown == names
    assert all(len(page) == top for page in found[:-1])
    assert len(found[-1]) in range(1, top + 1)


@pytest.mark.parametrize("fill", [destinations, segments, audiences])
def test_a_page_has_fifty_unless_told_otherwise(api: Api, fill: Fill) -> None:
    path, _ = fill(api)
    link = api.call("GET", f"{path}?top=1").json["nextLink"]
    assert parse_qs(urlsplit(link).query)["top"] == ["1"]
    parameters = api.call("GET", "/api/openapi.json").json["paths"]
    template = path if "audiences" not in path else "/api/destinations/{destinationId}/audiences"
    (top,) = [each["schema"] for each in parameters[template]["get"]["parameters"] if each["name"] == "top"]
    assert (top["default"], top["minimum"], top["maximum"]) == (50, 1, 200)


def test_more_than_fifty_destinations_are_two_pages(api: Api) -> None:
    for number in range(53):
        api.setup.created(f"Destination {number:03}")
    assert [len(page) for page in pages(api, "/api/destinations")] == [50, 3]


def test_what_comes_and_goes_between_two_pages_disturbs_nothing_else(api: Api) -> None:
    for name in ("b", "d", "f", "h"):
        api.setup.created(name)
    first = api.call("GET", "/api/destinations?top=2").json
    last_shown = first["value"][-1]["id"]
    api.setup.removals.remove(last_shown, ADA)  # the cursor's own
    api.setup.created("a")  # before the cursor: belongs to a page that was shown
    api.setup.created("e")  # behind it
    rest = pages(api, first["nextLink"].removeprefix(api.settings.public_url))
    assert [[each["displayName"] for each in page] for page in rest] == [["e", "f"], ["h"]]


def test_an_audience_that_goes_between_two_pages_takes_none_with_it(api: Api) -> None:
    path, _ = audiences(api)
    first = api.call("GET", f"{path}?top=2").json
    assert [each["id"] for each in first["value"]] == ["aud5", "aud3"]
    del api.setup.mailchimp.names["aud3"]
    second = api.call("GET", first["nextLink"].removeprefix(api.settings.public_url)).json
    assert [each["id"] for each in second["value"]] == ["aud9", "aud1"]


def test_a_cursor_behind_the_end_shows_an_empty_last_page(api: Api) -> None:
    path, names = audiences(api)
    for after in (encode(("999999999", "gone")), encode((str(len(names) - 1), "aud2"))):
        assert api.call("GET", f"{path}?after={after}").json == {"value": [], "nextLink": None}
    assert api.call("GET", f"{path}?after={encode(('-1', 'gone'))}").status == 422
    behind_all = encode((chr(0x10FFFF), ""))
    assert api.call("GET", f"/api/destinations?after={behind_all}").json["value"] == []


def test_a_segment_whose_name_has_slashes_can_be_asked_for(api: Api) -> None:
    segments(api)
    for address in ("/api/segments/a%2Fb", "/api/segments/a/b"):
        assert api.call("GET", address).json["name"] == "a/b"
    assert api.call("GET", "/api/segments/").status == 404


# -- links -------------------------------------------------------------------------------------------------------


def logged(api: Api, count: int) -> None:
    for number in range(count):
        at = NOW + timedelta(seconds=number)
        action = "destination.created" if number % 2 else "destination.configured"
        api.setup.audit.append(
            AuditRecord(
                id=record_id(at, "x"),
                at=at,
                who=ADA,
                action=action,
                target_type="destination",
                target_id="d1",
                target_name="Newsletter & Co",
            )
        )


def test_a_link_keeps_the_filters_and_says_the_size(api: Api) -> None:
    logged(api, 9)
    filters = f"who={ADA.id}&targetId=d1&from=2026-01-01T00:00:00Z"
    filters += "&action=destination.created&action=destination.configured"
    reply = api.call("GET", f"/api/audit?{filters}&top=4").json
    query = parse_qs(urlsplit(reply["nextLink"]).query)
    assert query.pop("after")
    assert query == {
        "action": ["destination.created", "destination.configured"],
        "who": [ADA.id],
        "targetId": ["d1"],
        "from": ["2026-01-01T00:00:00Z"],
        "top": ["4"],
    }
    assert [len(page) for page in pages(api, f"/api/audit?{filters}&top=4")] == [4, 4, 1]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:443", "app-1.azurewebsites.net", "[2001:db8::1]", "xn--evil.example"]
)
def test_links_lead_to_this_app_whatever_the_host_header_says(host: str) -> None:
    api = Api(read_settings(DEPLOYED))
    for name in ("a", "b"):
        api.setup.created(name)
    headers = signed_in(["Administrator"]) | {"Host": host}
    reply = api.call("GET", "/api/destinations?top=1", headers=headers)
    assert reply.json["nextLink"].startswith("https://app-1.azurewebsites.net/api/destinations?top=1&after=")
    api.close()


# -- filters of the audit log ------------------------------------------------------------------------------------

TIMES = ("/api/audit", "/api/exports")


@pytest.mark.parametrize("path", TIMES)
@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("from=yesterday", "from"),
        ("from=1767225600", "from"),
        ("from=2026-01-01", "from"),
        ("from=2026-01-01T00:00:00", "from"),  # of which place?
        ("from=", "from"),
        ("to=2026-13-01T00:00:00Z", "to"),
        ("to=9999-12-31T23:59:59-01:00", "to"),
        ("from=0001-01-01T00:00:00%2B14:00", "from"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused_everywhere(api: Api, path: str, query: str, target: str) -> None:
    reply = api.call("GET", f"{path}?{query}")
    assert (reply.status, reply.error["target"]) == (422, target)


@pytest.mark.parametrize("path", TIMES)
@pytest.mark.parametrize(
    "query",
    [
        "from=0001-01-01T00:00:00Z",
        "to=9999-12-31T23:59:59Z",
        "from=2026-01-01T00:00:00+03:00",  # a plus sign that was not escaped
        "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
    ],
)
def test_any_other_time_is_taken_everywhere(api: Api, path: str, query: str) -> None:
    assert api.call("GET", f"{path}?{query}").json == {"value": [], "nextLink": None}


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("action=", "action[0]"),
        ("action=a.b&action=drop table", "action[1]"),
        ("targetType=member", "targetType"),
        ("targetId=../secrets", "targetId"),
        ("targetId=", "targetId"),
        ("who=", "who"),
        (f"who={'x' * 201}", "who"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(api: Api, query: str, target: str) -> None:
    reply = api.call("GET", f"/api/audit?{query.replace(' ', '%20')}")
    assert (reply.status, reply.error["target"]) == (422, target)


@pytest.mark.parametrize("record", ["", "zzz", "..", "2026-11/20261122T081402118234Z-1", "20261122T081402118234Z-\n"])
def test_a_cursor_of_the_audit_log_has_to_be_a_record(api: Api, record: str) -> None:
    reply = api.call("GET", f"/api/audit?after={encode((record,))}")
    assert (reply.status, reply.error["target"]) == (422, "after")


def test_too_many_actions_are_refused(api: Api) -> None:
    assert api.call("GET", f"/api/audit?{'&'.join(['action=a.b'] * 51)}").status == 422


def test_times_with_an_offset_are_compared_in_utc(api: Api) -> None:
    logged(api, 3)  # at 12:00:00, :01 and :02 in UTC
    found = api.call("GET", "/api/audit?from=2026-11-23T15:00:01%2B03:00&to=2026-11-23T15:00:02%2B03:00").json
    assert [each["at"] for each in found["value"]] == ["2026-11-23T12:00:01Z"]


def test_a_record_is_answered_in_the_words_of_the_api(api: Api) -> None:
    api.setup.created()
    (found,) = api.call("GET", "/api/audit").json["value"]
    assert found["who"] == {"id": ADA.id, "name": ADA.name}
    assert (found["action"], found["targetType"], found["targetName"]) == (
        "destination.created",
        "destination",
        "Newsletter",
    )
    assert {"property": "displayName", "before": None, "after": "Newsletter"} in found["changes"]
    assert json.dumps(found)


def test_me_is_whoever_asks() -> None:
    local = Api(read_settings(LOCAL))
    assert local.call("GET", "/api/me").json == {"id": "local", "name": "local user", "role": "Administrator"}
    deployed = Api(read_settings(DEPLOYED))
    for roles, role in (
        (["Viewer"], "Viewer"),
        (["Viewer", "Contributor"], "Contributor"),
        ([], None),
        (["viewer"], None),
    ):
        reply = deployed.call("GET", "/api/me", headers=signed_in(roles))
        assert reply.json == {"id": "ada-id", "name": "ada@contoso.example", "role": role}
    for api in (local, deployed):
        api.close()
