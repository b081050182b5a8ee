"""What is done about contacts at whom Mailchimp fails although it is up: how often they are tried, and in which parts.

They are split until those who are not at fault have got through. A call that hangs costs two minutes, and a function
may run for half an hour only (host.json): what it has found out of a batch is lost with it. So such a call is not
repeated, its contacts are split in tenths (one of 500 is found in four calls that hang and 30 that do not; with halves,
in ten), and the search ends in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

_T = TypeVar("_T")

_LONGEST_S: Final = 600.0
_GOLDEN_RATIO: Final = 0.618
"""Its multiples, without what is before the point, are spread evenly between 0 and 1."""


class Troubled(Exception):
    """Raised for a call that fails although Mailchimp is up. ``reason`` is that of the last failure; ``hung``: it took
    as long as a call may."""

    def __init__(self, reason: str, *, hung: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hung = hung


def tries_of(contacts: int) -> int:
    """How often a call for so many is made while Mailchimp is up."""
    return 3 if contacts == 1 else 2


def is_long(seconds: float) -> bool:
    """Whether a batch has taken so long that nobody is searched for any more: what hangs then is given up as it is, and
    if nobody at all has got through, that is waited for elsewhere."""
    return seconds > _LONGEST_S


def from_elsewhere(contacts: Sequence[_T], failures: int) -> Sequence[_T]:
    """``contacts``, begun at another place after each failure: those at whom Mailchimp fails may stand side by side,
    where a search begins, and one that has to pause begins anew."""
    start = int(len(contacts) * (failures * _GOLDEN_RATIO % 1))
    return [*contacts[start:], *contacts[:start]] if start else contacts


def in_parts(contacts: Sequence[_T], parts: int = 2) -> list[Sequence[_T]]:
    """``contacts`` in so many parts of about the same size, or single ones; the last one first, as a stack wants it."""
    size = -(-len(contacts) // parts)
    return [contacts[start : start + size] for start in range(0, len(contacts), size)][::-1]


def put_back(waiting: list[Sequence[_T]], contacts: Sequence[_T], trouble: Troubled) -> None:
    """Put ``contacts`` in parts on the stack ``waiting``; those at whom Mailchimp hangs below all others, so that the
    parts are small when the time for them is over."""
    if trouble.hung:
        waiting[:0] = in_parts(contacts, 10)
    else:
        waiting += in_parts(contacts)
