"""checkov has read every template, and what it finds is known and has a reason: infra/checkov.toml."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.infra_support import INFRA, ROOT, TEMPLATES, load

CHECKOV = ROOT / ".run/checkov/bin/checkov"
KINDS = ("decided: ", "not on Flex: ", "switch: ", "misread: ")

BROKEN = "param name string\nvar names = map([name], each => each)\n"
"""Bicep that Microsoft's compiler takes and checkov cannot read: it says so and ends with 0."""

OPEN_ACCOUNT = """
resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: 'open'
  location: 'westeurope'
  kind: 'StorageV2'
  sku: {
    name: 'Standard_LRS'
  }
  properties: {
    supportsHttpsTrafficOnly: false
    minimumTlsVersion: 'TLS1_0'
  }
}
"""


@dataclass(frozen=True)
class Scan:
    """What checkov says of a folder: findings as (check, resource), files that it could not read, checks that fell."""

    findings: frozenset[tuple[str, str]]
    unread: Sequence[str]
    fallen: Sequence[str]
    resources: int


def scan(folder: Path) -> Scan:
    assert CHECKOV.exists(), "run 'dev/setup.sh checkov' ('make test' does)"
    command = [
        str(CHECKOV),
        "-d",
        str(folder),
        "--framework",
        "bicep",
        "secrets",
        "--skip-download",
        "--compact",
        "-o",
        "json",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BC_", "CKV_", "CHECKOV"))}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode in {0, 1}, done.stderr[-2000:]
    answer: Any = json.loads(done.stdout)
    reports: list[Any] = answer if isinstance(answer, list) else [answer]
    return Scan(
        frozenset(
            (finding["check_id"], f"{finding['file_path']} {finding['resource']}")
            for report in reports
            for finding in report["results"]["failed_checks"]
        ),
        [Path(path).name for report in reports for path in report["results"]["parsing_errors"]],
        [line for line in done.stderr.splitlines() if "Failed to run check" in line],
        sum(report["summary"]["resource_count"] for report in reports),
    )


@pytest.fixture(scope="module")
def ours() -> Scan:
    return scan(INFRA)


@pytest.fixture(scope="module")
def exceptions() -> list[dict[str, str]]:
    found: list[dict[str, str]] = tomllib.loads((INFRA / "checkov.toml").read_text(encoding="utf-8"))["exception"]
    return found


def test_every_template_is_read_and_every_check_gets_to_its_end(ours: Scan) -> None:
    assert (ours.unread, ours.fallen) == ([], [])
    assert ours.resources >= sum(len(load(path).resources) for path in TEMPLATES)


def test_every_finding_is_a_known_exception_and_every_exception_is_still_found(
    ours: Scan, exceptions: list[dict[str, str]]
) -> None:
    known = {(one["check"], one["resource"]) for one in exceptions}
    assert ours.findings - known == set(), "new findings: mend them, or write the reason into infra/checkov.toml"
    assert known - ours.findings == set(), "no longer found: take them out of infra/checkov.toml"
    assert len(known) == len(exceptions)


def test_every_exception_has_a_reason_of_one_of_four_kinds(exceptions: list[dict[str, str]]) -> None:
    for one in exceptions:
        assert one["reason"].startswith(KINDS), one
        assert len(one["reason"].split(": ", 1)[1]) > 20, one


def test_a_file_that_checkov_cannot_read_and_a_new_finding_and_a_key_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "broken.bicep").write_text(BROKEN, encoding="utf-8")
    (tmp_path / "open.bicep").write_text(OPEN_ACCOUNT, encoding="utf-8")
    made_up = "0123456789abcdef" * 2
    (tmp_path / "key.json").write_text(json.dumps({"mailchimp": f"{made_up[::-1]}-us12"}), encoding="utf-8")
    found = scan(tmp_path)
    assert found.unread == ["broken.bicep"]
    assert {("CKV_AZURE_3", "/open.bicep Microsoft.Storage/storageAccounts.account")} <= found.findings
    assert any(check.startswith("CKV_SECRET_") for check, _ in found.findings)
