"""What is connected with what: identities, networks, workspaces, settings and parameters end where they should.

Each of these parses, names only what is declared and passes every other check when it points to the wrong thing. The
first deployment would show it, or nobody.
"""

from __future__ import annotations

import json
import re

import pytest

from tests.unit.infra_support import INFRA, MAIN, STORAGE_SERVICES, Expression, Value, deployed_settings, dig, load

CONFIG = ("properties", "functionAppConfig")
RULE = ("properties", "criteria", "allOf", 0)
ENTRA = ("properties", "identityProviders", "azureActiveDirectory")

CONNECTIONS: list[tuple[str, str, tuple[str | int, ...], Value]] = [
    ("functionapp", "plan", ("sku",), {"name": "FC1", "tier": "FlexConsumption"}),
    ("functionapp", "plan", ("properties", "reserved"), True),
    ("functionapp", "app", ("properties", "serverFarmId"), Expression("plan.id")),
    ("functionapp", "app", ("properties", "virtualNetworkSubnetId"), Expression("empty(subnetId) ? null : subnetId")),
    ("functionapp", "app", ("identity", "userAssignedIdentities", "${identityId}"), {}),
    (
        *("functionapp", "app", (*CONFIG, "scaleAndConcurrency")),
        {
            "instanceMemoryMB": Expression("instanceMemoryMB"),
            "maximumInstanceCount": Expression("maximumInstanceCount"),
        },
    ),
    (
        *("functionapp", "app", (*CONFIG, "deployment", "storage", "authentication")),
        {"type": "UserAssignedIdentity", "userAssignedIdentityResourceId": Expression("identityId")},
    ),
    ("auth", "auth", ("properties", "globalValidation", "redirectToProvider"), "azureactivedirectory"),
    ("auth", "auth", (*ENTRA, "registration", "clientId"), Expression("entraClientId")),
    ("storage", "account", ("properties", "defaultToOAuthAuthentication"), True),
    ("storage", "account", ("properties", "networkAcls", "bypass"), "None"),
    ("storage", "account", ("sku", "name"), Expression("sku")),
    ("storage", "queues", ("parent",), Expression("queueService")),
    # docs/operations.md, "Back up and restore": a deleted container comes back for seven days
    ("storage", "blobService", ("properties", "containerDeleteRetentionPolicy"), {"enabled": True, "days": 7}),
    ("keyvault", "vault", ("properties", "networkAcls", "bypass"), "AzureServices"),
    ("keyvault", "vault", ("properties", "softDeleteRetentionInDays"), Expression("softDeleteRetentionDays")),
    ("keyvault", "vault", ("properties", "tenantId"), Expression("tenant().tenantId")),
    ("keyvault", "audit", ("scope",), Expression("vault")),
    (
        *("keyvault", "audit", ("properties",)),
        {
            "workspaceId": Expression("logAnalyticsWorkspaceId"),
            "logs": [{"categoryGroup": "audit", "enabled": True}],
        },
    ),
    ("monitoring", "applicationInsights", ("properties", "IngestionMode"), "LogAnalytics"),
    ("monitoring", "applicationInsights", ("properties", "WorkspaceResourceId"), Expression("workspace.id")),
    ("alerts", "alertRules", ("kind",), "LogAlert"),
    ("alerts", "alertRules", ("properties", "enabled"), True),
    ("alerts", "alertRules", ("properties", "autoMitigate"), True),
    ("alerts", "alertRules", ("properties", "severity"), Expression("rule.severity")),
    ("alerts", "alertRules", ("properties", "scopes"), [Expression("workspaceId")]),
    ("alerts", "alertRules", (*RULE, "dimensions"), Expression("rule.dimensions")),
    ("alerts", "actionGroup", ("properties", "enabled"), True),
    ("workbook", "exports", ("name",), Expression("guid(workspaceId, 'exports')")),
    ("workbook", "exports", ("properties", "sourceId"), Expression("workspaceId")),
    (
        *("network", "privateEndpoints", ("properties", "subnet", "id")),
        Expression("'${virtualNetwork.id}/subnets/private-endpoints'"),
    ),
    (
        *("network", "privateEndpoints", ("properties", "privateLinkServiceConnections", 0, "properties")),
        {"privateLinkServiceId": Expression("endpoint.target"), "groupIds": [Expression("endpoint.service")]},
    ),
    (
        *("network", "zoneGroups", ("properties", "privateDnsZoneConfigs", 0, "properties", "privateDnsZoneId")),
        Expression("resourceId('Microsoft.Network/privateDnsZones', zoneOfService[endpoint.service])"),
    ),
    (
        *("network", "zoneLinks", ("properties", "virtualNetwork", "id")),
        Expression("virtualNetwork.id"),
    ),
]


