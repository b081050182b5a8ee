"""How long a lane waits while Mailchimp is unavailable: short waits here, long ones as a delayed message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

_FIRST_S: Final = 1.0
_LONGEST_S: Final = 300.0
_IN_PLACE_S: Final = 16.0
"""A wait up to this long is slept through with the connection held: nobody else could use it better."""

_TELL_AFTER: Final = 2
"""Failures in a row after which the export is shown as Waiting; a single hiccup is not worth a word."""


class MustPause(Exception):
    """Raised when the wait is too long to hold a connection for; ``delay_s`` says how long."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"Mailchimp is unavailable, next try in {delay_s:.0f} s")
        self.delay_s = delay_s


class CallOutOfOrder(MustPause):
    """Raised where Mailchimp is up and one call to it is not: exports that make other calls may go on."""


class Availability(Protocol):
    """Is told how Mailchimp is doing."""

    def waiting(self, reason: str) -> None:
        """Mailchimp does not answer; called at every wait from the second one on."""

    def available(self) -> None:
        """Mailchimp answered after ``waiting`` was called."""


def delay_s(failures: int, jitter: float, retry_after_s: float | None) -> float:
    """Seconds to wait after ``failures`` (1, 2, …) in a row: doubled each time, times 0.5 to 1.5.

    ``jitter`` is a random number from 0 to 1. Mailchimp documents no Retry-After, but one that is given is honoured.
    """
    wait = min(_FIRST_S * 2.0 ** min(failures - 1, 20), _LONGEST_S) * (0.5 + jitter)
    return max(wait, min(retry_after_s or 0.0, _LONGEST_S))


class Backoff:
    """The waits of one lane. ``failures`` counts failures in a row, and survives a pause in the lane's blob.

    While Mailchimp answers pings, only the failures since the last of them make a wait longer: those who search for the
    contacts that make a call fail would never come to an end if each hiccup on the way were the next of many.
    """

    def __init__(
        self,
        failures: int,
        availability: Availability,
        *,
        sleep: Callable[[float], None],
        random: Callable[[], float],
        still_ours: Callable[[], None],
    ) -> None:
        self.failures = failures
        self._since_up = failures
        self._availability = availability
        self._sleep = sleep
        self._random = random
        self._still_ours = still_ours
        self._told = failures >= _TELL_AFTER

    def wait(self, reason: str, retry_after_s: float | None) -> None:
        """Sleep after a failure. Raises MustPause for long waits, and whatever ``still_ours`` raises meanwhile."""
        self._since_up += 1
        self._wait(reason, delay_s(self._since_up, self._random(), retry_after_s))

    def wait_for_call(self, reason: str) -> None:
        """Sleep after failures of one call, while Mailchimp answers others. Raises CallOutOfOrder for long waits, and
        whatever ``still_ours`` raises meanwhile."""
        try:
            self._wait(reason, delay_s(self.failures + 1, self._random(), None))
        except MustPause as pause:
            raise CallOutOfOrder(pause.delay_s) from pause

    def _wait(self, reason: str, wait: float) -> None:
        self.failures += 1
        if self.failures >= _TELL_AFTER:
            self._told = True
            self._availability.waiting(reason)
        if wait > _IN_PLACE_S:
            raise MustPause(wait)
        while wait > 0:
            self._still_ours()
            self._sleep(min(wait, 1.0))
            wait -= 1.0

    def up(self) -> None:
        """Mailchimp answered a ping, though not the call that it was made for."""
        self._since_up = 0

    def success(self) -> None:
        """Mailchimp answered."""
        self.failures = self._since_up = 0
        if self._told:
            self._told = False
            self._availability.available()
