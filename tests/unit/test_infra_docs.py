"""The administrator's pages agree with the templates and the tests: alerts, state, commands, links, promises."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

from shared.storage import names
from shared.telemetry import instruments
from tests.unit.infra_support import INFRA, ROOT, dig, load
from tests.unit.log_events import logged_events

DOCS = ROOT / "docs"
PAGES = ("deploying.md", "operations.md", "security.md", "cost.md")
LINKING = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
MARKS = ("**[ran]**", "**[parsed]**", "**[unchecked]**")

every_page = pytest.mark.parametrize("page", PAGES)


@cache
def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


@cache
def all_tests() -> frozenset[str]:
    """Names of all tests, also of those in classes."""
    return frozenset(
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its head."""
    below = text_of(page).split(f"\n## {heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\|\n)+", below, re.MULTILINE)
    assert lines
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[0].splitlines()[2:]]


def test_every_alert_is_explained_and_no_other() -> None:
    alerts = load(INFRA / "modules" / "alerts.bicep").variables["rules"]
    assert isinstance(alerts, list)
    wanted = {(str(dig(one, "title")), f"`{dig(one, 'name')}`", str(dig(one, "severity"))) for one in alerts}
    table = rows("operations.md", "Alerts")
    assert {tuple(cells[:3]) for cells in table} == wanted
    assert all(len(cells) == 5 and len(cells[3]) > 20 and len(cells[4]) > 20 for cells in table)


def test_an_alert_leads_to_a_heading_that_exists() -> None:
    alerts = load(INFRA / "modules" / "alerts.bicep").variables["rules"]
    assert isinstance(alerts, list)
    for one in alerts:
        page, heading = re.findall(r'See docs/(\S+), "([^"]+)"', str(dig(one, "description")))[0]
        assert f"\n## {heading}\n" in text_of(page)


def test_every_part_of_the_state_is_backed_up_or_left_out_on_purpose() -> None:
    source = Path(names.__file__).read_text(encoding="utf-8")
    parts = set(re.findall(r'(?:_PREFIX: Final = |return f)"([a-z-]+)/', source)) | {
        names.SCHEDULE,
        names.SCHEDULE_RUNS,
    }
    table = " ".join(cell for cells in rows("operations.md", "Back up and restore") for cell in cells)
    named = set(re.findall(r"`([a-z-]+)/`", table)) | set(re.findall(r"`([a-z-]+\.json)`", table))
    assert parts - {"secrets"} == named  # local secrets; in Azure they are in the vault
    (copied,) = re.findall(r'--include-path "([^"]+)"', text_of("operations.md"))
    kept = {
        cell
        for cells in rows("operations.md", "Back up and restore")
        if not cells[3].startswith("no")
        for cell in cells
    }
    assert set(copied.split(";")) == {name for name in named if any(f"`{name}" in cell for cell in kept)}
    for container in set(names.CONTAINERS) - {names.STATE_CONTAINER}:
        assert f"container `{container}`" in table


@every_page
def test_every_block_of_commands_says_what_was_done_with_it(page: str) -> None:
    before = re.findall(r"([^\n]*)\n\n?```(?:sh|kusto)\n", text_of(page))
    unmarked = [line for line in before if not line.startswith(MARKS)]
    assert unmarked == []
    if before:
        assert "**[parsed]**" in text_of(page).split("\n```", 1)[0], "the marks are explained before the first block"


@every_page
def test_every_test_that_a_page_names_exists(page: str) -> None:
    assert set(re.findall(r"`(test_[a-z0-9_]+)`", text_of(page))) - all_tests() == set()


def test_every_threat_has_an_answer_and_a_test() -> None:
    body = text_of("security.md").split("\n## Threats and answers\n", 1)[1].split("\n## ", 1)[0]
    threats = [line for line in body.splitlines() if line.startswith("| ") and not line.startswith("| threat ")]
    assert len(threats) >= 35
    for line in threats:
        threat, answer, guards = line.strip("|").split(" | ")
        assert len(threat) > 10, line
        assert len(answer) > 10, line
        assert re.fullmatch(r"`test_[a-z0-9_]+`(, `test_[a-z0-9_]+`)*", guards.strip()), line


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose):
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), target
        if anchor:
            text = path.read_text(encoding="utf-8")
            anchors = {anchor_of(line) for line in text.splitlines() if line.startswith("#")}
            assert anchor in anchors | set(re.findall(r'<a (?:id|name)="([^"]+)"', text)), target


