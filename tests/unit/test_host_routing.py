"""Route templates of HTTP triggers."""

from __future__ import annotations

import pytest

from dev.host.routing import Match, NoMatch, Route, Router


def router(*templates: str, methods: frozenset[str] = frozenset()) -> Router:
    return Router(Route.parse(template, template, methods) for template in templates)


@pytest.mark.parametrize(
    ("template", "path", "parameters"),
    [
        ("api/exports", "/api/exports", {}),
        ("api/exports", "/API/Exports/", {}),
        ("api/exports/{id}", "/api/exports/a%20b%2Fc", {"id": "a b/c"}),
        ("api/exports/{id?}", "/api/exports", {}),
        ("api/exports/{id?}", "/api/exports/7", {"id": "7"}),
        ("api/exports/{number:int}", "/api/exports/-7", {"number": "-7"}),
        ("api/exports/{id:guid}", "/api/exports/0f8fad5b-d9cb-469f-a165-70867728950e", None),
        ("api/files/report-{id}.csv", "/api/files/report-7.csv", {"id": "7"}),
        ("api/{*rest}", "/api/a/b/c", {"rest": "a/b/c"}),
        ("api/{*rest}", "/api", {}),
        ("{*route}", "/", {"route": ""}),
        ("{*route}", "/api/health", {"route": "api/health"}),
    ],
)
def test_a_path_matches_its_template(template: str, path: str, parameters: dict[str, str] | None) -> None:
    found = router(template).find("GET", path)
    assert isinstance(found, Match)
    if parameters is not None:
        assert found.parameters == parameters


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("api/exports", "/api/export"),
        ("api/exports/{id}", "/api/exports"),
        ("api/exports/{id}", "/api/exports/1/2"),
        ("api/exports/{number:int}", "/api/exports/x"),
        ("api/exports/{id:guid}", "/api/exports/7"),
    ],
)
def test_other_paths_do_not(template: str, path: str) -> None:
    assert router(template).find("GET", path) == NoMatch(())


@pytest.mark.parametrize(
    ("path", "winner"),
    [
        ("/a/new", "a/new"),
        ("/a/7", "a/{id:int}"),
        ("/a/x", "a/{id}"),
        ("/a/x/y", "a/{*rest}"),
        ("/b", "{*all}"),
    ],
)
def test_the_most_specific_template_wins_whatever_the_order(path: str, winner: str) -> None:
    templates = ("{*all}", "a/{*rest}", "a/{id}", "a/{id:int}", "a/new")
    for order in (templates, templates[::-1]):
        found, alone = router(*order).find("GET", path), router(winner).find("GET", path)
        assert isinstance(found, Match)
        assert found.function == winner
        assert found == alone


def test_methods_are_told_when_only_they_are_wrong() -> None:
    routes = [Route.parse("x", "read", {"GET"}), Route.parse("x", "write", {"PUT", "POST"})]
    assert Router(routes).find("PUT", "/x") == Match("write", {})
    assert Router(routes).find("DELETE", "/x") == NoMatch(("GET", "POST", "PUT"))


@pytest.mark.parametrize("template", ["a/{id:datetime}", "a/{id", "a/{id=5}"])
def test_templates_that_are_not_understood_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match="route"):
        Route.parse(template, "f", ())