@pytest.mark.parametrize(
    ("module", "resource", "path", "value"),
    CONNECTIONS,
    ids=[f"{module}-{resource}-{path[-1]}" for module, resource, path, _ in CONNECTIONS],
)
def test_a_resource_is_connected_with_what_it_needs(
    module: str, resource: str, path: tuple[str | int, ...], value: Value
) -> None:
    body = load(INFRA / "modules" / f"{module}.bicep").resources[resource].body
    assert dig(body, *path) == value


def test_the_identity_stands_in_for_the_secret_of_the_sign_in() -> None:
    auth = load(INFRA / "modules" / "auth.bicep").resources["auth"].body
    setting = dig(auth, *ENTRA, "registration", "clientSecretSettingName")
    assert deployed_settings()[str(setting)] == Expression("identityClientId")


def test_the_host_reaches_its_storage_with_the_identity() -> None:
    settings = deployed_settings()
    assert {name: settings[name] for name in settings if name.startswith("AzureWebJobsStorage__")} == {
        "AzureWebJobsStorage__accountName": Expression("storageAccountName"),
        "AzureWebJobsStorage__credential": "managedidentity",
        "AzureWebJobsStorage__clientId": Expression("identityClientId"),
    }


def test_every_setting_has_the_value_of_its_own_parameter() -> None:
    given = json.loads((INFRA / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
    variables = {re.sub(r"[${}]|=.*", "", entry["value"]): name for name, entry in given.items()}
    settings = deployed_settings()
    settings["SEGMENTS_STORAGE_ACCOUNT"] = settings.pop("SEGMENTS_STORAGE__accountName")  # azd's name for it
    elsewhere = {"PUBLIC_URL", "MAILCHIMP_CLIENT_SECRET"}  # from the host name of Azure, if empty; from the vault
    shared = {name: settings[name] for name in variables if name in settings and name not in elsewhere}
    assert len(shared) >= 11
    for name, value in shared.items():
        assert isinstance(value, Expression)
        assert re.search(rf"\b{variables[name]}\b", value.text), name
    application = load(INFRA / "modules" / "functionapp.bicep").variables
    assert settings["PUBLIC_URL"] == Expression("appUrl")
    host_name = "'https://${app.properties.defaultHostName}'"
    assert application["appUrl"] == Expression(f"empty(publicUrl) ? {host_name} : publicUrl")


def test_a_parameter_of_a_module_is_given_the_parameter_of_its_name() -> None:
    template = load(MAIN)
    for module in template.modules.values():
        for name in set(module.parameters) & set(template.parameters):
            value = module.parameters[name]
            assert isinstance(value, Expression)
            assert re.search(rf"\b{name}\b", value.text), f"{module.symbol}.{name}"


def test_the_app_comes_after_its_roles_and_into_its_network() -> None:
    app = load(MAIN).modules["functionApp"]
    assert app.body["dependsOn"] == [Expression("rbac")]
    subnet = "features.privateNetwork ? network!.outputs.appSubnetId : ''"
    assert app.parameters["subnetId"] == Expression(subnet)
    assert app.parameters["identityId"] == Expression("identity.outputs.id")
    assert app.parameters["identityClientId"] == Expression("identity.outputs.clientId")
    for symbol in ("rbac", "segmentsAccess"):
        given = load(MAIN).modules[symbol].parameters["principalId"]
        assert given == Expression("identity.outputs.principalId")


def test_an_endpoint_and_its_zone_are_those_of_its_service() -> None:
    network = load(INFRA / "modules" / "network.bicep")
    zones = network.variables["zoneOfService"]
    assert isinstance(zones, dict)
    for service in STORAGE_SERVICES:
        # The name that Azure's public DNS answers with for an account that has a private endpoint.
        assert zones[service] == Expression(f"'privatelink.{service}.${{environment().suffixes.storage}}'")
    assert zones["vault"] == "privatelink.vaultcore.azure.net"
    endpoints = network.variables["storageEndpoints"]
    assert isinstance(endpoints, Expression)
    assert "  service: service\n  target: storageAccountId\n" in endpoints.text
    assert dig(network.variables["vaultEndpoint"], 0, "service") == "vault"
    assert dig(network.variables["vaultEndpoint"], 0, "target") == Expression("keyVaultId")
    assert "service: 'blob'\n    target: segmentsStorageAccountId" in network.text
