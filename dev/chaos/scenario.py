"""A scenario: everything that is going to happen to one export, drawn from a seed before anything starts.

The same seed and size give the same scenario. What happens when it runs does not repeat exactly: several processes run
at once, and which call or request a fault meets depends on who comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Final, Literal

from dev.chaos.mailchimp import OUTAGES, PASSING
from dev.chaos.storage_proxy import ANY_REQUEST, MESSAGES

TIME_SCALE: Final = 20.0
"""Mailchimp's minutes are this many times shorter (dev/chaos/surroundings.py)."""
OUTAGE_S: Final = 600.0
SHORT_OUTAGE_S: Final = 200.0
LARGE: Final = 50_000
"""Members from which an export is large: more happens to it, and outages take their whole time."""

EventKind = Literal[
    "host killed",
    "host stopped",
    "host frozen",
    "host added",
    "Azurite restarted",
    "lease broken",
    "outage",
    "replies that hang",
    "people leave",
    "people tagged by hand",
]
Ending = Literal["key revoked", "audience deleted", "account restricted"]
ENDINGS: Final[tuple[Ending, ...]] = ("key revoked", "audience deleted", "account restricted")

_HOST_EVENTS: Final[tuple[EventKind, ...]] = ("host killed", "host stopped", "host frozen", "host added")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens when the share `at` of the members is in the audience, and `after_s` seconds more.

    With `at` 0 it is counted from the start of the export, while it is prepared.
    """

    kind: EventKind
    at: float
    after_s: float = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one export has to live through. `host_clocks`: seconds by which the clock of each first host is wrong."""

    seed: int
    members: int
    scale: float
    lanes: int
    host_clocks: tuple[int, ...]
    is_clean: bool
    tags_reach_existing: bool
    call_latency_ms: float
    outage_s: float
    storage: Mapping[str, float]
    mailchimp: Mapping[str, int]
    events: tuple[Event, ...]
    ending: Ending | None
    ending_at: float

    def document(self) -> dict[str, Any]:
        return asdict(self)


def make_scenario(seed: int, members: int) -> Scenario:
    """The scenario of this seed. Every third one is brought to an early end, every fourth has nobody to refuse."""
    random = Random(f"scenario {seed}")
    calls = max(1, members // 500)
    lanes = random.randint(4, 7)  # and two for calls that hang although their client has gone: ten is the limit
    ending = ENDINGS[seed // 3 % len(ENDINGS)] if seed % 3 == 0 else None
    return Scenario(
        seed=seed,
        members=members,
        scale=TIME_SCALE,
        lanes=lanes,
        host_clocks=tuple(random.sample((-30, 30, 0), random.randint(2, 3))),
        is_clean=seed % 4 == 1,
        tags_reach_existing=random.random() < 0.3,
        call_latency_ms=round(min(2000.0, max(300.0, 1000.0 * lanes * random.uniform(15, 30) / calls))),
        outage_s=OUTAGE_S if members >= LARGE else SHORT_OUTAGE_S,
        storage=_storage(random),
        mailchimp=_mailchimp(random, calls),
        events=tuple(_events(random, members)),
        ending=ending,
        ending_at=round(random.uniform(0.2, 0.5), 2),
    )


def _storage(random: Random) -> dict[str, float]:
    """Rates of about half of the kinds: in all some four requests of a hundred, and more of the messages."""
    rates = {kind: round(random.uniform(0.002, 0.01), 4) for kind in ANY_REQUEST if random.random() < 0.5}
    if "storage silent" in rates:
        rates["storage silent"] = 0.0005
    return rates | {kind: round(random.uniform(0.02, 0.1), 3) for kind in MESSAGES if random.random() < 0.7}


def _mailchimp(random: Random, calls: int) -> dict[str, int]:
    """About a third of the kinds, which strike one call in five together: preparing makes six calls without a break.
    The smaller the export, the more often each strikes."""
    chosen = random.sample(sorted(PASSING), random.randint(5, 7))
    low = min(20, max(14, calls // 8))
    return {kind: random.randint(low, 3 * low) for kind in chosen}


def _events(random: Random, members: int) -> Sequence[Event]:
    is_large = members >= LARGE
    count, outage_s = (5, OUTAGE_S) if is_large else (1, SHORT_OUTAGE_S)
    events = [Event(random.choice(_HOST_EVENTS), _moment(random), _delay(random)) for _ in range(count)]
    events.append(
        Event("host killed", 0, round(random.uniform(0.5, 4), 1))
    )  # while it is prepared, if it takes so long
    if random.random() < 0.5:
        events.append(Event("outage", _moment(random), 0, random.choice(sorted(OUTAGES))))
        during = events[-1].at
        events.append(Event("host killed", during, round(random.uniform(2, outage_s / TIME_SCALE), 1)))
    optional: tuple[EventKind, ...] = ("Azurite restarted", "lease broken", "replies that hang")
    events += [Event(kind, _moment(random), _delay(random)) for kind in optional if random.random() < 0.6]
    events += [Event("people leave", _moment(random)), Event("people tagged by hand", _moment(random))]
    return sorted(events, key=lambda event: (event.at, event.after_s))


def _moment(random: Random) -> float:
    return round(random.uniform(0.05, 0.85), 2)


def _delay(random: Random) -> float:
    return round(random.uniform(0, 2), 1)
