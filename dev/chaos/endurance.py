"""Export after export through the same hosts while calls and requests fail: does anything grow that should not?"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

from dev.chaos import mailchimp, verdict
from dev.chaos.exports import set_up_destination, start_export, wait_for_end
from dev.chaos.people import COLUMNS, MERGE_FIELDS, make_people
from dev.chaos.processes import Processes
from dev.chaos.scenario import TIME_SCALE
from dev.chaos.storage_proxy import ANY_REQUEST, MESSAGES
from dev.chaos.system import Sample, sample
from dev.chaos.verdict import AUDIENCE, Check
from dev.sandbox.control import API_KEY

_LANES: Final = 6
_STORAGE: Final = {**dict.fromkeys((*ANY_REQUEST, *MESSAGES), 0.002), "storage silent": 0}
_EVERY_NTH: Final = (50, 150)
_PATIENCE_S: Final = 600.0
_QUIET_S: Final = 4.0
"""After an export until what it used is given back: idle connections are closed, messages that came twice are read."""
_LOOKS: Final = 15


def _look_again(processes: Processes, samples: list[list[Sample]]) -> None:
    """What has grown for good is still there a minute later; a busy machine takes longer to give the rest back."""
    for _ in range(_LOOKS):
        if all(check.passed for check in verdict.growth(samples)):
            return
        time.sleep(_QUIET_S)
        samples[-1] = sample(processes.serving)


def endure(seed: int, exports: int, members: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """`exports` exports of `members` each through one pair of hosts; the document of the report."""
    random, began = Random(f"endurance {seed}"), time.monotonic()
    people = make_people(seed, members, clean=True)
    samples, statuses = [], []
    with Processes(seed, (0, 0), _LANES, name=f"chaos-endurance-{seed}") as processes:
        sandbox = processes.sandbox
        sandbox.add_audience("Chaos", id=AUDIENCE, mergeFields=list(MERGE_FIELDS))
        sandbox.add_contacts(people.preload(), AUDIENCE)
        processes.stack.upload_segments(people.segments, columns=COLUMNS)
        destination = set_up_destination(processes, AUDIENCE, API_KEY)
        kinds = {kind: random.randint(*_EVERY_NTH) for kind in mailchimp.PASSING}
        for number in range(1, exports + 1):
            sandbox.set_faults(mailchimp.hanging(TIME_SCALE, 1), *mailchimp.passing(kinds))
            processes.proxy.arm(_STORAGE)
            export = wait_for_end(processes, start_export(processes, destination, f"number-{number}"), _PATIENCE_S)
            processes.proxy.disarm()
            statuses.append(export["status"])
            time.sleep(_QUIET_S)
            samples.append(sample(processes.serving))
            sizes = ", ".join(f"{each.memory_mb:.0f} MB, {each.threads} threads" for each in samples[-1])
            tell(f"  export {number} of {exports}: {export['status']}; {sizes}")
        _look_again(processes, samples)
        injected = processes.proxy.struck + Counter(sandbox.state()["faults"])
    ended = set(statuses) <= {"Successful", "CompletedWithErrors"}
    checks = [Check("every export ends", ended, f"{statuses}"), *verdict.growth(samples)]
    return {
        "seed": seed,
        "members": members,
        "exports": exports,
        "seconds": round(time.monotonic() - began, 1),
        "samples": [[each.document() for each in moment] for moment in samples],
        "injected": dict(sorted(injected.items())),
        "checks": [check.document() for check in checks],
        "passed": all(check.passed for check in checks),
    }
