"""Queues, containers and storage services are those that the code uses; its identity may do what the code does."""

from __future__ import annotations

import ast
import re
from functools import cache

from shared.storage import names
from tests.unit.infra_support import (
    FUNCTION_APP,
    INFRA,
    MAIN,
    ROOT,
    STORAGE_SERVICES,
    Expression,
    Value,
    deployed_settings,
    dig,
    load,
)

# -- queues and containers -----------------------------------------------------------------------------------------


def items_of(expression: Value) -> list[str]:
    """The strings of an array, or of concat(…) over arrays, of main.bicep; its variables are looked up."""
    if isinstance(expression, list):
        return [item for one in expression for item in ([one] if isinstance(one, str) else items_of(one))]
    assert isinstance(expression, Expression), expression
    variables = load(MAIN).variables
    found: list[str] = []
    for literal, name in re.findall(r"'([^'$]*)'|(\w+)", expression.text.removeprefix("concat")):
        value = variables.get(name)
        if literal or isinstance(value, str):
            found.append(literal or str(value))
        elif value is not None and name != "ownSegmentsContainer":  # created only where segments are kept here
            found += items_of(value)
    return found


def test_queues_are_those_of_the_code_and_each_has_a_poison_queue() -> None:
    assert items_of(load(MAIN).modules["storage"].parameters["queueNames"]) == list(names.QUEUES)
    storage = load(INFRA / "modules" / "storage.bicep")
    poisoned = names.poison("${queueName}")
    assert storage.variables["poisonQueueNames"] == Expression(f"[for queueName in queueNames: '{poisoned}']")
    assert storage.variables["allQueueNames"] == Expression("concat(queueNames, poisonQueueNames)")
    assert "[for queueName in allQueueNames: {" in storage.text


