"""A short form of the fault campaign: small exports, the same seeds every time."""

from __future__ import annotations

import pytest

from dev.chaos.endurance import endure
from dev.chaos.run import run_scenario
from dev.chaos.scenario import make_scenario

MEMBERS = 5_000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [6, 8])
def test_a_short_campaign_keeps_every_promise(seed: int) -> None:
    """One scenario to the end, and one that is brought to an end in the middle."""
    result = run_scenario(make_scenario(seed, MEMBERS), lambda _: None)
    assert [check for check in result["checks"] if not check["passed"]] == []
    assert sum(result["injected"].values()) > 50


@pytest.mark.timeout(600)
def test_hosts_do_not_grow_from_export_to_export() -> None:
    result = endure(1, exports=4, members=1000, tell=lambda _: None)
    assert [check for check in result["checks"] if not check["passed"]] == []
