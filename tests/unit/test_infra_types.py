"""Every resource of the templates is what Azure's type for it takes: infra_types.py, which says where that comes from.

A property that the table does not know, a value of another kind or outside the allowed ones, and a required property
that is missing fail here, as Microsoft's compiler would warn and the deployment fail. So does a path of the table that
no template uses. What infra_type_check.py cannot follow is listed below: it comes out of loops over parameters of the
type ``array``. The pattern and the length of a name that is put together from parts are not checked either.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.unit.infra_support import (
    MAIN,
    ROOT,
    TEMPLATES,
    Expression,
    Module,
    Parameter,
    Resource,
    Template,
    load,
    member_chains,
    read_template,
)
from tests.unit.infra_type_check import (
    ANYTHING,
    OF_BICEP,
    Check,
    Reader,
    key_of,
    kind_of,
    misfit,
    readable,
    spec_of,
    specs_of,
    type_of,
)
from tests.unit.infra_types import READABLE, SETTABLE

every_template = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)

NOT_FOLLOWED: Final = {
    "network.privateEndpoints properties.privateLinkServiceConnections[].name",
    "network.privateEndpoints properties.privateLinkServiceConnections[].properties.groupIds[]",
    "network.privateEndpoints properties.privateLinkServiceConnections[].properties.privateLinkServiceId",
    "network.zoneGroups properties.privateDnsZoneConfigs[].name",
    "storage.containers name",
    "storage.queues name",
}


def created(template: Template) -> list[Resource]:
    return [one for one in template.resources.values() if not one.existing]


# -- the templates -------------------------------------------------------------------------------------------------


@every_template
def test_every_resource_sets_what_its_type_takes_and_all_it_requires(path: Path) -> None:
    template = load(path)
    assert [fault for one in created(template) for fault in Check(template, one).faults] == []


def test_the_table_holds_nothing_that_no_template_uses() -> None:
    used: dict[str, set[str]] = {key: set() for key in SETTABLE}
    for path in TEMPLATES:
        for one in created(load(path)):
            used[key_of(one)] |= Check(load(path), one).used
    assert {key: left for key in SETTABLE if (left := specs_of(key).keys() - used[key])} == {}


def test_what_is_not_followed_is_known() -> None:
    found = {one for path in TEMPLATES for it in created(load(path)) for one in Check(load(path), it).not_followed}
    assert found == NOT_FOLLOWED


@every_template
def test_a_resource_that_exists_already_is_named_and_nothing_else(path: Path) -> None:
    known = {key.partition(" ")[0] for key in SETTABLE}
    for one in load(path).resources.values():
        if one.existing:
            assert "name" in one.body
            assert one.body.keys() - OF_BICEP == {"name"}, one.symbol
            assert type_of(one) in known, one.symbol


@every_template
def test_a_part_of_a_resource_stands_below_one_of_its_type(path: Path) -> None:
    resources = load(path).resources
    for one in resources.values():
        above, _, _ = one.type.rpartition("/")
        parent = one.body.get("parent")
        if "/" not in above:
            assert parent is None, one.symbol
        else:
            assert isinstance(parent, Expression), one.symbol
            owner = resources[parent.text.partition("[")[0]]
            assert (owner.type, owner.api_version) == (above, one.api_version), one.symbol


@every_template
def test_only_what_a_resource_has_is_read_of_it(path: Path) -> None:
    template = load(path)
    chains = [chain for chain in member_chains(template.root) if chain[0] in template.resources]
    unknown = [chain for chain in chains if ".".join(chain[1:]) not in readable(template.resources[chain[0]])]
    assert unknown == []


def test_the_table_of_what_is_read_holds_nothing_that_no_template_reads() -> None:
    read = {
        (type_of(template.resources[chain[0]]), ".".join(chain[1:]))
        for template in map(load, TEMPLATES)
        for chain in member_chains(template.root)
        if chain[0] in template.resources
    }
    assert {(key, path) for key, paths in READABLE.items() for path in paths} - read == set()


@every_template
def test_an_output_is_of_the_kind_it_declares(path: Path) -> None:
    template = load(path)
    for output in template.outputs.values():
        kinds = {kind_of(one) for one in Reader(template).possible(output.value)}
        assert kinds == {output.type}, output.name


@pytest.mark.parametrize("module", load(MAIN).modules.values(), ids=lambda module: module.symbol)
def test_a_module_is_given_what_its_parameters_take(module: Module) -> None:
    assert faults_of_parameters(load(MAIN), module, load(module.path).parameters) == []


def faults_of_parameters(template: Template, module: Module, declared: dict[str, Parameter]) -> list[str]:
    reader = Reader(template)
    given = [(name, one) for name, value in module.parameters.items() for one in reader.possible(value)]
    assert ANYTHING not in [one for _, one in given]
    return [f"{name} {fault}" for name, one in given if (fault := misfit(one, spec_of(declared[name])))]


# -- the check itself ----------------------------------------------------------------------------------------------

ACCOUNT = """
param sku string
param place int

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: 'made'
  location: 'westeurope'
  kind: 'StorageV2'
  sku: {
    name: 'Standard_LRS'
  }
  properties: {
    minimumTlsVersion: 'TLS1_2'
    networkAcls: {
      defaultAction: 'Deny'
    }
  }
}
"""


def faults_of(text: str) -> list[str]:
    template = read_template(text, ROOT / "made.bicep")
    return [fault for one in created(template) for fault in Check(template, one).faults]


def test_a_resource_that_fits_has_no_fault() -> None:
    assert faults_of(ACCOUNT) == []


@pytest.mark.parametrize(
    ("written", "instead", "fault"),
    [
        ("minimumTlsVersion", "minimumTlsVerison", "properties.minimumTlsVerison is not known"),
        ("minimumTlsVersion", "MinimumTlsVersion", "properties.MinimumTlsVersion is not known"),
        ("minimumTlsVersion: 'TLS1_2'", "creationTime: 'now'", "properties.creationTime is not known"),
        ("'TLS1_2'", "'TLS12'", "properties.minimumTlsVersion TLS12 is not one of TLS1_0, TLS1_1, TLS1_2, TLS1_3"),
        ("'TLS1_2'", "12", "properties.minimumTlsVersion is int and not string"),
        ("'TLS1_2'", "empty(sku) ? null : 'TLS12'", "properties.minimumTlsVersion TLS12 is not one of TLS1_0, TLS1_1"),
        ("'westeurope'", "place", "location is int and not string"),
        ("'westeurope'", "empty(sku)", "location is bool and not string"),
        ("location: 'westeurope'", "", "location is missing"),
        ("name: 'Standard_LRS'", "", "sku.name is missing"),
        ("defaultAction: 'Deny'", "bypass: 'None'", "properties.networkAcls.defaultAction is missing"),
        ("'Standard_LRS'", "sku", "sku.name Known(kind='string', low=None, high=None) is not one of Premium_LRS"),
        ("'made'", "'my-account'", "name my-account does not match ^[a-z0-9]+$"),
        ("'made'", "'a'", "name 1 to 1 is not within 3 to 24"),
        ("Accounts@2023-05-01", "Accounts@2020-01-01", "storageAccounts@2020-01-01 made is not in the table"),
    ],
)
def test_what_does_not_fit_its_type_is_noticed(written: str, instead: str, fault: str) -> None:
    assert written in ACCOUNT
    (found,) = faults_of(ACCOUNT.replace(written, instead))
    assert fault in found


def test_values_are_followed_to_where_they_come_from() -> None:
    table = """
