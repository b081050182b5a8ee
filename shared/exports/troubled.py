"""What is done about contacts at whom Mailchimp fails although it is up: how often they are tried, and in which parts.

They are split until those who are not at fault have got through. A call that hangs costs two minutes, and a function
may run for half an hour only (host.json): what it has found out of a batch is lost with it. So such a call is not
repeated, its contacts are split in tenths (one of 500 is found in four calls that hang and 30 that do not; with halves,
in ten), and the search ends in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

from shared.exports.backoff import Backoff

_T = TypeVar("_T")

_TOO_MANY_TO_BE_AT_FAULT: Final = 3
"""Contacts that fail one by one, while Mailchimp is up and nobody else of their call gets through: not all of them can
be what makes it fail, so the call is out of order."""

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


def in_parts(contacts: Sequence[_T], parts: int = 2) -> list[Sequence[_T]]:
    """``contacts`` in so many parts of about the same size, or single ones; the last one first, as a stack wants it."""
    size = -(-len(contacts) // parts)
    return [contacts[start : start + size] for start in range(0, len(contacts), size)][::-1]


class Search(Generic[_T]):
    """The contacts of one call that have no outcome yet, in the parts in which they are to be sent.

    Nobody is given up before somebody else got through: until then it may be the call that is out of order.
    """

    def __init__(self, contacts: Sequence[_T], backoff: Backoff, monotonic: Callable[[], float]) -> None:
        self._few = len(contacts) < _TOO_MANY_TO_BE_AT_FAULT
        self._waiting = [_from_elsewhere(contacts, backoff.failures)]
        self._suspects: list[Sequence[_T]] = []
        self._has_answer = False
        self._backoff = backoff
        self._monotonic = monotonic
        self._started = monotonic()

    def next(self, most: int) -> Sequence[_T]:
        """Those who are to be sent next, at most so many; none when everybody has an outcome."""
        if not self._waiting:
            self._waiting, self._suspects = self._suspects, []
        if not self._waiting:
            return ()
        part = self._waiting.pop()
        if len(part) > most:
            self._waiting.append(part[most:])
            part = part[:most]
        return part

    def answered(self, left: Iterable[Sequence[_T]] = ()) -> None:
        """Mailchimp has answered for some, be it with a refusal; ``left`` still have no outcome."""
        self._has_answer = True
        self._waiting += left

    def failed(self, part: Sequence[_T], trouble: Troubled) -> Sequence[_T]:
        """Mailchimp failed at these; returns those of them who are given up. Raises CallOutOfOrder where the call is to
        be waited for, and whatever a wait raises.

        After ten minutes nobody is searched for any more: what hangs then is given up as it is, and if nobody at all
        has got through, that is waited for.
        """
        too_long = self._monotonic() - self._started > _LONGEST_S
        if too_long and not self._has_answer:
            self._backoff.wait_for_call(trouble.reason)
        if len(part) > 1 and not (too_long and trouble.hung and self._has_answer):
            self._put_back(part, trouble)
        elif self._has_answer or self._few:
            return part
        else:
            self._suspects.append(part)
            if len(self._suspects) % _TOO_MANY_TO_BE_AT_FAULT == 0:
                self._backoff.wait_for_call(trouble.reason)
                self._waiting.reverse()  # contacts that make Mailchimp fail may stand side by side
        return ()

    def _put_back(self, part: Sequence[_T], trouble: Troubled) -> None:
        """In parts; those at whom Mailchimp hangs below all others, so that the parts are small when the time for them
        is over."""
        if trouble.hung:
            self._waiting[:0] = in_parts(part, 10)
        else:
            self._waiting += in_parts(part)


def _from_elsewhere(contacts: Sequence[_T], failures: int) -> Sequence[_T]:
    """``contacts``, begun at another place after each failure: those at whom Mailchimp fails may stand side by side,
    where a search begins, and one that has to pause begins anew."""
    start = int(len(contacts) * (failures * _GOLDEN_RATIO % 1))
    return [*contacts[start:], *contacts[:start]] if start else contacts
