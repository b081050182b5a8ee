"""Faults, latency, the journal, the control API and the page of the sandbox."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dev.sandbox.app import DEFAULT_AUDIENCE
from dev.sandbox.http import Delivery
from dev.sandbox.in_process import LIST, InProcessSandbox, row


@pytest.fixture
def client() -> InProcessSandbox:
    return InProcessSandbox()


def batch(client: InProcessSandbox, *addresses: str) -> tuple[int, bytes]:
    members = [row(address) for address in addresses or ("a@mail.example",)]
    reply = client.reply("POST", LIST, {"members": members, "update_existing": True})
    return reply.status, reply.body


@pytest.mark.parametrize(
    ("preset", "status", "title"),
    [
        ("apiKeyInvalid", 401, "API Key Invalid"),
        ("userDisabled", 403, "User Disabled"),
        ("forbidden", 403, "User action not permitted"),
        ("notFound", 404, "Resource Not Found"),
        ("internalServerError", 500, "Internal Server Error"),
        ("complianceRelated", 503, "Compliance Related"),
        ("invalidResource", 400, "Invalid Resource"),
    ],
)
def test_a_problem_fault_answers_with_its_document_and_applies_nothing(
    client: InProcessSandbox, preset: str, status: int, title: str
) -> None:
    client.set_faults({"action": "problem", "preset": preset})
    answered, body = batch(client)
    assert (answered, msgspec.json.decode(body)["title"]) == (status, title)
    assert client.held() == {}


@pytest.mark.parametrize(
    ("status", "content_type", "text"),
    [(429, "", b""), (503, "", b""), (403, "text/html", b"Access Denied"), (502, "text/html", b"Bad Gateway"),
     (504, "text/html", b"Gateway Time-out")],
)  # fmt: skip
def test_a_bare_fault_answers_without_a_document(
    client: InProcessSandbox, status: int, content_type: str, text: bytes
) -> None:
    client.set_faults({"action": "bare", "status": status})
    reply = client.reply("GET", "/3.0/ping")
    assert (reply.status, reply.content_type) == (status, content_type)
    assert text in reply.body
    assert b'"status"' not in reply.body


@pytest.mark.parametrize(("action", "applied"), [("resetBefore", False), ("resetAfter", True), ("noReply", True)])
def test_a_lost_connection_is_before_or_after_the_call_was_applied(
    client: InProcessSandbox, action: str, applied: bool
) -> None:
    client.set_faults({"action": action, "ms": 5000})
    reply = client.reply("POST", LIST, {"members": [row("a@mail.example")]})
    assert reply.delivery is Delivery.RESET
    assert bool(client.held()) is applied
    assert client.slept == ([5.0] if action == "noReply" else [])


@pytest.mark.parametrize("fault", [{"action": "bare", "status": 502}, {"action": "problem", "status": 500}])
def test_an_error_may_come_after_the_call_was_applied(client: InProcessSandbox, fault: dict[str, Any]) -> None:
    client.set_faults({**fault, "applied": True})
    status, body = batch(client)
    assert status == fault["status"]
    assert b"new_members" not in body
    assert list(client.held()) == ["a@mail.example"]


def test_a_malformed_reply_is_a_success_with_another_text(client: InProcessSandbox) -> None:
    client.set_faults({"action": "malformed", "body": '{"new_members": "none"}'})
    assert batch(client) == (200, b'{"new_members": "none"}')
    assert list(client.held()) == ["a@mail.example"]


def test_faults_are_counted_by_their_names_and_the_counts_outlive_them(client: InProcessSandbox) -> None:
    refusal = {"action": "memberError", "name": "refused", "match": {"emailContains": "a@"}}
    client.set_faults(refusal, {"action": "bare", "name": "late 504", "status": 504, "applied": True, "count": 1})
    for _ in range(2):
        batch(client)
    client.set_faults({"action": "resetBefore"})
    batch(client)
    assert client.json("GET", "/_sandbox/state")["faults"] == {"refused": 2, "late 504": 1, "resetBefore": 1}
    faults = [call["fault"] for call in client.json("GET", "/_sandbox/calls")["calls"]]
    assert faults == ["late 504", None, "resetBefore"]


def test_an_audience_that_is_deleted_is_unknown_to_the_api_and_can_still_be_looked_into(
    client: InProcessSandbox,
) -> None:
    client.subscribe(row("a@mail.example"))
    assert client.reply("DELETE", f"/_sandbox/audiences/{DEFAULT_AUDIENCE}").status == 204
    assert client.json("GET", LIST, expect=404)["title"] == "Resource Not Found"
    assert batch(client)[0] == 404
    assert list(client.held()) == ["a@mail.example"]
    assert client.reply("DELETE", f"/_sandbox/audiences/{DEFAULT_AUDIENCE}").status == 404


def test_a_truncated_reply_is_no_json(client: InProcessSandbox) -> None:
    client.set_faults({"action": "truncate"})
    status, body = batch(client)
    assert status == 200
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(body)
    assert list(client.held()) == ["a@mail.example"]


@pytest.mark.parametrize(("action", "held"), [("skipRows", 1), ("hideRows", 3)])
def test_counts_do_not_add_up_when_rows_are_skipped_or_hidden(client: InProcessSandbox, action: str, held: int) -> None:
    client.set_faults({"action": action, "rows": 2})
    answer = client.subscribe(*(row(f"p{n}@mail.example") for n in range(3)))
    assert (answer["total_created"], len(answer["new_members"]), answer["error_count"]) == (1, 1, 0)
    assert len(client.held()) == held


def test_a_row_error_names_the_row_of_the_address(client: InProcessSandbox) -> None:
    client.set_faults({"action": "rowError", "match": {"emailContains": "POISON"}, "field": "status"})
    document = client.subscribe(row("a@mail.example"), row("Poison@mail.example"), expect=400)
    assert [error["field"] for error in document["errors"]] == ["members.item:1.status"]
    client.set_faults({"action": "rowError", "row": 7})
    assert client.subscribe(row("a@mail.example"), expect=400)["errors"][0]["field"] == "members.item:7.email_address"


def test_a_poison_address_fails_its_call_and_no_other(client: InProcessSandbox) -> None:
    client.set_faults({"action": "problem", "preset": "internalServerError", "match": {"emailContains": "poison"}})
    assert batch(client, "a@mail.example", "b-poison@mail.example")[0] == 500
    assert batch(client, "a@mail.example")[0] == 200
    path = f"{LIST}/members/x-poison@mail.example"
    assert client.reply("PUT", path, {"email_address": "x-poison@mail.example", "status": "subscribed"}).status == 500


def test_a_member_error_refuses_only_the_addresses_it_names(client: InProcessSandbox) -> None:
    client.set_faults({"action": "memberError", "match": {"emailContains": "often"}})
    answer = client.subscribe(row("a@mail.example"), row("Often@mail.example"))
    assert answer["total_created"] == 1
    assert answer["errors"][0]["error"] == (
        "Often@mail.example has signed up to a lot of lists very recently; we're not allowing more signups for now"
    )


def test_faults_strike_the_first_calls_or_every_nth_or_so_many_times(client: InProcessSandbox) -> None:
    def answers(**fault: Any) -> list[int]:
        client.set_faults({"action": "bare", "status": 503, **fault})
        return [client.reply("GET", "/3.0/ping").status for _ in range(6)]

    assert answers(match={"firstN": 2}) == [503, 503, 200, 200, 200, 200]
    assert answers(match={"everyNth": 3}) == [200, 200, 503, 200, 200, 503]
    assert answers(match={"everyNth": 2}, count=2) == [200, 503, 200, 503, 200, 200]
    assert answers(count=1) == [503, 200, 200, 200, 200, 200]
    assert answers(match={"method": "POST"}) == [200] * 6
    assert answers(match={"pathPattern": "/lists"}) == [200] * 6
    assert answers(match={"method": "get", "pathPattern": "ping$"}) == [503] * 6
    assert client.json("GET", "/_sandbox/faults")["faults"][0]["struck"] == 6
    assert client.reply("DELETE", "/_sandbox/faults").status == 204
    assert client.reply("GET", "/3.0/ping").status == 200


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"action": "explode"}, "action"),
        ({"action": "bare", "match": {"emailcontains": "x"}}, "emailcontains"),
        ({"action": "bare", "count": 0}, "count"),
        ({"action": "bare", "match": {"pathPattern": "("}}, "pathPattern"),
        ({"action": "problem", "preset": "nope"}, "preset"),
        ({"action": "memberError"}, "emailContains"),
        ({"action": "hang", "applied": True}, "applied"),
    ],
)
def test_a_wrong_fault_is_refused_with_its_place(client: InProcessSandbox, fault: dict[str, Any], named: str) -> None:
    document = client.json("PUT", "/_sandbox/faults", {"faults": [fault]}, 400)
    assert named in document["error"]["message"]


def test_latency_is_a_base_and_a_part_per_member(client: InProcessSandbox) -> None:
    client.json("PUT", "/_sandbox/settings", {"latencyBaseMs": 130, "latencyPerMemberMs": 10.5})
    batch(client, *(f"p{n}@mail.example" for n in range(500)))
    client.reply("GET", "/3.0/ping")
    client.set_faults({"action": "hang", "ms": 1000})
    client.reply("GET", "/3.0/ping")
    assert client.slept == pytest.approx([5.38, 0.13, 1.13])


def test_settings_are_checked_and_kept_when_a_change_is_wrong(client: InProcessSandbox) -> None:
    for wrong in ({"latencyBaseMs": -1}, {"maxConnections": 0}, {"nonsense": 1}, {"realisticReplies": "yes"}):
        assert client.json("PUT", "/_sandbox/settings", wrong, 400)["error"]["message"]
    assert client.json("GET", "/_sandbox/settings") == {
        "latencyBaseMs": 0.0,
        "latencyPerMemberMs": 0.0,
        "tagsReachExisting": True,
        "realisticReplies": False,
        "maxConnections": 10,
    }


def test_the_journal_lists_calls_without_their_bodies(client: InProcessSandbox) -> None:
    batch(client, "a@mail.example", "b@mail.example")
    client.reply("GET", "/3.0/nothing")
    client.reply("GET", "/3.0/ping", authorization="")
    calls = client.json("GET", "/_sandbox/calls")["calls"]
    assert [(call["kind"], call["rows"], call["status"], call["account"]) for call in calls] == [
        ("batchSubscribe", 2, 200, "sandbox"),
        ("unknown", 0, 404, "sandbox"),
        ("ping", 0, 401, ""),
    ]
    assert calls[0]["openCalls"] == 1
    assert client.json("GET", "/_sandbox/calls", kind="ping", limit="5")["calls"] == calls[2:]


def test_the_state_counts_contacts_by_status_and_tag_and_calls_by_kind(client: InProcessSandbox) -> None:
    client.preload(
        {"email_address": "a@mail.example", "tags": ["T"]},
        {"email_address": "b@mail.example", "status": "unsubscribed", "tags": ["T", "U"]},
        {"email_address": "c@mail.example", "forgotten": True},
    )
    client.subscribe(row("d@mail.example"), row("c@mail.example"), row("a@mail.example"))
    state = client.json("GET", "/_sandbox/state")
    audience = state["accounts"][0]["audiences"][0]
    assert audience["byStatus"] == {"subscribed": 2, "unsubscribed": 1}
    assert [(tag["name"], tag["contacts"], tag["byStatus"]) for tag in audience["tags"]] == [
        ("T", 2, {"subscribed": 1, "unsubscribed": 1}),
        ("U", 1, {"unsubscribed": 1}),
    ]
    assert (audience["contacts"], audience["forgotten"]) == (3, 1)
    assert audience["batchTotals"] == {"created": 1, "updated": 1, "errors": 1}
    assert (state["calls"], state["answers"], state["openCalls"], state["maxOpenCalls"]) == (
        {"batchSubscribe": 1},
        {"200": 1},
        0,
        1,
    )


def test_counts_stay_right_when_contacts_move_between_states(client: InProcessSandbox) -> None:
    client.subscribe(*(row(f"p{n}@mail.example", tags=["T"]) for n in range(5)))
    client.json("PATCH", f"{LIST}/members/p0@mail.example", {"status": "unsubscribed"})
    client.reply("DELETE", f"{LIST}/members/p1@mail.example")
    client.reply("POST", f"{LIST}/members/p2@mail.example/actions/delete-permanent")
    audience = client.json("GET", "/_sandbox/state")["accounts"][0]["audiences"][0]
    assert audience["byStatus"] == {"subscribed": 2, "unsubscribed": 1, "archived": 1}
    assert audience["tags"][0]["contacts"] == 4
    assert audience["contacts"] == len(client.held()) == 4


def test_audiences_are_made_with_their_own_merge_fields_and_flags(client: InProcessSandbox) -> None:
    body = {
        "name": "Trade",
        "id": "ffffffffff",
        "doubleOptin": True,
        "mergeFields": [{"name": "Company", "type": "text", "tag": "COMPANY", "required": True}],
    }
    assert client.json("POST", "/_sandbox/audiences", body, 201)["mergeFields"] == ["COMPANY"]
    assert client.json("GET", "/3.0/lists/ffffffffff")["double_optin"] is True
    client.json("POST", "/_sandbox/audiences", body, 409)
    wrong = {"mergeFields": [{"name": "X", "type": "nonsense"}]}
    assert "X" in client.json("POST", "/_sandbox/audiences", wrong, 400)["error"]["message"]


def test_wrong_calls_of_the_control_api_say_what_is_wrong(client: InProcessSandbox) -> None:
    client.json("GET", "/_sandbox/audiences/none/members", expect=404)
    client.json("GET", "/_sandbox/nothing", expect=404)
    client.json("DELETE", "/_sandbox/state", expect=405)
    client.json("DELETE", "/_sandbox/credentials/none", expect=404)
    client.json("POST", "/_sandbox/audiences", {"account": "none"}, 404)
    contacts = {"contacts": [{"email_address": "a@mail.example", "merge_fields": {"LTV": "x"}}]}
    path = f"/_sandbox/audiences/{DEFAULT_AUDIENCE}/contacts"
    assert "LTV" in client.json("POST", path, contacts, 400)["error"]["message"]
    assert "contacts" in client.json("POST", path, {}, 400)["error"]["message"]


def test_reset_brings_back_the_start(client: InProcessSandbox) -> None:
    client.subscribe(row("a@mail.example"))
    client.json("PUT", "/_sandbox/settings", {"maxConnections": 3})
    client.set_faults({"action": "bare", "status": 503})
    assert client.reply("POST", "/_sandbox/reset").status == 204
    assert client.held() == {}
    assert client.json("GET", "/_sandbox/settings")["maxConnections"] == 10
    assert client.json("GET", "/3.0/ping")


def test_a_failure_inside_the_sandbox_is_answered(
    client: InProcessSandbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(client.sandbox.world, "accounts")
    assert client.reply("GET", "/3.0/ping").status == 500
    assert "sandbox.failed" in caplog.text


def test_the_page_shows_what_is_held_and_escapes_it(client: InProcessSandbox) -> None:
    client.subscribe(
        row("ada@mail.example", merge_fields={"FNAME": "<script>alert(1)</script>"}, tags=['"><b>T</b>']),
        *(row(f"p{n}@mail.example") for n in range(60)),
    )
    client.set_faults({"action": "bare", "status": 503, "match": {"pathPattern": "<i>"}})
    for path in ("/", "/_sandbox/", "/_sandbox"):
        page = client.reply("GET", path).body.decode()
        assert "ada@mail.example" in page
        assert "<script>" not in page
        assert "<b>T</b>" not in page
        assert "<i>" not in page
        assert "Next 50" in page
        assert "batchSubscribe" in page


def test_the_page_searches_addresses_names_and_tags(client: InProcessSandbox) -> None:
    client.subscribe(
        row("ada@mail.example"),
        row("bob@mail.example", merge_fields={"FNAME": "Adam"}),
        row("cem@mail.example", tags=["Canada"]),
        row("dan@mail.example"),
    )
    page = client.reply("GET", "/_sandbox/", audience=DEFAULT_AUDIENCE, q="ADA").body.decode()
    found = [name for name in ("ada", "bob", "cem", "dan") if f"{name}@mail.example" in page]
    assert found == ["ada", "bob", "cem"]