def anchor_of(heading: str) -> str:
    text = re.sub(r"[`*]|\[|\]\([^)]*\)", "", heading.lstrip("# ").lower())
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@every_page
def test_placeholders_are_outputs_of_the_deployment_or_explain_themselves(page: str) -> None:
    outputs = set(load(INFRA / "main.bicep").outputs)
    shouted = set(re.findall(r"<([A-Z_]+)>", text_of(page)))
    assert shouted - outputs - {"APP_ID"} == set()


def test_what_is_created_in_storage_is_listed() -> None:
    (row,) = [line for line in text_of("deploying.md").splitlines() if line.startswith("| Storage account |")]
    assert set(re.findall(r"`([a-z]+)`", row)) == {*names.CONTAINERS, *names.QUEUES}


def test_the_roles_that_are_given_are_all_explained() -> None:
    roles = load(INFRA / "modules" / "rbac.bicep").variables["roleOfStorageService"]
    assert isinstance(roles, dict)
    table = text_of("deploying.md")
    for title in ("Storage Blob Data Owner", "Storage Queue Data Contributor", "Storage Table Data Contributor"):
        assert f"| *{title}* |" in table
    assert len(roles) == 3


def number(cell: str) -> float:
    return float(cell.replace(",", ""))


@pytest.mark.parametrize(("heading", "together"), [("One export of a million members", 0.11), ("Each month", 10)])
def test_every_cost_is_its_amount_times_the_price_assumed(heading: str, together: float) -> None:
    prices = {kind: number(price) / number(unit) for kind, price, unit, _ in rows("cost.md", "Prices assumed")}
    costs = [(number(amount) * prices[kind], number(cost)) for _, kind, amount, cost in rows("cost.md", heading)]
    assert [cost for _, cost in costs] == [round(calculated, 4) for calculated, _ in costs]
    digits = 2 if together < 1 else 0
    assert round(sum(cost for _, cost in costs), digits) == together


def test_the_cost_of_a_million_uses_what_was_counted() -> None:
    counted = rows("cost.md", "What was counted, and how")
    assert [cells[0] for cells in counted] == ["10,000", "100,000", "1,000,000"]
    kinds = ("write", "list", "read", "other", "queue", "vault")
    used = {kind: amount for _, kind, amount, _ in rows("cost.md", "One export of a million members")}
    assert dict(zip(kinds, counted[-1][2:], strict=True)) == {kind: used[kind] for kind in kinds}
    assert number(used["compute"]) == number(counted[-1][1]) * 2  # GB


def test_what_the_cost_page_says_of_the_app_holds() -> None:
    alerts = load(INFRA / "modules" / "alerts.bicep").variables["rules"]
    assert isinstance(alerts, list)
    monthly = {kind: amount for _, kind, amount, _ in rows("cost.md", "Each month")}
    assert number(monthly["rule"]) == len(alerts)
    assert len(names.QUEUES) * 2 == 8, "the page speaks of eight queues"
    assert "all eight queues" in text_of("cost.md")
    assert "`batchSize` is 8" in text_of("cost.md")
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    assert host["extensions"]["queues"]["batchSize"] == 8


def test_every_event_and_every_metric_is_explained_and_no_other() -> None:
    text = text_of("operations.md")
    events, figures = (text.partition(f"### {name}\n")[2].partition("\n### ")[0] for name in ("Events", "Figures"))
    rows = re.findall(r"^\| (`[^|]*) \|", events, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == set(logged_events())
    metrics = set(re.findall(r"^\| `([^`]+)` \|", figures, re.MULTILINE))
    assert metrics == {instrument.name for instrument in instruments.ALL}
