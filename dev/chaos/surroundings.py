"""Imported by a host of the campaign before the app (`HOST_FIRST_IMPORTS`): a wrong clock, and shorter waits.

Two settings, read here and nowhere else: `CHAOS_CLOCK_SHIFT_S` is added to the wall clock that the app goes by;
`CHAOS_TIME_SCALE` divides the time-out of a Mailchimp call, the waits of the back-off, the times by which the pace of
an account is found, and how long contacts at whom Mailchimp hangs are searched for. So an outage of ten minutes lasts
half a minute at a scale of 20 and is met by as many tries as the long one. Everything else takes its real time: leases,
storage, the time budget of lanes. The monotonic clock is that of the machine, as it is for every process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from shared import bootstrap
from shared.exports import backoff, lanes, pace, troubled

CLOCK_SHIFT: Final = "CHAOS_CLOCK_SHIFT_S"
TIME_SCALE: Final = "CHAOS_TIME_SCALE"
READ_TIMEOUT_S: Final = 130.0
"""How long the product waits for a reply of Mailchimp, which itself gives up after 120 s."""

_SCALED: Final[Mapping[object, tuple[str, ...]]] = {
    backoff: ("_FIRST_S", "_LONGEST_S", "_IN_PLACE_S"),
    pace: ("_LONGEST_CALL_S", "_CALL_ITSELF_S", "_BETWEEN_OPENINGS", "_FORGIVEN_AFTER"),
    lanes: ("_TAKE_OVER_AFTER_S",),
    troubled: ("_LONGEST_S",),
}


def disguise(environment: Mapping[str, str]) -> None:
    """Put the surroundings in place, for products that are made from now on.

    Raises AttributeError where the product no longer has what is replaced here: a campaign would test something else
    than it says.
    """
    shift = timedelta(seconds=float(environment.get(CLOCK_SHIFT) or 0))
    scale = float(environment.get(TIME_SCALE) or 1)
    _replace(bootstrap, "Surroundings", lambda made: partial(made, now=partial(_shifted, shift)))
    _replace(bootstrap, "MailchimpClient", lambda made: partial(made, read_timeout_s=READ_TIMEOUT_S / scale))
    for module, names in _SCALED.items():
        for name in names:
            _replace(module, name, lambda time: time / scale)


def _shifted(shift: timedelta) -> datetime:
    return datetime.now(UTC) + shift


def _replace(module: object, name: str, change: Callable[[Any], Any]) -> None:
    setattr(module, name, change(getattr(module, name)))


if os.environ.get(TIME_SCALE):
    disguise(os.environ)
