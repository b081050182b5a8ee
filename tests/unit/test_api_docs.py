"""docs/api.md and the API agree: every call, the text of the consent, and the codes of findings."""

from __future__ import annotations

import re
from pathlib import Path

from shared.destinations import checks, consent
from tests.unit.api_caller import Api

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_page_names_every_call_and_no_other() -> None:
    api = Api()
    paths = api.call("GET", "/api/openapi.json").json["paths"]
    api.close()
    offered = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path)) for path, methods in paths.items() for method in methods
    }
    table = PAGE.split("## Calls")[1].split("## Consent")[0]
    named = set()
    before = ""
    for method, address in re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (\S+?)(?:\?\S*)?`", table):
        path = re.sub(r"\{\w+\}", "{}", address)
        if path.startswith("…"):  # goes on from the call before it, at the part that both share
            first = path[1:].split("/")[1]
            path = (before if first == "{}" else before.rsplit(f"/{first}", 1)[0]) + path[1:]
        named.add((method, path))
        before = path
    assert named == offered


def test_the_page_shows_the_text_that_is_agreed_to() -> None:
    quoted = " ".join(line[2:] for line in PAGE.splitlines() if line.startswith("> "))
    assert quoted == consent.TEXT
    assert f"version {consent.TEXT_VERSION}" in PAGE


def test_the_page_explains_every_finding() -> None:
    source = Path(checks.__file__).read_text(encoding="utf-8")
    codes = set(re.findall(r'Finding\(\s*"(\w+)"', source))
    assert len(codes) >= 6
    assert [code for code in sorted(codes) if f"`{code}`" not in PAGE] == []
