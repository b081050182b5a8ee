"""The base of everything that callers send: strict, in camelCase, unknown properties are refused."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


def _is_printable(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must not hold control characters")
    return text


def _is_true_or_false(value: Any) -> Any:
    if value is True or value is False:
        return value
    raise ValueError("must be true or false")


TrueOrFalse = Annotated[bool, BeforeValidator(_is_true_or_false)]
PRINTABLE: Final = AfterValidator(_is_printable)


class Request(BaseModel):
    """The base of all request bodies. What stands under a property is its description in the OpenAPI document."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, extra="forbid", frozen=True, use_attribute_docstrings=True
    )
