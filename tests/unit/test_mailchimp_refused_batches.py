"""A batch that Mailchimp refuses as a whole: which rows its answer names, and in which words."""

from __future__ import annotations

import pytest

from shared.mailchimp import BatchRefused, FailureClass
from tests.unit.fake_mailchimp import AUDIENCE, HTML, Canned, failure, problem

NOT_VALIDATED = "The resource submitted could not be validated. For field-specific details, see the 'errors' array."


class TestARefusedBatch:
    def test_names_the_row_and_its_field(self) -> None:
        named = [{"field": "members.item:3.status", "message": "Data presented is not one of the accepted values"}]
        error = failure(problem(400, detail=NOT_VALIDATED, errors=named))
        assert isinstance(error, BatchRefused)
        assert error.failure_class is FailureClass.BATCH
        assert error.rows == (3,)
        assert error.message_of(3) == "status: Data presented is not one of the accepted values"

    def test_names_each_row_once_in_order(self) -> None:
        named = [
            {"field": "members.item:41.merge_fields.LTV", "message": "Schema describes number, string found instead"},
            {"field": "members.item:7.email_address", "message": "Schema describes string, integer found instead"},
            {"field": "members.item:41.status", "message": "Data presented is not one of the accepted values"},
            {"field": "members.item:0", "message": "Data did not match any of the schemas described in anyOf."},
        ]
        error = failure(problem(400, detail=NOT_VALIDATED, errors=named))
        assert isinstance(error, BatchRefused)
        assert error.rows == (0, 7, 41)
        assert error.message_of(41).startswith("merge_fields.LTV: Schema describes number")
        assert [row.field for row in error.refused_rows] == ["merge_fields.LTV", "email_address", "status", ""]

    @pytest.mark.parametrize(
        "field",
        [
            "",
            "members",
            "members.item:",
            "members.item:x.status",
            "members.item:-1",
            "members.item:500",
            "item:3",
            7,
            None,
        ],
    )
    def test_names_no_row_that_cannot_be_one(self, field: object) -> None:
        error = failure(problem(400, errors=[{"field": field, "message": "?"}, "odd", None]))
        assert isinstance(error, BatchRefused)
        assert error.rows == ()

    def test_by_a_duplicate_names_no_row(self) -> None:
        error = failure(
            Canned(
                400,
                {
                    "title": "Invalid Resource",
                    "status": 400,
                    "detail": "Duplicate items found for email a@mail.example",
                },
            )
        )
        assert isinstance(error, BatchRefused)
        assert error.rows == ()
        assert "a@mail.example" in error.message_of(0)

    @pytest.mark.parametrize("status", [400, 413, 422])
    @pytest.mark.parametrize("body", [b"", HTML, b"[]", b"{}"])
    def test_without_a_document_is_still_a_refused_batch(self, status: int, body: bytes) -> None:
        error = failure(Canned(status, body))
        assert isinstance(error, BatchRefused)
        assert error.status == status
        assert error.message_of(0)

    def test_may_be_one_that_tags_members(self) -> None:
        detail = "Maximum allowed member items exceeded, please provide at most 500 items in members_to_add field"
        error = failure(problem(400, detail=detail), lambda client: client.tag_members(AUDIENCE, 7, ["a@mail.example"]))
        assert isinstance(error, BatchRefused)
        named = [{"field": "members_to_add.item:2", "message": "not an address"}]
        error = failure(problem(400, errors=named), lambda client: client.tag_members(AUDIENCE, 7, ["a@mail.example"]))
        assert isinstance(error, BatchRefused)
        assert error.rows == (2,)

    def test_may_name_all_500_rows(self) -> None:
        named = [{"field": f"members.item:{row}.status", "message": "x" * 300} for row in range(500)]
        error = failure(problem(400, errors=named))
        assert isinstance(error, BatchRefused)
        assert error.rows == tuple(range(500))