param days int
@minValue(1)
@maxValue(9999)
param limited int
var rows = [
  { name: 'AppTraces', plan: 'Analytics' }
  { name: 'AppRequests', plan: 'Archive' }
]
resource tables 'Microsoft.OperationalInsights/workspaces/tables@2023-09-01' = [for row in rows: {
  name: row.name
  properties: union({ plan: row.plan }, { retentionInDays: limited })
}]
"""
    assert faults_of(table) == [
        "tables: properties.plan Archive is not one of Analytics, Basic",
        "tables: properties.retentionInDays 1 to 9999 is not within 4 to 730",
    ]


def test_a_name_that_decides_the_type_must_be_written_out() -> None:
    """Or else the compiler warns (BCP225) and checks nothing of the resource."""
    policies = """
resource policies 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = [for kind in [ 'ftp', 'scm' ]: {
  name: kind
  properties: {
    allow: false
  }
}]
"""
    assert faults_of(policies) == ["policies: name is not written out"]
    assert faults_of(policies.replace("name: kind", "name: 'ftp'")) == []


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("'Enabled'", None),
        ("empty(name) ? 'Enabled' : 'Disabled'", None),
        ("'enabled'", "access enabled is not one of Enabled, Disabled"),
        ("name", "access Known(kind='string', low=None, high=None) is not one of Enabled, Disabled"),
        ("empty(name) ? 'Enabled' : null", "access is null and not string"),
        ("['Enabled']", "access is array and not string"),
    ],
)
def test_what_a_parameter_of_a_module_does_not_take_is_noticed(value: str, fault: str | None) -> None:
    inner = read_template("@allowed([ 'Enabled', 'Disabled' ])\nparam access string\n", ROOT / "inner.bicep")
    call = (
        f"param name string\nmodule it 'inner.bicep' = {{\n  name: 'it'\n  params: {{\n    access: {value}\n  }}\n}}\n"
    )
    outer = read_template(call, ROOT / "made.bicep")
    assert faults_of_parameters(outer, outer.modules["it"], inner.parameters) == ([fault] if fault else [])