def triggered_queues() -> set[str]:
    """Queues that have a function; function_app.py is read, not run."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / "function_app.py").read_text(encoding="utf-8"))):
        match node:
            case ast.keyword(arg="queue_name", value=ast.Name(id=constant)):
                found.add(str(getattr(names, constant)))
            case ast.keyword(
                arg="queue_name", value=ast.Call(func=ast.Name(id="poison"), args=[ast.Name(id=constant)])
            ):
                found.add(names.poison(str(getattr(names, constant))))
    return found


def test_every_queue_has_a_function_and_one_for_its_poison_queue() -> None:
    assert triggered_queues() == {one for queue in names.QUEUES for one in (queue, names.poison(queue))}


def test_containers_are_those_of_the_code_and_the_one_of_the_deployed_package() -> None:
    declared = items_of(load(MAIN).modules["storage"].parameters["containerNames"])
    assert sorted(declared) == sorted([*names.CONTAINERS, "app-package"])
    value = FUNCTION_APP.resources["app"].body
    deployment = dig(value, "properties", "functionAppConfig", "deployment", "storage")
    assert dig(deployment, "value") == Expression("deploymentContainerUrl")
    url = load(MAIN).modules["functionApp"].parameters["deploymentContainerUrl"]
    assert url == Expression("'${storage.outputs.blobEndpoint}${deploymentContainerName}'")


def test_the_state_container_is_that_of_the_code_and_its_runs_expire() -> None:
    variables = load(MAIN).variables
    assert variables["stateContainerName"] == names.STATE_CONTAINER
    assert variables["runsPrefix"] == names.RUNS_PREFIX
    storage = load(MAIN).modules["storage"].parameters
    assert storage["expiringPrefix"] == Expression("'${stateContainerName}/${runsPrefix}'")
    # Later than the app's own expiry, or it takes files from an export that waits for Mailchimp.
    assert storage["expireAfterDays"] == Expression("exportRetentionDays + 7")
    rule = load(INFRA / "modules" / "storage.bicep").resources["expiry"].body
    assert dig(rule, "properties", "policy", "rules", 0, "enabled") is True
    definition = dig(rule, "properties", "policy", "rules", 0, "definition")
    assert dig(definition, "filters", "prefixMatch") == [Expression("expiringPrefix")]
    age = dig(definition, "actions", "baseBlob", "delete", "daysAfterModificationGreaterThan")
    assert age == Expression("expireAfterDays")


def test_the_containers_are_those_of_the_code() -> None:
    variables = load(MAIN).variables
    declared = [variables["stateContainerName"], variables["auditContainerName"]]
    assert declared == list(names.CONTAINERS)
    given = load(MAIN).modules["storage"].parameters["containerNames"]
    assert given == Expression(
        "concat([ stateContainerName, auditContainerName, deploymentContainerName ], ownSegmentsContainer)"
    )


def test_the_audit_log_and_only_that_can_be_made_immutable() -> None:
    given = load(MAIN).modules["storage"].parameters
    assert given["immutableContainerName"] == Expression("auditContainerName")
    assert given["immutabilityDays"] == Expression("auditImmutabilityDays")
    limits = load(MAIN).parameters["auditImmutabilityDays"].decorators
    assert (limits["minValue"], limits["maxValue"]) == (0, 146_000)  # what Azure takes; 0 is ours, for none
    storage = load(INFRA / "modules" / "storage.bicep")
    container, policy = storage.resources["immutableContainer"], storage.resources["immutability"]
    assert container.existing
    assert container.body["name"] == Expression("immutableContainerName")
    assert policy.body["parent"] == Expression("immutableContainer")
    assert dig(policy.body, "properties", "immutabilityPeriodSinceCreationInDays") == Expression("immutabilityDays")
    assert f"{policy.type}@{policy.api_version}' = if (immutabilityDays > 0)" in storage.text


# -- what the identity may do --------------------------------------------------------------------------------------


@cache
def imported_packages() -> set[str]:
    """Dotted names of everything that the deployed code imports."""
    found: set[str] = set()
    for path in (ROOT / "function_app.py", *(ROOT / "shared").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import():
                    found |= {alias.name for alias in node.names}
                case ast.ImportFrom(module=str(module)):
                    found.add(module)
    return found


def called_methods(folder: str) -> set[str]:
    """Names of the methods that the code of a folder calls."""
    return {
        node.func.attr
        for path in (ROOT / "shared" / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }


CLIENT_PACKAGES = {"azure.storage.blob": "blob", "azure.storage.queue": "queue", "azure.data.tables": "table"}


def test_the_switches_name_the_storage_services_that_the_code_uses_and_tables_for_the_host() -> None:
    used = {service for package, service in CLIENT_PACKAGES.items() if package in imported_packages()}
    assert used == {"blob", "queue"}
    both = "hostDiagnosticsEnabled ? [ 'blob', 'queue', 'table' ] : [ 'blob', 'queue' ]"
    assert dig(load(MAIN).variables["features"], "storageServices") == Expression(both)


def test_every_storage_service_has_a_role_and_the_same_switch_gives_settings_roles_and_endpoints() -> None:
    roles = load(INFRA / "modules" / "rbac.bicep").variables["roleOfStorageService"]
    assert isinstance(roles, dict)
    assert tuple(roles) == STORAGE_SERVICES
    switched = [symbol for symbol, module in load(MAIN).modules.items() if "storageServices" in module.parameters]
    assert switched == ["rbac", "network", "functionApp"]
    for symbol in switched:
        assert load(MAIN).modules[symbol].parameters["storageServices"] == Expression("features.storageServices")
    assert deployed_settings()["AzureWebJobsFeatureFlags"] == "DisableDiagnosticEventLogging"
    assert "var diagnosticsSettings = contains(storageServices, 'table') ? {} : {" in FUNCTION_APP.text


def test_the_role_on_the_vault_is_the_least_one_that_writes_and_deletes_secrets() -> None:
    assert {"set_secret", "begin_delete_secret", "get_secret"} <= called_methods("secrets")
    vault_role = load(INFRA / "modules" / "rbac.bicep").resources["vaultRole"].body
    assert "keyVaultSecretsOfficer" in str(dig(vault_role, "properties", "roleDefinitionId"))


def test_the_role_on_segments_elsewhere_is_enough_because_the_code_only_reads_them() -> None:
    writing = {"upload_blob", "delete_blob", "delete_blobs", "set_blob_metadata", "create_container", "stage_block"}
    assert called_methods("segments") & writing == set()
    assert "download_blob" in called_methods("segments")


def test_telemetry_has_its_role_where_local_authentication_is_off() -> None:
    role = load(INFRA / "modules" / "rbac.bicep").resources["telemetryRole"].body
    assert "monitoringMetricsPublisher" in str(dig(role, "properties", "roleDefinitionId"))
    assert deployed_settings()["APPLICATIONINSIGHTS_AUTHENTICATION_STRING"] == Expression(
        "'ClientId=${identityClientId};Authorization=AAD'"
    )
