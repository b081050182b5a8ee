"""What pydantic finds wrong with a value, in the words of our own messages."""

from __future__ import annotations

import re
from typing import Final

_SUBJECT: Final = re.compile(r"^[A-Z][a-z]+ should ")
_ASIDE: Final = re.compile(r", unable to .*$")


def plain_fault(message: str) -> str:
    """``message`` of one of pydantic's errors as the end of a sentence: "Input should be a valid integer, unable to
    parse string as an integer" becomes "must be a valid integer". Our own ones are kept, less the full stop."""
    own = message.removeprefix("Value error, ")
    return _SUBJECT.sub("must ", _ASIDE.sub("", own)).removesuffix(".")
