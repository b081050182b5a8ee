"""What pydantic finds wrong is told in plain words."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from shared.plain_faults import plain_fault
from shared.requests import TrueOrFalse


class Values(BaseModel):
    number: Annotated[int, Field(le=720)] = 1
    text: Annotated[str, Field(min_length=1)] = "a"
    items: Annotated[tuple[int, ...], Field(max_length=2)] = ()
    switch: TrueOrFalse = True


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"number": "many"}, "must be a valid integer"),
        ({"number": 721}, "must be less than or equal to 720"),
        ({"text": ""}, "must have at least 1 character"),
        ({"items": (1, 2, 3)}, "must have at most 2 items after validation, not 3"),
        ({"switch": "on"}, "must be true or false"),
    ],
)
def test_a_fault_ends_a_sentence_about_the_value(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Values.model_validate(given)
    assert plain_fault(caught.value.errors()[0]["msg"]) == fault


def test_a_sentence_of_our_own_is_kept_without_its_full_stop() -> None:
    assert plain_fault("Value error, Either this or emails is required.") == "Either this or emails is required"
