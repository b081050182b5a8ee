"""Tags: found, created, and put on members or taken off them, by whatever name."""

from __future__ import annotations

from typing import Any

import pytest

from shared.mailchimp import AudienceNotFound, ReplyUnusable, Tag, TagNameRefused, TagNotFound, Unavailable
from tests.unit.fake_mailchimp import AUDIENCE, AUDIENCE_ENTRY, Canned, FakeMailchimp, member, problem

TAG_EXISTS = problem(400, "Bad Request", "Sorry, that tag already exists.")


def segment(tag_id: int, name: str, **more: Any) -> dict[str, Any]:
    return {"id": tag_id, "name": name, "member_count": 3, "type": "static", "list_id": AUDIENCE} | more


def found(*tags: tuple[int, str], total: int | None = None) -> Canned:
    entries = [{"id": tag_id, "name": name} for tag_id, name in tags]
    return Canned(body={"tags": entries, "total_items": len(tags) if total is None else total})


class TestTags:
    def test_are_the_static_segments_of_an_audience(self) -> None:
        entries = [segment(1, "VIP"), segment(2, "Saved", type="saved"), segment(3, "Odd", member_count=None)]
        fake = FakeMailchimp(Canned(body={"segments": entries, "total_items": 3}))
        assert fake.client().tags(AUDIENCE) == [Tag(1, "VIP", 3), Tag(3, "Odd", None)]
        assert fake.query()["type"] == "static"

    def test_are_found_by_name_whatever_the_case(self) -> None:
        fake = FakeMailchimp(found((1, "VIP customers EU"), (2, "vip Customers")))
        assert fake.client().find_tag(AUDIENCE, "VIP customers ") == Tag(2, "vip Customers")
        assert fake.path() == f"/3.0/lists/{AUDIENCE}/tag-search"
        assert fake.query() == {"name": "VIP customers "}

    def test_with_the_name_only_as_a_beginning_are_not_taken_for_it(self) -> None:
        assert FakeMailchimp(found((1, "VIP customers"))).client().find_tag(AUDIENCE, "VIP") is None

    def test_are_looked_up_in_full_if_the_search_shows_only_some(self) -> None:
        fake = FakeMailchimp(
            found((1, "VIP 1"), total=12), Canned(body={"segments": [segment(9, "VIP")], "total_items": 1})
        )
        assert fake.client().find_tag(AUDIENCE, "VIP") == Tag(9, "VIP", 3)

    def test_names_travel_in_the_query_whatever_they_hold(self) -> None:
        fake = FakeMailchimp(found())
        fake.client().find_tag(AUDIENCE, "a&b=c/ü #?")
        assert fake.query() == {"name": "a&b=c/ü #?"}

    def test_are_created_without_members(self) -> None:
        fake = FakeMailchimp(Canned(body=segment(7, "Spring", member_count=0)))
        assert fake.client().create_tag(AUDIENCE, "Spring") == Tag(7, "Spring", 0)
        assert fake.path() == f"/3.0/lists/{AUDIENCE}/segments"
        assert fake.sent() == {"name": "Spring", "static_segment": []}

    @pytest.mark.parametrize("detail", ["Sorry, that tag already exists.", "Dieses Tag gibt es schon.", ""])
    def test_that_exist_already_are_returned_in_whichever_language_that_is_said(self, detail: str) -> None:
        fake = FakeMailchimp(problem(400, "Bad Request", detail), found((7, "Spring")))
        assert fake.client().create_tag(AUDIENCE, "spring") == Tag(7, "Spring")

    def test_are_created_only_if_they_are_not_found(self) -> None:
        fake = FakeMailchimp(found((7, "Spring")))
        assert fake.client().find_or_create_tag(AUDIENCE, "SPRING").id == 7
        assert len(fake.requests) == 1

    def test_created_by_somebody_else_between_search_and_creation_are_used(self) -> None:
        fake = FakeMailchimp(found(), TAG_EXISTS, found((8, "Spring")))
        assert fake.client().find_or_create_tag(AUDIENCE, "Spring").id == 8

    def test_with_a_name_that_mailchimp_does_not_take_stop_with_that_name(self) -> None:
        fake = FakeMailchimp(problem(400, "Invalid Resource", "Name too long"), found())
        with pytest.raises(TagNameRefused, match="Spring") as caught:
            fake.client().create_tag(AUDIENCE, "Spring")
        assert caught.value.detail == "Name too long"
        assert "Rename" in caught.value.action

    @pytest.mark.parametrize("name", ["", "  ", "half a character \ud83d"])
    def test_with_a_name_that_no_request_can_carry_are_not_asked_for(self, name: str) -> None:
        fake = FakeMailchimp()
        for call in (fake.client().find_tag, fake.client().create_tag, fake.client().find_or_create_tag):
            with pytest.raises(TagNameRefused):
                call(AUDIENCE, name)
        assert fake.requests == []

    def test_created_without_an_id_are_an_unusable_reply(self) -> None:
        with pytest.raises(ReplyUnusable):
            FakeMailchimp(Canned(body={"name": "Spring"})).client().create_tag(AUDIENCE, "Spring")


