"""The packages that the app needs: named, locked, permitted, explained, and the ones that the tests run with."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from dev.packaging import audit, page
from dev.packaging.imports import app_sources, imported_modules, owners_of_modules, package_of
from dev.packaging.licences import REVIEWED, licence_of, objection_to
from dev.packaging.requirements import LOCK, PROJECT, Locked, locked_for, read_lock, read_requirements
from dev.packaging.wheels import AZURE

PYTHONS = ("3.11", "3.12", "3.13")

NOT_IMPORTED = {"tzdata": "the standard library's zoneinfo reads it"}
"""Packages of requirements.txt that no line of code names, and who uses them."""

MADE_BY = 'run "make lock"'


def python(number: str) -> dict[str, str]:
    return {"python_version": number, "python_full_version": f"{number}.9"}


def unnamed(files: list[Path]) -> dict[str, str]:
    """Imports that requirements.txt does not name, with the file that has them."""
    owners, named = owners_of_modules(), {one.name for one in read_requirements()}
    return {
        module: sorted(path.name for path in paths)[0]
        for module, paths in imported_modules(files).items()
        if package_of(module, owners) not in named
    }


# -- requirements.txt --------------------------------------------------------------------------------------------------


def test_every_import_of_the_app_is_named_in_the_requirements() -> None:
    assert unnamed(app_sources()) == {}, "name the package in requirements.txt, with its reason"


@pytest.mark.parametrize(
    "line",
    [
        "import uvicorn",
        "from pytest import fixture",
        "import dev.stack",
        "def late() -> None:\n    from werkzeug.routing import Map",
        "import azure.functions_runtime_nobody_has",
    ],
)
def test_an_import_that_is_not_named_is_noticed(tmp_path: Path, line: str) -> None:
    file = tmp_path / "new.py"
    file.write_text(f"import json, pydantic\nfrom azure.storage import blob\n{line}\n", encoding="utf-8")
    (found,) = unnamed([file]).items()
    assert found[0].split(".")[0] in line
    assert found[1] == "new.py"


def test_every_package_of_the_requirements_is_imported() -> None:
    owners = owners_of_modules()
    used = {package_of(module, owners) for module in imported_modules(app_sources())}
    unused = {one.name for one in read_requirements()} - used
    assert unused == set(NOT_IMPORTED), "a package that nothing imports does not belong in requirements.txt"


def test_a_requirement_without_a_reason_is_refused(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# Packages\nrequests>=2,<3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"does not say why it has 'requests>=2,<3'"):
        read_requirements(tmp_path / "requirements.txt")


# -- requirements.lock -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", PYTHONS)
def test_the_lock_has_one_version_of_each_requirement_and_it_fits(number: str) -> None:
    locked = locked_for(python(number))
    versions = {one.name: one.version for one in locked}
    assert len(versions) == len(locked), "a package is locked twice"
    for wanted in read_requirements():
        assert wanted.name in versions, f"{wanted.name}: {MADE_BY}"
        assert versions[wanted.name] in wanted.versions, f"{wanted.name}: {MADE_BY}"


@pytest.mark.parametrize("number", PYTHONS)
def test_nothing_is_locked_that_nobody_needs(number: str) -> None:
    locked = locked_for(python(number))
    wanted = {one.name for one in read_requirements()}
    assert {one.name for one in locked if one.wanted} == wanted, MADE_BY
    reached, names = set(wanted), {one.name for one in locked}
    for _ in locked:
        reached |= {one.name for one in locked if reached & set(one.needed_by)}
    assert names == reached, MADE_BY


def test_all_that_a_locked_package_asks_for_is_locked_too() -> None:
    here = {one.name: one for one in locked_for({})}
    missing = [
        f"{name} needs {requirement}"
        for name in here
        for text in requires(name) or ()
        if (requirement := Requirement(text)).marker is None or requirement.marker.evaluate({"extra": ""})
        if (found := here.get(canonicalize_name(requirement.name))) is None
        or found.version not in requirement.specifier
    ]
    assert missing == []


def test_every_locked_version_has_checksums_and_no_address() -> None:
    assert all(one.hashes for one in read_lock())
    text = LOCK.read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*--?(i|index-url|extra-index-url|f|find-links)\b", text, re.MULTILINE)


def test_the_tests_run_with_the_versions_that_are_deployed() -> None:
    installed = {one.name: Version(version(one.name)) for one in locked_for({})}
    assert installed == {one.name: one.version for one in locked_for({})}, "run make once: it installs what is locked"


# -- licences and the page ---------------------------------------------------------------------------------------------


def test_every_licence_is_permitted() -> None:
    objections = [objection_to(one.name, licence_of(one.name)) for one in AZURE.packages()]
    assert [objection for objection in objections if objection] == []


def test_every_exception_is_still_deployed() -> None:
    assert set(REVIEWED) <= {one.name for one in AZURE.packages()}


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "MIT AND GPL-2.0-or-later", "unknown", "LGPL-2.1 OR SSPL-1.0"])
def test_a_licence_that_asks_for_more_is_refused(licence: str) -> None:
    objection = objection_to("requests", licence)
    assert objection == f"requests is under {licence}, which is not on the list of permissive licences"


@pytest.mark.parametrize("licence", ["MIT", "GPL-2.0-only OR MIT", "(Apache-2.0 AND MIT) OR GPL-3.0-only"])
def test_a_choice_of_licences_is_permitted_by_one_that_is(licence: str) -> None:
    assert objection_to("requests", licence) is None


def test_an_exception_is_for_the_licence_that_was_reviewed() -> None:
    assert objection_to("certifi", "MPL-2.0") is None
    assert objection_to("certifi", "AGPL-3.0") == "certifi was reviewed as MPL-2.0 and is now AGPL-3.0"


def test_a_package_that_is_not_installed_has_no_known_licence() -> None:
    with pytest.raises(PackageNotFoundError):
        licence_of("nobody-has-this-package")


def test_the_page_lists_what_is_deployed() -> None:
    text = (PROJECT / "docs/dependencies.md").read_text(encoding="utf-8")
    assert text == page.render(AZURE.packages()), MADE_BY


def test_the_page_changes_with_version_licence_and_reason() -> None:
    packages = AZURE.packages()
    newer = [one if one.name != "requests" else _newer(one) for one in packages]
    assert page.render(packages) != page.render(newer)
    assert "| requests | 99.0 | Apache-2.0 | calls Mailchimp" in page.render(newer)


def _newer(one: Locked) -> Locked:
    return Locked(one.name, Version("99.0"), one.marker, one.hashes, one.needed_by, one.wanted)


# -- known weaknesses --------------------------------------------------------------------------------------------------

CLEAN: dict[str, Any] = {"name": "requests", "version": "2.34.2", "vulns": []}
WEAK: dict[str, Any] = {
    "name": "urllib3",
    "version": "2.8.0",
    "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["2.8.1"]}, {"id": "PYSEC-2026-2", "fix_versions": []}],
}
UNKNOWN: dict[str, Any] = {"name": "duckdb", "skip_reason": "Dependency not found on PyPI"}


def test_a_known_weakness_fails_the_audit_and_says_what_mends_it() -> None:
    code, text = audit.judge({"dependencies": [CLEAN, WEAK]})
    assert code == 1
    assert "urllib3 2.8.0: PYSEC-2026-1, mended in 2.8.1" in text
    assert "urllib3 2.8.0: PYSEC-2026-2, mended in no version" in text
    assert "2 of 2 packages were checked, 1 have a known weakness." in text


def test_an_index_without_advisories_is_not_taken_for_a_clean_bill() -> None:
    code, text = audit.judge({"dependencies": [UNKNOWN]})
    assert (code, text) == (0, "Nothing was checked: the package index in reach publishes no advisories.")


def test_what_was_not_checked_is_named() -> None:
    code, text = audit.judge({"dependencies": [CLEAN, UNKNOWN]})
    assert code == 0
    assert "1 of 2 packages were checked, 0 have a known weakness.\nNot checked: duckdb." in text


def test_an_audit_without_a_network_says_so_and_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "pip-audit"
    program.write_text("#!/bin/sh\necho 'Max retries exceeded' >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(audit, "tool", lambda _: program)
    monkeypatch.setattr(audit, "LISTING", tmp_path / "audit.txt")
    assert audit.main() == 0
    assert capsys.readouterr().out.startswith("Nothing was checked: the package index could not be asked.")
