"""The base of everything that is stored or answered as JSON: camelCase outside, snake_case inside."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class JsonDocument(BaseModel):
    """A document of ours. Unknown properties are ignored on reading: an older version may meet a newer document.

    What stands under a property as a string is its description in the OpenAPI document. Every property is answered,
    those with defaults too.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        validate_assignment=True,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
        hide_input_in_errors=True,  # whoever logs the error does not log a profile
    )

    def to_bytes(self) -> bytes:
        return self.model_dump_json(by_alias=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        return cls.model_validate_json(data)