class TestTagging:
    def test_sends_the_addresses_and_reads_who_was_tagged(self) -> None:
        reply = {
            "members_added": [member("ada@mail.example")],
            "members_removed": [],
            "errors": [{"email_addresses": ["bob@mail.example"], "error": "Already in the segment"}],
            "total_added": 1,
            "total_removed": 0,
            "error_count": 1,
        }
        fake = FakeMailchimp(Canned(body=reply))
        result = fake.client().tag_members(AUDIENCE, 7, ["ada@mail.example", "bob@mail.example"])
        assert fake.path() == f"/3.0/lists/{AUDIENCE}/segments/7"
        assert fake.sent() == {"members_to_add": ["ada@mail.example", "bob@mail.example"]}
        assert result.added == ["ada@mail.example"]
        assert result.total_added == 1
        assert [(error.addresses, error.message) for error in result.errors] == [
            (("bob@mail.example",), "Already in the segment")
        ]

    def test_takes_a_tag_off_without_touching_anything_else(self) -> None:
        fake = FakeMailchimp(Canned(body={"members_removed": [member("ada@mail.example")], "total_removed": 1}))
        result = fake.client().untag_members(AUDIENCE, 7, ["ada@mail.example"])
        assert fake.sent() == {"members_to_remove": ["ada@mail.example"]}
        assert (result.removed, result.total_removed, result.added) == (["ada@mail.example"], 1, [])

    def test_of_more_than_500_is_a_mistake_of_the_caller(self) -> None:
        fake = FakeMailchimp()
        with pytest.raises(ValueError, match="501"):
            fake.client().tag_members(AUDIENCE, 7, ["a@mail.example"] * 501)

    def test_with_a_tag_that_somebody_deleted_says_so(self) -> None:
        fake = FakeMailchimp(problem(404, "Resource Not Found"), Canned(body=AUDIENCE_ENTRY))
        with pytest.raises(TagNotFound) as caught:
            fake.client().tag_members(AUDIENCE, 7, ["ada@mail.example"])
        assert (caught.value.audience_id, caught.value.tag_id) == (AUDIENCE, 7)

    def test_in_an_audience_that_is_gone_says_that_instead(self) -> None:
        fake = FakeMailchimp(problem(404, "Resource Not Found"), problem(404, "Resource Not Found"))
        with pytest.raises(AudienceNotFound):
            fake.client().tag_members(AUDIENCE, 7, ["ada@mail.example"])

    def test_does_not_guess_which_is_gone_while_mailchimp_is_down(self) -> None:
        fake = FakeMailchimp(problem(404, "Resource Not Found"), Canned(503))
        with pytest.raises(Unavailable):
            fake.client().tag_members(AUDIENCE, 7, ["ada@mail.example"])
