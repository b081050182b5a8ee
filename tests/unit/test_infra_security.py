"""What an administrator must be able to rely on, whatever else the templates do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.infra_support import (
    INFRA,
    MAIN,
    ROOT,
    STORAGE_SERVICES,
    TEMPLATES,
    Expression,
    Resource,
    called_functions,
    dig,
    load,
    properties_named,
)

GUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)

ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "Storage Blob Data Reader",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
}
"""The roles the app needs (Azure built-in roles); a further one is a decision to be made here."""

SECRET_SHAPES = {
    "storage key": re.compile(r"AccountKey=|SharedAccessSignature=|[?&]sig="),
    "Mailchimp API key": re.compile(r"[0-9a-f]{32}-us\d+"),
    "base64 key": re.compile(r"[A-Za-z0-9+/]{40,}=="),
    "private key": re.compile(r"-----BEGIN"),
}


def created() -> Iterator[Resource]:
    for path in TEMPLATES:
        yield from (one for one in load(path).resources.values() if not one.existing)


def only(type_name: str) -> Resource:
    (found,) = [one for one in created() if one.type == type_name]
    return found


def test_storage_has_no_shared_keys_no_anonymous_access_and_current_tls() -> None:
    properties = dig(only("Microsoft.Storage/storageAccounts").body, "properties")
    assert dig(properties, "allowSharedKeyAccess") is False
    assert dig(properties, "allowBlobPublicAccess") is False
    assert dig(properties, "allowCrossTenantReplication") is False
    assert dig(properties, "minimumTlsVersion") == "TLS1_2"
    assert dig(properties, "supportsHttpsTrafficOnly") is True


def test_containers_are_private() -> None:
    container = only("Microsoft.Storage/storageAccounts/blobServices/containers")
    assert dig(container.body, "properties", "publicAccess") == "None"


def test_expired_profiles_are_not_kept_by_soft_delete_or_versions() -> None:
    properties = dig(only("Microsoft.Storage/storageAccounts/blobServices").body, "properties")
    assert dig(properties, "deleteRetentionPolicy", "enabled") is False
    assert isinstance(properties, dict)
    assert "isVersioningEnabled" not in properties


def test_the_vault_uses_roles_and_cannot_be_purged() -> None:
    properties = dig(only("Microsoft.KeyVault/vaults").body, "properties")
    assert dig(properties, "enableRbacAuthorization") is True
    assert dig(properties, "enableSoftDelete") is True
    assert dig(properties, "enablePurgeProtection") is True
    assert isinstance(properties, dict)
    assert "accessPolicies" not in properties


def test_telemetry_needs_an_identity() -> None:
    properties = dig(only("Microsoft.Insights/components").body, "properties")
    assert dig(properties, "DisableLocalAuth") is True


def test_the_app_answers_https_only_and_takes_no_passwords_for_deployment() -> None:
    app = dig(only("Microsoft.Web/sites").body, "properties")
    assert dig(app, "httpsOnly") is True
    assert dig(app, "siteConfig", "minTlsVersion") == "1.2"
    storage = dig(app, "functionAppConfig", "deployment", "storage", "authentication")
    assert dig(storage, "type") == "UserAssignedIdentity"
    passwords = [one.body for one in created() if one.type == "Microsoft.Web/sites/basicPublishingCredentialsPolicies"]
    assert {(str(dig(body, "name")), dig(body, "properties", "allow")) for body in passwords} == {
        ("ftp", False),
        ("scm", False),
    }


def test_the_app_has_one_identity_and_it_is_user_assigned() -> None:
    assert dig(only("Microsoft.Web/sites").body, "identity", "type") == "UserAssigned"
    assert len(load(INFRA / "modules" / "identity.bicep").resources) == 1


def test_every_call_is_signed_in_except_the_probe() -> None:
    (auth,) = [one for one in created() if one.body.get("name") == "authsettingsV2"]
    properties = dig(auth.body, "properties")
    assert dig(properties, "platform", "enabled") is True
    assert dig(properties, "httpSettings", "requireHttps") is True
    validation = dig(properties, "globalValidation")
    assert dig(validation, "requireAuthentication") is True
    assert dig(validation, "unauthenticatedClientAction") == "RedirectToLoginPage"
    assert dig(validation, "excludedPaths") == ["/api/health"]
    assert load(MAIN).parameters["entraClientId"].required


def test_callers_are_signed_in_by_this_tenant_for_this_app() -> None:
    (auth,) = [one for one in created() if one.body.get("name") == "authsettingsV2"]
    providers = dig(auth.body, "properties", "identityProviders")
    assert isinstance(providers, dict)
    assert list(providers) == ["azureActiveDirectory"]
    entra = providers["azureActiveDirectory"]
    assert dig(entra, "enabled") is True
    issuer = Expression("'${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'")
    assert dig(entra, "registration", "openIdIssuer") == issuer
    audiences = [Expression("entraClientId"), Expression("'api://${entraClientId}'")]
    assert dig(entra, "validation", "allowedAudiences") == audiences


def test_a_private_network_closes_storage_and_vault_together() -> None:
    modules = load(MAIN).modules
    for symbol in ("storage", "keyVault"):
        closing = Expression("features.privateNetwork ? 'Disabled' : 'Enabled'")
        assert modules[symbol].parameters["publicNetworkAccess"] == closing
    given = [Expression("publicNetworkAccess")] * 2
    assert [value for one in created() for value in properties_named(one.body, "publicNetworkAccess")] == given
    denied = [Expression("publicNetworkAccess == 'Enabled' ? 'Allow' : 'Deny'")] * 2
    assert [value for one in created() for value in properties_named(one.body, "defaultAction")] == denied


def test_only_the_known_roles_are_given() -> None:
    found = {guid.lower() for path in TEMPLATES for guid in GUID.findall(load(path).text)}
    assert found == set(ROLES)


def test_roles_are_given_on_single_resources_to_the_apps_identity() -> None:
    assignments = [one for one in created() if one.type == "Microsoft.Authorization/roleAssignments"]
    assert len(assignments) == 4
    for one in assignments:
        scope = one.body["scope"]
        assert isinstance(scope, Expression)
        properties = dig(one.body, "properties")
        assert dig(properties, "principalType") == "ServicePrincipal"
        assert dig(properties, "principalId") == Expression("principalId")
        definition = dig(properties, "roleDefinitionId")
        assert isinstance(definition, Expression)
        role = definition.text.removesuffix(")").split(", ")[1]
        # The same name every time, or the second deployment fails because the role is there already.
        assert one.body["name"] == Expression(f"guid({scope.text}.id, principalId, {role})")


def test_segments_in_another_account_can_only_be_read_and_only_their_container() -> None:
    template = load(INFRA / "modules" / "segmentsaccess.bicep")
    (role,) = template.resources_of("Microsoft.Authorization/roleAssignments")
    assert role.body["scope"] == Expression("container")
    assert template.resources["container"].existing
    assert list(template.variables.values()) == ["2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_no_template_asks_azure_for_keys(path: Path) -> None:
    template = load(path)
    assert {name for name in called_functions(template.root) if name.startswith("list")} == set()
    assert re.search(r"\blist[A-Z]\w*\(", template.text) is None


def test_no_secret_is_written_into_a_file() -> None:
    files = [path for path in INFRA.rglob("*") if path.is_file()]
    assert len(files) > len(TEMPLATES)
    for path in (*files, ROOT / "azure.yaml", ROOT / "local.settings.json.example"):
        text = path.read_text(encoding="utf-8")
        assert [name for name, shape in SECRET_SHAPES.items() if shape.search(text)] == [], path.name


def test_secret_parameters_are_secure_and_have_no_default_but_nothing() -> None:
    secrets = [
        (path, one)
        for path in TEMPLATES
        for one in load(path).parameters.values()
        if re.search(r"(secret|password|key)$", one.name, re.IGNORECASE)
    ]
    assert {one.name for _, one in secrets} == {"mailchimpClientSecret"}
    for path, one in secrets:
        assert "secure" in one.decorators, path.stem
    assert "param mailchimpClientSecret string = ''" in load(MAIN).text


def test_secret_parameters_go_to_the_vault_and_nowhere_else() -> None:
    receivers = [symbol for symbol, one in load(MAIN).modules.items() if "mailchimpClientSecret" in one.parameters]
    assert receivers == ["keyVault"]
    for path in TEMPLATES:
        for output in load(path).outputs.values():
            assert output.value != Expression("mailchimpClientSecret")
    values = [one.body for one in created() if one.type == "Microsoft.KeyVault/vaults/secrets"]
    assert [dig(body, "properties", "value") for body in values] == [Expression("mailchimpClientSecret")]
    # Without the condition the next deployment without the parameter would empty the secret.
    condition = "'Microsoft.KeyVault/vaults/secrets@2023-07-01' = if (!empty(mailchimpClientSecret))"
    assert condition in load(INFRA / "modules" / "keyvault.bicep").text


def test_everything_that_takes_tags_carries_the_tag_of_its_deployment() -> None:
    assert dig(load(MAIN).variables["tags"], "azd-env-name") == Expression("environmentName")
    tagged = [one for one in created() if "location" in one.body]
    assert len(tagged) >= 12
    for one in tagged:
        tags = one.body.get("tags")
        assert isinstance(tags, Expression), one.symbol
        assert tags.text == "tags" or tags.text.startswith("union(tags, "), one.symbol


def test_private_endpoints_cover_exactly_what_the_app_talks_to() -> None:
    network = load(INFRA / "modules" / "network.bicep")
    zones = network.variables["zoneOfService"]
    assert isinstance(zones, dict)
    assert set(zones) == {*STORAGE_SERVICES, "vault"}
    assert network.variables["zonedServices"] == Expression("concat(storageServices, [ 'vault' ])")
    assert network.variables["endpoints"] == Expression("concat(storageEndpoints, vaultEndpoint, segmentsEndpoint)")
    assert load(MAIN).modules["network"].parameters["storageServices"] == Expression("features.storageServices")
    subnets = dig(network.resources["virtualNetwork"].body, "properties", "subnets")
    delegated = list(properties_named(subnets, "serviceName"))
    assert delegated == ["Microsoft.App/environments"]  # what Flex Consumption asks for


def test_no_address_is_given_in_plain_http() -> None:
    assert [path.stem for path in TEMPLATES if "http://" in load(path).text] == []
