"""Reading a batch reply: leniently where a field is odd, strictly where rows could get lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mailchimp import BatchRefused, RefusedRow, ReplyUnusable, RowError, row_error_of
from shared.mailchimp.errors import Problem
from shared.mailchimp.replies import SubscribeReply, read_subscribe, read_tag_reply
from tests.unit.fake_mailchimp import batch_reply, member


def read(**wire: Any) -> SubscribeReply:
    return read_subscribe(json.dumps(batch_reply(**wire)).encode())


class TestAMember:
    @pytest.mark.parametrize("tags", [None, "VIP", 7, {}, [None], ["VIP"], [{"id": 1}], [{"name": None}]])
    def test_with_odd_tags_counts_and_shows_no_tags(self, tags: object) -> None:
        reply = read(created=[member("ada@mail.example", tags=tags)])
        assert [m.tag_names for m in reply.created] == [()]

    def test_without_tags_status_and_count_still_counts(self) -> None:
        reply = read(updated=[{"email_address": "ada@mail.example"}])
        assert [(m.status, m.tag_names, m.tags_count) for m in reply.members()] == [("", (), None)]

    @pytest.mark.parametrize("count", [None, "3", 2.5, True, [], {}])
    def test_with_an_odd_tag_count_has_none(self, count: object) -> None:
        assert read(created=[member("ada@mail.example", tags_count=count)]).created[0].tags_count is None

    def test_may_have_more_tags_than_the_reply_shows(self) -> None:
        shown = read(created=[member("ada@mail.example", *(f"t{n}" for n in range(50)), tags_count=73)]).created[0]
        assert (len(shown.tag_names), shown.tags_count) == (50, 73)

    @pytest.mark.parametrize("address", [None, "", 7, ["ada@mail.example"]])
    def test_without_an_address_makes_the_reply_unusable(self, address: object) -> None:
        with pytest.raises(ReplyUnusable):
            read(created=[member("x@mail.example", email_address=address)])

    def test_keeps_tag_names_as_they_are(self) -> None:
        assert read(created=[member("ada@mail.example", " Größe ✓ ")]).created[0].tag_names == (" Größe ✓ ",)

    @pytest.mark.parametrize("odd", [{"status": None}, {"tags": None}, {"tags_count": "3"}, {"tags": [{"id": 1}]}])
    def test_that_is_odd_leaves_the_others_as_they_are(self, odd: dict[str, Any]) -> None:
        good = [member("ada@mail.example", "VIP", "New"), member("bob@mail.example", "VIP")]
        reply = read(created=[*good, {"email_address": "eve@mail.example", **odd}], updated=good, errors=[{}])
        assert reply.created[:2] == reply.updated == read(created=good).created
        assert reply.created[2].email_address == "eve@mail.example"
        assert reply.error_count == 1


class TestARowError:
    def test_keeps_mailchimps_words_and_field(self) -> None:
        entry = {
            "email_address": "ada@mail.example",
            "error": "The resource submitted could not be validated.",
            "error_code": "ERROR_GENERIC",
            "field": "FNAME",
            "field_message": "This value should not be blank.",
        }
        assert read(errors=[entry]).errors == [
            RowError(
                "ada@mail.example",
                "ERROR_GENERIC",
                "The resource submitted could not be validated.",
                "FNAME",
                "This value should not be blank.",
            )
        ]

    @pytest.mark.parametrize("quoted", ['"ada@mail.example"', '\\"ada@mail.example\\"', " ada@mail.example "])
    def test_loses_quotes_and_blanks_around_its_address(self, quoted: str) -> None:
        assert read(errors=[{"email_address": quoted, "error": "x"}]).errors[0].email_address == "ada@mail.example"

    def test_keeps_quotes_that_belong_to_the_address(self) -> None:
        address = '"ada lovelace"@mail.example'
        assert read(errors=[{"email_address": address, "error": "x"}]).errors[0].email_address == address

    @pytest.mark.parametrize("odd", [None, 7, [], {}])
    def test_with_nulls_is_still_an_error(self, odd: object) -> None:
        entry = dict.fromkeys(("email_address", "error", "error_code", "field", "field_message"), odd)
        assert read(errors=[entry]).errors == [RowError("", "ERROR_GENERIC", "", "", "")]

    def test_is_one_line_of_bounded_length(self) -> None:
        message = read(errors=[{"email_address": "a@b.example", "error": "a\r\n\x00b " * 10_000}]).errors[0].message
        assert len(message) <= 1001
        assert message.isprintable()


class TestTheSum:
    def test_of_a_good_reply_is_what_was_sent(self) -> None:
        read(created=[member("a@mail.example")], updated=[member("b@mail.example")], errors=[{"error": "x"}]).check(3)

    @pytest.mark.parametrize("sent", [0, 1, 3, 500])
    def test_that_differs_from_what_was_sent_is_unusable(self, sent: int) -> None:
        with pytest.raises(ReplyUnusable, match=f"2 of the {sent} rows"):
            read(created=[member("a@mail.example"), member("b@mail.example")]).check(sent)

    @pytest.mark.parametrize("total", ["total_created", "total_updated", "error_count"])
    def test_that_contradicts_the_lists_is_unusable(self, total: str) -> None:
        reply = read(created=[member("a@mail.example")], **{total: 2})
        with pytest.raises(ReplyUnusable, match="counts"):
            reply.check(1)

    @pytest.mark.parametrize("odd", [None, "1", -1, 1.5, True, []])
    def test_without_usable_totals_goes_by_the_lists(self, odd: object) -> None:
        reply = read(created=[member("a@mail.example")], total_created=odd, total_updated=odd, error_count=odd)
        reply.check(1)
        assert (reply.total_created, reply.total_updated, reply.error_count) == (1, 0, 0)

    @given(*[st.integers(0, 5) for _ in range(4)])
    def test_is_right_exactly_when_every_row_is_there(
        self, created: int, updated: int, refused: int, sent: int
    ) -> None:
        reply = read(
            created=[member(f"c{n}@mail.example") for n in range(created)],
            updated=[member(f"u{n}@mail.example") for n in range(updated)],
            errors=[{"email_address": f"e{n}@mail.example", "error": "x"} for n in range(refused)],
        )
        if created + updated + refused == sent:
            reply.check(sent)
        else:
            with pytest.raises(ReplyUnusable):
                reply.check(sent)


@pytest.mark.parametrize("wire", [{"updated_members": []}, {"new_members": []}, {"errors": []}, {"title": "x"}])
def test_a_document_without_its_lists_is_some_other_document(wire: dict[str, Any]) -> None:
    with pytest.raises(ReplyUnusable):
        read_subscribe(json.dumps(wire).encode())


def test_lists_that_are_null_are_empty() -> None:
    reply = read_subscribe(b'{"new_members":null,"updated_members":null,"errors":null}')
    assert (reply.created, reply.updated, reply.errors) == ([], [], [])


def test_a_tagging_reply_may_lack_everything() -> None:
    reply = read_tag_reply(b'{"members_added":null,"errors":[{"email_addresses":[null,"a@b.example"],"error":null}]}')
    assert (reply.added, reply.total_added) == ([], 0)
    assert [(error.addresses, error.message) for error in reply.errors] == [(("a@b.example",), "")]


def test_nothing_that_may_reach_a_log_shows_an_address() -> None:
    entry = {
        "email_address": "eve@mail.example",
        "error": "eve@mail.example is fake",
        "field_message": "eve@mail.example",
    }
    reply = read(created=[member("ada@mail.example")], errors=[entry])
    tagging = {"members_added": [member("ada@mail.example")], "errors": [{"email_addresses": ["eve@mail.example"]}]}
    assert "mail.example" not in repr(reply)
    assert "mail.example" not in repr(read_tag_reply(json.dumps(tagging).encode()))
    assert "mail.example" not in repr(RefusedRow(3, "email_address", "eve@mail.example is odd"))


class TestTheAccountOfARefusedRow:
    REFUSED = BatchRefused(
        "refused",
        refused_rows=[RefusedRow(3, "merge_fields.LTV", "Please enter a number")],
        status=400,
        problem=Problem(title="Invalid Resource", detail="Your merge fields were invalid."),
    )

    def test_says_what_mailchimp_said_of_the_row(self) -> None:
        assert row_error_of(self.REFUSED, "ada@mail.example", 3) == RowError(
            "ada@mail.example",
            "ERROR_GENERIC",
            "Invalid Resource: Your merge fields were invalid.",
            "merge_fields.LTV",
            "Please enter a number",
        )

    def test_says_what_mailchimp_said_of_the_call_if_the_row_is_not_named(self) -> None:
        assert row_error_of(self.REFUSED, "ada@mail.example").field == ""
        assert row_error_of(BatchRefused("refused", status=413), "ada@mail.example").message == "refused with 413"
