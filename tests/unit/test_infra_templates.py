"""The templates hold together: they parse, every name is declared, and every module gets what it asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pycep
import pytest
from tree_sitter import Node

from tests.unit.infra_support import (
    INFRA,
    MAIN,
    ROOT,
    TEMPLATES,
    Expression,
    Module,
    Parameter,
    Template,
    Value,
    broken_places,
    called_functions,
    load,
    member_chains,
    read_template,
    references,
    text_of,
    walk,
)

every_template = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)

BICEP_FUNCTIONS = {
    "concat",
    "contains",
    "empty",
    "environment",
    "guid",
    "map",
    "loadTextContent",
    "replace",
    "resourceGroup",
    "resourceId",
    "split",
    "string",
    "subscription",
    "subscriptionResourceId",
    "tenant",
    "toLower",
    "union",
    "uniqueString",
}
"""Functions the templates use (Azure documentation, "Bicep functions")."""

LIMITS = {"allowed", "minValue", "maxValue", "minLength", "maxLength"}


def modules() -> list[Module]:
    return list(load(MAIN).modules.values())


def parameters_file() -> dict[str, str]:
    document = json.loads((INFRA / "main.parameters.json").read_text(encoding="utf-8"))
    return {name: entry["value"] for name, entry in document["parameters"].items()}


def test_the_templates_are_found() -> None:
    assert {path.stem for path in TEMPLATES} == {
        "main",
        "alerts",
        "auth",
        "functionapp",
        "identity",
        "keyvault",
        "monitoring",
        "network",
        "rbac",
        "segmentsaccess",
        "storage",
        "workbook",
    }


@every_template
def test_the_grammar_reads_every_line(path: Path) -> None:
    assert broken_places(path.read_text(encoding="utf-8")) == []


@every_template
def test_a_second_parser_agrees_on_what_is_declared(path: Path) -> None:
    template = load(path)
    parsed = pycep.BicepParser().parse(text=template.text)
    assert set(parsed.get("parameters", {})) == set(template.parameters)
    assert set(parsed.get("resources", {})) == set(template.resources)
    assert set(parsed.get("modules", {})) == set(template.modules)
    assert set(parsed.get("outputs", {})) == set(template.outputs)


@every_template
def test_every_symbol_used_is_declared(path: Path) -> None:
    template = load(path)
    assert set(references(template.root)) - template.declared == set()


@every_template
def test_every_parameter_and_variable_is_used(path: Path) -> None:
    template = load(path)
    assert {*template.parameters, *template.variables} - set(references(template.root)) == set()


@every_template
def test_only_known_functions_are_called(path: Path) -> None:
    assert called_functions(load(path).root) - BICEP_FUNCTIONS == set()


@every_template
def test_every_parameter_and_output_is_described(path: Path) -> None:
    template = load(path)
    described = {one.name: one.decorators for one in template.parameters.values()}
    described |= {one.name: one.decorators for one in template.outputs.values()}
    assert [name for name, decorators in described.items() if not decorators.get("description")] == []


@every_template
def test_every_number_has_a_limit(path: Path) -> None:
    numbers = [one for one in load(path).parameters.values() if one.type == "int"]
    assert [one.name for one in numbers if not LIMITS & set(one.decorators)] == []


@every_template
def test_every_property_of_a_variable_that_is_read_exists(path: Path) -> None:
    template = load(path)
    missing = [
        chain
        for chain in member_chains(template.root)
        if isinstance(known := template.variables.get(chain[0]), dict) and chain[1] not in known
    ]
    assert missing == []


def test_resources_are_native_and_of_released_api_versions() -> None:
    preview_only = {"Microsoft.Insights/diagnosticSettings"}  # never had another version
    for path in TEMPLATES:
        for resource in load(path).resources.values():
            pattern = r"\d{4}-\d\d-\d\d(-preview)?" if resource.type in preview_only else r"\d{4}-\d\d-\d\d"
            assert re.fullmatch(pattern, resource.api_version), f"{path.stem}: {resource.symbol}"


def test_every_module_exists_and_none_is_left_over() -> None:
    assert {module.path for module in modules()} == {path for path in TEMPLATES if path != MAIN}


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.symbol)
def test_a_module_is_given_what_it_declares_and_all_it_requires(module: Module) -> None:
    declared = load(module.path).parameters
    assert set(module.parameters) - set(declared) == set()
    assert {one.name for one in declared.values() if one.required} - set(module.parameters) == set()


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.symbol)
def test_a_parameter_passed_on_keeps_its_type_and_limits(module: Module) -> None:
    def kind(parameter: Parameter) -> tuple[str, bool, dict[str, Value]]:
        limits = {name: value for name, value in parameter.decorators.items() if name in LIMITS}
        return parameter.type, "secure" in parameter.decorators, limits

    for name, value in module.parameters.items():
        outer = load(MAIN).parameters.get(value.text) if isinstance(value, Expression) else None
        if outer is None:
            continue
        outer_type, outer_secure, outer_limits = kind(outer)
        inner_type, inner_secure, inner_limits = kind(load(module.path).parameters[name])
        assert (inner_type, inner_secure) == (outer_type, outer_secure), name
        assert {limit: outer_limits.get(limit) for limit in inner_limits} == inner_limits, name


def test_every_module_output_that_is_read_is_declared() -> None:
    template = load(MAIN)
    read = [chain for chain in member_chains(template.root) if chain[0] in template.modules]
    assert read != []
    for symbol, section, output, *_ in read:
        assert section == "outputs"
        assert output in load(template.modules[symbol].path).outputs, f"{symbol}.outputs.{output}"


def test_everything_is_deployed_into_the_group_but_the_role_on_segments_elsewhere() -> None:
    template = load(MAIN)
    assert "targetScope = 'subscription'" in template.text
    assert {name for name, one in template.resources.items() if not one.existing} == {"group"}
    scopes = {module.symbol: module.body["scope"] for module in modules()}
    elsewhere = scopes.pop("segmentsAccess")
    assert elsewhere == Expression("resourceGroup(segmentsSubscriptionId, segmentsResourceGroupName)")
    assert set(map(str, scopes.values())) == {str(Expression("group"))}


def test_modules_that_may_be_left_out_are_those_of_the_switches() -> None:
    conditions = dict(re.findall(r"^module (\w+) '[^']+' = if \((.*)\) \{$", load(MAIN).text, re.MULTILINE))
    assert conditions == {
        "alerts": "features.alerts",
        "network": "features.privateNetwork",
        "segmentsAccess": "features.separateSegmentsAccount",
    }


def known_late(template: Template) -> set[str]:
    """Variables that read what only a deployed resource or module tells; its ID and name are known before."""
    declared = {
        text_of(node.named_children[0]): node
        for node in template.root.named_children
        if node.type == "variable_declaration"
    }
    late = {name for name, node in declared.items() if reads_late(template, node)}
    while more := {name for name, node in declared.items() if late & set(references(node))} - late:
        late |= more
    return late


def reads_late(template: Template, node: Node) -> bool:
    deployed = {*template.resources, *template.modules}
    return any(chain[0] in deployed and chain[1] not in {"id", "name"} for chain in member_chains(node))


def decided_at_the_start(node: Node) -> Iterator[Node]:
    """What says whether, how often, where and under which name a resource or a module is deployed."""
    for child in node.named_children:
        match child.type:
            case "for_statement":
                yield child.named_children[1]
                yield from decided_at_the_start(child)
            case "if_statement":
                yield child.named_children[0]
                yield from decided_at_the_start(child)
            case "object":
                yield from (one for one in child.named_children if text_of(one).startswith(("name:", "scope:")))


def late_decisions(template: Template) -> list[str]:
    late = known_late(template)
    return [
        text_of(part)
        for node in template.root.named_children
        if node.type in {"resource_declaration", "module_declaration"}
        for part in decided_at_the_start(node)
        if reads_late(template, part) or late & set(references(part))
    ]


@every_template
def test_names_scopes_conditions_and_loops_are_known_before_anything_is_deployed(path: Path) -> None:
    """The compiler refuses them otherwise (BCP120, BCP178, BCP182)."""
    assert late_decisions(load(path)) == []


@every_template
def test_loops_stand_where_the_language_allows_them(path: Path) -> None:
    """As the whole value of a declaration or of a property, not inside an expression (BCP138)."""
    loops = [node for node in walk(load(path).root) if node.type == "for_statement"]
    places = {loop.parent.type for loop in loops if loop.parent is not None}
    assert places <= {"resource_declaration", "module_declaration", "variable_declaration", "object_property"}


def test_every_file_that_is_loaded_exists_and_none_is_left_over() -> None:
    loaded = {
        (path.parent / name).resolve()
        for path in TEMPLATES
        for name in re.findall(r"loadTextContent\('([^']+)'\)", load(path).text)
    }
    assert loaded == {*(INFRA / "alerts").iterdir(), *(INFRA / "workbooks").iterdir()}


def test_modules_have_unique_deployment_names() -> None:
    names = [str(module.body["name"]) for module in modules()]
    assert len(set(names)) == len(names)


def test_the_parameters_file_offers_every_parameter_once_and_no_other() -> None:
    assert set(parameters_file()) == set(load(MAIN).parameters)


def test_defaults_of_the_parameters_file_are_those_of_the_template() -> None:
    template = load(MAIN)
    parsed = pycep.BicepParser().parse(text=template.text)["parameters"]
    for name, value in parameters_file().items():
        match = re.fullmatch(r"\$\{(?P<variable>[A-Z_]+)(=(?P<default>[^{}]*))?\}", value)
        assert match, f"{name}: {value}"
        if template.parameters[name].required:
            assert match["default"] is None, name
        elif name != "location":  # azd always knows the region
            default = parsed[name]["default"]
            assert match["default"] == (str(default).lower() if isinstance(default, bool) else str(default)), name


def test_no_output_becomes_an_input_of_the_next_deployment() -> None:
    """azd writes outputs into the environment that the parameters file reads."""
    inputs = set(re.findall(r"\$\{([A-Z_]+)", json.dumps(parameters_file())))
    assert inputs & set(load(MAIN).outputs) == set()


def test_the_checks_notice_a_broken_template() -> None:
    assert broken_places("param a string =\nresource {") != []
    template = read_template("param a string\nvar b = concat([a], [c])\nvar d = map([a], e => e)\n", ROOT / "x.bicep")
    assert set(references(template.root)) - template.declared == {"c"}


def test_the_checks_notice_what_is_known_too_late() -> None:
    text = """
resource a 'Microsoft.Web/sites@2024-04-01' existing = {
  name: 'a'
}
var host = a.properties.defaultHostName
var address = 'https://${host}'
resource b 'Microsoft.Web/sites@2024-04-01' = [for one in [ address ]: if (empty(a.properties.state)) {
  name: guid(a.id, address)
  location: host
}]
"""
    assert late_decisions(read_template(text, ROOT / "x.bicep")) == [
        "[ address ]",
        "(empty(a.properties.state))",
        "name: guid(a.id, address)",
    ]
