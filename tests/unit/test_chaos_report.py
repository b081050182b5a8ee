"""The report of the fault campaign: what was injected, what was survived, and how to repeat what failed."""

from __future__ import annotations

import io
from typing import Any

import pytest

from dev.chaos import report
from dev.chaos.__main__ import ENDURANCE_EXPORTS, SCENARIOS, parse_arguments
from dev.terminal import Terminal


def run(seed: int, *, passed: bool, **injected: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "members": 1000,
        "scenario": {"ending": None},
        "export": {"status": "Successful", "seconds": 12.5},
        "injected": injected,
        "requestsOfStorage": 500,
        "callsOfMailchimp": 20,
        "checks": [{"promise": "the books balance", "passed": passed, "detail": "1 and 2"}],
        "passed": passed,
    }


def test_faults_count_as_survived_where_every_promise_was_kept() -> None:
    document = report.campaign([run(1, passed=True, kill=2, reset=3), run(2, passed=False, kill=5)], None)
    assert document["injected"] == {
        "kill": {"injected": 7, "survived": 2, "exports": 2},
        "reset": {"injected": 3, "survived": 3, "exports": 1},
    }
    assert document["promises"] == {"the books balance": {"checked": 2, "kept": 1}}
    assert (document["seeds"], document["members"], document["passed"]) == ([1, 2], 2000, False)


def test_the_tables_name_each_broken_promise_with_its_seed() -> None:
    document = report.campaign([run(1, passed=True, kill=2), run(2, passed=False, kill=5)], None)
    shown = io.StringIO()
    report.show(document, Terminal(shown))
    assert "seed 2: broken: the books balance: 1 and 2" in shown.getvalue()
    assert "seed 1: broken" not in shown.getvalue()
    assert "| kill | 7 | 2 | 2 |" in report.markdown(document)


def test_a_seed_runs_alone_and_without_one_the_whole_campaign_does() -> None:
    alone = parse_arguments(["--seed", "7"])
    assert (alone.seeds, alone.endurance) == ([7], False)
    whole = parse_arguments([])
    assert (len(whole.seeds), whole.endurance) == (SCENARIOS, True)
    assert parse_arguments(["--from", "20", "--scenarios", "2"]).seeds == [20, 21]
    assert ENDURANCE_EXPORTS > 2


@pytest.mark.parametrize("arguments", [["--members", "10"], ["--scenarios", "0"]])
def test_a_campaign_without_anything_to_do_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
