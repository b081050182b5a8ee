"""Runs one scenario from an empty stack to the verdict."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from dev.chaos import mailchimp, verdict
from dev.chaos.exports import (
    rejected_profiles,
    set_up_destination,
    start_export,
    summary,
    wait_for_end,
    wait_until_tidy,
)
from dev.chaos.people import COLUMNS, MERGE_FIELDS, make_people
from dev.chaos.processes import NoAnswer, Processes
from dev.chaos.scenario import Event, Scenario
from dev.chaos.system import sample
from dev.chaos.verdict import AUDIENCE, Check
from dev.sandbox.control import API_KEY
from shared.exports.model import MEMBERS_PER_BATCH

_SWEEP_EVERY_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.3
_PATIENCE_S: Final = 900.0
_BASE_LATENCY_MS: Final = 50
_HANGING_AT_ONCE: Final = 2
_FEW: Final = 20
_LAYERS: Final = ("ended", "outage", "poison", "hanging", "passing", "lasting")
"""Of the faults that fit a call the first one strikes. Poison goes before what passes: it is never applied."""
_OF_PEOPLE: Final = ("poison", "lasting")


@dataclass(slots=True)
class Seen:
    """What was seen while an export ran. Times are those of the sandbox, in seconds since 1970."""

    export: dict[str, Any] = field(default_factory=dict)
    statuses_in_outage: set[str] = field(default_factory=set)
    outage_lasted_s: float = 0
    ended_early_at: float | None = None


class Run:
    """One scenario that is running."""

    def __init__(self, scenario: Scenario, tell: Callable[[str], None]) -> None:
        self._scenario = scenario
        self._tell = tell
        self._random = Random(f"run {scenario.seed}")
        self._people = make_people(scenario.seed, scenario.members, clean=scenario.is_clean)
        self._lock = threading.RLock()
        self._layers: dict[str, list[dict[str, Any]]] = {}
        self._over = threading.Event()
        self._seen = Seen()
        self._in_outage = False
        self._moments: Counter[str] = Counter()

    def run(self) -> dict[str, Any]:
        """Everything; returns the document of the report. Raises StackError."""
        scenario, began = self._scenario, time.monotonic()
        clocks, lanes = scenario.host_clocks, scenario.lanes
        with Processes(scenario.seed, clocks, lanes, scale=scenario.scale, name=f"chaos-{scenario.seed}") as processes:
            before = sample(processes.serving)
            checks, later = [], None
            try:
                destination = self._set_up(processes)
                export_id = self._export(processes, destination)
                checks = self._judge(processes, export_id)
                later = self._later(processes, destination, checks)
            except NoAnswer as error:
                checks.append(Check("every export ends", passed=False, detail=str(error)))
            else:
                checks.append(Check("every export ends", passed=True))
            after = sample(processes.serving)
            checks += [verdict.logs(processes.logs(), (API_KEY,)), verdict.sizes(after)]
            return {
                "seed": scenario.seed,
                "members": scenario.members,
                "scenario": scenario.document(),
                "seconds": round(time.monotonic() - began, 1),
                "export": summary(self._seen.export),
                "laterExport": summary(later) if later else None,
                "injected": self._injected(processes),
                "requestsOfStorage": processes.proxy.passed + sum(processes.proxy.struck.values()),
                "callsOfMailchimp": sum(processes.sandbox.state()["calls"].values()),
                "hosts": {"before": [each.document() for each in before], "after": [each.document() for each in after]},
                "checks": [check.document() for check in checks],
                "passed": all(check.passed for check in checks),
            }

    # -- set-up --------------------------------------------------------------------------------------------------

    def _set_up(self, processes: Processes) -> str:
        """Segments, audience and destination, before anything fails; returns the destination's path."""
        sandbox, scenario = processes.sandbox, self._scenario
        sandbox.add_audience("Chaos", id=AUDIENCE, mergeFields=list(MERGE_FIELDS))
        sandbox.add_contacts(self._people.preload(), AUDIENCE)
        sandbox.change_settings(
            latencyBaseMs=_BASE_LATENCY_MS,
            latencyPerMemberMs=scenario.call_latency_ms / MEMBERS_PER_BATCH,
            tagsReachExisting=scenario.tags_reach_existing,
        )
        processes.stack.upload_segments(self._people.segments, columns=COLUMNS)
        return set_up_destination(processes, AUDIENCE, API_KEY)

    # -- the export ----------------------------------------------------------------------------------------------

    def _export(self, processes: Processes, destination: str) -> str:
        scenario = self._scenario
        self._layers["passing"] = mailchimp.passing(scenario.mailchimp)
        self._layers |= {"poison": list(mailchimp.POISON), "lasting": mailchimp.lasting(scenario.scale)}
        self._put_faults(processes)
        processes.proxy.arm(scenario.storage)
        export_id = start_export(processes, destination, "first")
        with ThreadPoolExecutor(16, thread_name_prefix="chaos") as pool:
            try:
                self._drive(processes, export_id, pool)
            finally:
                self._over.set()
        self._layers = {name: self._layers[name] for name in _OF_PEOPLE}
        self._put_faults(processes)
        processes.proxy.disarm()
        return export_id

    def _drive(self, processes: Processes, export_id: str, pool: ThreadPoolExecutor) -> None:
        """Let things happen until the export has ended."""
        started, swept = time.monotonic(), 0.0
        waiting, pending = list(self._scenario.events), list[Future[None]]()
        ending = self._scenario.ending is not None
        watcher = pool.submit(self._watch, processes, export_id)
        sweeping: Future[None] | None = None
        while not watcher.done():
            if time.monotonic() - started > _PATIENCE_S:
                raise NoAnswer(f"the export is still {self._seen.export.get('status')} after {_PATIENCE_S:.0f} s")
            done = self._share_done(processes)
            if ending and done >= self._scenario.ending_at:
                ending, waiting = False, []
                self._end_early(processes)
            for event in [event for event in waiting if event.at <= done]:
                waiting.remove(event)
                pending.append(pool.submit(self._after, event, processes))
            for future in [future for future in pending if future.done()]:
                pending.remove(future)
                future.result()
            if time.monotonic() - swept > _SWEEP_EVERY_S and (sweeping is None or sweeping.done()):
                swept, sweeping = time.monotonic(), pool.submit(processes.sweep)
            self._tell(f"  seed {self._scenario.seed}: {self._seen.export.get('status', '')}, {100 * done:.0f} % sent")
            time.sleep(_LOOK_EVERY_S)
        self._over.set()
        watcher.result()
        for future in pending:
            future.result()

    def _watch(self, processes: Processes, export_id: str) -> None:
        while not self._over.is_set():
            self._seen.export = processes.document("GET", f"/api/exports/{export_id}")
            if self._in_outage:
                self._seen.statuses_in_outage.add(self._seen.export["status"])
            if self._seen.export["ended"]:
                return
            self._over.wait(_LOOK_EVERY_S)

    def _share_done(self, processes: Processes) -> float:
        """Which share of the members the audience has been sent, from 0 to 1; repeated calls count again."""
        for account in processes.sandbox.state()["accounts"]:
            for audience in account["audiences"]:
                if audience["id"] == AUDIENCE:
                    return min(1.0, float(sum(audience["batchTotals"].values())) / self._scenario.members)
        return 1.0

    # -- what happens --------------------------------------------------------------------------------------------

    def _after(self, event: Event, processes: Processes) -> None:
        if not self._over.wait(event.after_s) and "ended" not in self._layers:
            self._happen(event, processes)

    def _happen(self, event: Event, processes: Processes) -> None:
        match event.kind:
            case "host killed":
                processes.kill_host()
            case "host stopped":
                processes.stop_host()
            case "host frozen":
                processes.freeze_host()
            case "host added":
                processes.add_host(processes.any_clock())
                self._moments["host added"] += 1
            case "Azurite restarted":
                processes.restart_azurite()
            case "lease broken":
                processes.break_lease()
            case "outage":
                self._outage(event.detail, processes)
            case "replies that hang":
                self._set_layer("hanging", [mailchimp.hanging(self._scenario.scale, _HANGING_AT_ONCE)], processes)
            case "people leave" | "people tagged by hand":
                self._touch_people(event, processes)

    def _touch_people(self, event: Event, processes: Processes) -> None:
        with self._lock:
            if "ended" in self._layers:
                return  # the audience may be gone
            touch = self._people.leave if event.kind == "people leave" else self._people.tag_by_hand
            processes.sandbox.add_contacts(touch(self._random, _FEW), AUDIENCE)
        self._moments[event.kind] += _FEW

    def _outage(self, kind: str, processes: Processes) -> None:
        self._set_layer("outage", [mailchimp.outage(kind)], processes)
        began, self._in_outage = time.monotonic(), True
        self._over.wait(self._scenario.outage_s / self._scenario.scale)
        self._in_outage = False
        self._seen.outage_lasted_s = time.monotonic() - began
        self._moments["outages"] += 1
        self._set_layer("outage", [], processes)

    def _end_early(self, processes: Processes) -> None:
        """What ends the export; nothing else fails from here on, so that what follows can be counted."""
        self._in_outage = False
        processes.proxy.disarm()
        with self._lock:
            self._layers = {"ended": [], **{name: self._layers[name] for name in _OF_PEOPLE}}
            match self._scenario.ending:
                case "key revoked":
                    processes.sandbox.revoke(API_KEY)
                case "audience deleted":
                    processes.sandbox.delete_audience(AUDIENCE)
                case _:
                    self._layers["ended"] = [mailchimp.RESTRICTED]
            self._put_faults(processes)
        self._seen.ended_early_at = time.time()
        self._moments[str(self._scenario.ending)] += 1

    def _set_layer(self, name: str, faults: list[dict[str, Any]], processes: Processes) -> None:
        with self._lock:
            if "ended" in self._layers:
                return
            self._layers[name] = faults
        self._put_faults(processes)

    def _put_faults(self, processes: Processes) -> None:
        """Tell the sandbox; setting faults anew starts their counts anew, so calls that have hung hang no more."""
        with self._lock:
            hung = processes.sandbox.state()["faults"].get(mailchimp.HANGING, 0)
            if hung:
                self._layers["hanging"] = []
            processes.sandbox.set_faults(*(fault for layer in _LAYERS for fault in self._layers.get(layer, ())))

    # -- afterwards ----------------------------------------------------------------------------------------------

    def _judge(self, processes: Processes, export_id: str) -> list[Check]:
        scenario, seen = self._scenario, self._seen
        self._rejected = rejected_profiles(processes, export_id)
        facts = verdict.Facts(
            scenario=scenario,
            people=self._people,
            export=seen.export,
            rejected=self._rejected,
            contacts={contact["email_address"].lower(): contact for contact in processes.sandbox.members(AUDIENCE)},
            calls=processes.sandbox.calls(),
            max_open_calls=processes.sandbox.state()["maxOpenCalls"],
            is_lease_taken=bool(processes.hit["lease broken"] or processes.hit["host frozen"]),
            ended_early_at=seen.ended_early_at,
            statuses_in_outage=seen.statuses_in_outage,
            outage_lasted_s=seen.outage_lasted_s,
        )
        return [*verdict.judge(facts), wait_until_tidy(processes, seen.export)]

    def _later(self, processes: Processes, destination: str, checks: list[Check]) -> dict[str, Any] | None:
        """Where somebody was given up, or the export ended early: what was in the way is put right, and another export
        has to bring everybody."""
        scenario = self._scenario
        if self._seen.ended_early_at is not None and scenario.ending == "audience deleted":
            return None
        unsure = verdict.given_up(self._people, self._rejected) or self._seen.export["untagged"]
        if self._seen.ended_early_at is None and not unsure:
            return None
        if self._seen.ended_early_at is not None and scenario.ending == "key revoked":
            key = processes.sandbox.add_key()
            processes.document("PUT", f"{destination}/api-key", {"apiKey": key})
        self._layers.pop("ended", None)
        self._put_faults(processes)
        processes.sandbox.change_settings(latencyBaseMs=_BASE_LATENCY_MS, latencyPerMemberMs=0)
        export_id = start_export(processes, destination, "later")
        export = wait_for_end(processes, export_id, _PATIENCE_S)
        contacts = {contact["email_address"].lower(): contact for contact in processes.sandbox.members(AUDIENCE)}
        checks += verdict.later(scenario, self._people, export, contacts)
        return export

    def _injected(self, processes: Processes) -> dict[str, int]:
        """Everything that struck, by name."""
        struck = processes.proxy.struck + processes.hit + self._moments
        return dict(sorted((struck + Counter(processes.sandbox.state()["faults"])).items()))


def run_scenario(scenario: Scenario, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run one scenario; the document of the report. Raises StackError."""
    return Run(scenario, tell).run()
