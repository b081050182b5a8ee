"""The infrastructure and the code agree: settings, queues, containers, the timer, threads, and what gets deployed."""

from __future__ import annotations

import ast
import json
import re
from fnmatch import fnmatch
from functools import cache

from shared import settings
from shared.api import gate
from shared.api.auth import Role
from shared.storage import names
from tests.unit.infra_support import INFRA, MAIN, ROOT, STORAGE_SERVICES, Expression, Value, dig, load, variable_entries

FUNCTION_APP = load(INFRA / "modules" / "functionapp.bicep")

PLATFORM_SETTINGS = {
    "AzureWebJobsStorage__credential": "the Functions host signs in with the identity",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "the host's telemetry",
    "PYTHON_THREADPOOL_THREAD_COUNT": "the Python worker",
    "MALLOC_ARENA_MAX": "the C library under the Python worker",
    "AzureWebJobsFeatureFlags": "the Functions host, where tables are switched off",
    "OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID": "sign-in by the platform",
    "WEBSITE_AUTH_AAD_ALLOWED_TENANTS": "sign-in by the platform",
}
"""Deployed settings that the app itself does not read, and who does."""

NOT_DEPLOYED = {
    "AzureWebJobsStorage": "a connection string holds a key; deployed apps use the identity",
    "SEGMENTS_STORAGE": "a connection string holds a key; deployed apps use the identity",
    "MAILCHIMP_LOGIN_URL": "for the sandbox; the default is Mailchimp",
    "MAILCHIMP_API_URL": "for the sandbox; the default is Mailchimp",
    "LOCAL_SECRET_KEY": "for local runs; deployed apps use Key Vault",
    "LANE_LEASE_SECONDS": "nothing for an administrator to decide; the default fits",
    "LANE_TIME_BUDGET_SECONDS": "nothing for an administrator to decide; the default fits functionTimeout",
    "WEBSITE_AUTH_ENABLED": "set by the platform",
    "WEBSITE_SITE_NAME": "set by the platform",
}
"""Settings that the app reads and the templates must not set, and why."""


def deployed_settings() -> dict[str, Value]:
    """All app settings by name, whatever the features."""
    merged = dig(FUNCTION_APP.resources["appSettings"].body, "properties")
    assert isinstance(merged, Expression)
    variables = re.fullmatch(r"union\((.*)\)", merged.text)
    assert variables
    found: dict[str, Value] = {}
    for variable in variables[1].split(", "):
        entries = variable_entries(FUNCTION_APP, variable)
        assert not found.keys() & entries.keys()
        found |= entries
    return found


def host() -> Value:
    document: Value = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    return document


def never_deployed() -> list[str]:
    lines = (ROOT / ".funcignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def is_deployed(path: str) -> bool:
    """Whether a file is part of the package, by the few forms of patterns that .funcignore uses."""
    *folders, name = path.split("/")
    for pattern in never_deployed():
        if pattern.endswith("/") and pattern.removesuffix("/") in folders:
            return False
        if fnmatch(name, pattern):
            return False
    return True


def test_every_deployed_setting_is_read_by_somebody() -> None:
    assert set(deployed_settings()) - settings.SETTING_NAMES == set(PLATFORM_SETTINGS)


def test_every_setting_of_the_app_is_deployed_or_kept_out_for_a_reason() -> None:
    assert settings.SETTING_NAMES - set(deployed_settings()) == set(NOT_DEPLOYED)


def test_the_client_secret_reaches_the_app_as_a_reference_to_the_vault() -> None:
    value = deployed_settings()["MAILCHIMP_CLIENT_SECRET"]
    assert isinstance(value, Expression)
    assert value.text.startswith("'@Microsoft.KeyVault(SecretUri=${keyVaultUrl}secrets/")
    app = FUNCTION_APP.resources["app"].body
    assert dig(app, "properties", "keyVaultReferenceIdentity") == Expression("identityId")


def test_defaults_of_the_templates_are_those_of_the_app() -> None:
    defaults = {str(one.alias): one.default for one in settings.Settings.model_fields.values()}
    given = json.loads((INFRA / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
    pairs = [re.fullmatch(r"\$\{([A-Z_]+)=(.+)\}", entry["value"]) for entry in given.values()]
    shared_names = {match[1]: match[2] for match in pairs if match and match[1] in defaults}
    assert set(shared_names) == {
        "SEGMENTS_CONTAINER",
        "MAILCHIMP_MAX_CONNECTIONS",
        "MAX_PROFILES_PER_EXPORT",
        "EXPORT_RETENTION_DAYS",
        "REFUSAL_MEMORY_DAYS",
        "MAX_WAIT_HOURS",
        "OPEN_TELEMETRY",
    }
    assert shared_names == {name: str(defaults[name]).lower() for name in shared_names}


def test_limits_of_the_templates_are_those_of_the_app() -> None:
    parameters = load(MAIN).parameters
    connections = parameters["mailchimpMaxConnections"].decorators
    assert connections["maxValue"] == settings.MAILCHIMP_CONNECTION_LIMIT
    assert connections["minValue"] == 1
    for parameter, name in (
        ("exportRetentionDays", "export_retention_days"),
        ("refusalMemoryDays", "refusal_memory_days"),
        ("maxWaitHours", "max_wait_hours"),
    ):
        given, field = parameters[parameter].decorators, settings.Settings.model_fields[name]
        limits = {bound: getattr(one, bound) for one in field.metadata for bound in ("ge", "le") if hasattr(one, bound)}
        assert (given["minValue"], given["maxValue"]) == (limits["ge"], limits["le"])


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


def test_the_platform_lets_in_the_pages_of_the_portals_and_no_others() -> None:
    cors = dig(FUNCTION_APP.resources["app"].body, "properties", "siteConfig", "cors")
    assert cors == {
        "allowedOrigins": Expression("empty(portalOrigins) ? [] : split(replace(portalOrigins, ' ', ''), ',')"),
        "supportCredentials": Expression("!empty(portalOrigins)"),
    }
    assert load(MAIN).modules["functionApp"].parameters["portalOrigins"] == Expression("portalOrigins")


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


def test_a_worker_has_a_thread_for_every_message_the_host_hands_out() -> None:
    queues = dig(host(), "extensions", "queues")
    batch, threshold = dig(queues, "batchSize"), dig(queues, "newBatchThreshold")
    assert isinstance(batch, int)
    assert isinstance(threshold, int)
    threads = deployed_settings()["PYTHON_THREADPOOL_THREAD_COUNT"]
    assert isinstance(threads, str)
    assert int(threads) >= batch + threshold


def test_addresses_that_are_registered_elsewhere_use_the_route_prefix_of_the_host() -> None:
    extensions = dig(host(), "extensions")
    assert isinstance(extensions, dict)
    http = extensions.get("http", {})
    assert isinstance(http, dict)
    assert http.get("routePrefix", "api") == "api"
    auth = load(INFRA / "modules" / "auth.bicep").resources["auth"].body
    assert dig(auth, "properties", "globalValidation", "excludedPaths") == [gate._OPEN_PATH]
    redirect = load(MAIN).outputs["MAILCHIMP_REDIRECT_URI"].value
    assert redirect == Expression("'${functionApp.outputs.url}/api/oauth/callback'")


def test_the_app_runs_on_the_plan_and_the_python_that_the_documentation_promises() -> None:
    assert dig(FUNCTION_APP.resources["plan"].body, "sku", "name") == "FC1"
    runtime = dig(FUNCTION_APP.resources["app"].body, "properties", "functionAppConfig", "runtime")
    assert runtime == {"name": "python", "version": "3.13"}
    assert "param instanceMemoryMB int = 2048" in load(MAIN).text


REFUSED_ON_FLEX = {
    "ENABLE_ORYX_BUILD",
    "FUNCTIONS_EXTENSION_VERSION",
    "FUNCTIONS_WORKER_RUNTIME",
    "FUNCTIONS_WORKER_RUNTIME_VERSION",
    "SCM_DO_BUILD_DURING_DEPLOYMENT",
    "TZ",
    "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING",
    "WEBSITE_CONTENTSHARE",
    "WEBSITE_RUN_FROM_PACKAGE",
    "WEBSITE_TIME_ZONE",
    "WEBSITE_VNET_ROUTE_ALL",
}
"""App settings that a Flex Consumption app refuses or ignores ("Flex Consumption plan deprecations" at Microsoft)."""


def test_nothing_is_set_that_flex_consumption_refuses() -> None:
    site = FUNCTION_APP.resources["app"].body
    config = dig(site, "properties", "siteConfig")
    assert isinstance(config, dict)
    # Of the site configuration these two are taken. Others (ftpsState, alwaysOn, linuxFxVersion) fail the deployment:
    # "The following site configuration property (Site.SiteConfig.FtpsState) for Flex Consumption sites is invalid".
    assert set(config) == {"minTlsVersion", "cors"}
    assert set(deployed_settings()) & REFUSED_ON_FLEX == set()


def test_every_table_that_the_app_fills_is_kept_for_as_long_as_the_administrator_says() -> None:
    monitoring = load(INFRA / "modules" / "monitoring.bicep")
    days = Expression("logRetentionDays")
    assert dig(monitoring.resources["workspace"].body, "properties", "retentionInDays") == days
    tables = dig(monitoring.resources["tables"].body, "properties")
    assert (dig(tables, "retentionInDays"), dig(tables, "totalRetentionInDays")) == (days, days)
    (listed,) = re.findall(r"= \[for table in \[([^\]]+)\]", monitoring.text)
    queried = set(re.findall(r"\bApp[A-Z]\w+", "".join(path.read_text() for path in (INFRA / "alerts").iterdir())))
    assert queried == {"AppTraces", "AppRequests"}
    # The others: what the host tells of failures, and what OPEN_TELEMETRY adds.
    rest = {"AppExceptions", "AppDependencies", "AppMetrics", "AppPerformanceCounters"}
    assert set(re.findall(r"'(\w+)'", listed)) == queried | rest


def test_roles_of_the_app_registration_are_those_of_the_api() -> None:
    registration = json.loads((INFRA / "entra-app.json").read_text(encoding="utf-8"))
    assert [role["value"] for role in registration["appRoles"]] == [role.title for role in Role]
    assert all(role["isEnabled"] for role in registration["appRoles"])
    assert len({role["id"] for role in registration["appRoles"]}) == 3
    # The issuer in modules/auth.bicep is that of version 2 tokens.
    assert registration["api"]["requestedAccessTokenVersion"] == 2
    assert registration["signInAudience"] == "AzureADMyOrg"


def test_azd_finds_the_templates_and_the_app() -> None:
    text = (ROOT / "azure.yaml").read_text(encoding="utf-8")
    assert re.search(r"^infra:\n  provider: bicep\n  path: infra\n  module: main$", text, re.MULTILINE)
    (service,) = re.findall(
        r"^services:\n  (\w+):\n    project: \.\n    language: python\n    host: function$", text, re.M
    )
    assert FUNCTION_APP.resources["app"].body["tags"] == Expression(
        f"union(tags, {{\n    'azd-service-name': '{service}'\n  }})"
    )


def test_the_package_holds_the_app_and_nothing_else() -> None:
    for path in ("function_app.py", "host.json", "requirements.txt", "shared/settings.py", "shared/exports/model.py"):
        assert is_deployed(path), path
    for folder in ("dev", "tests", "docs", "infra", ".venv", ".git", ".azure", "node_modules", "shared/__pycache__"):
        assert not is_deployed(f"{folder}/file.py"), folder
    for file in ("local.settings.json", "local.settings.json.example", "pyproject.toml", "Makefile", "README.md"):
        assert not is_deployed(file), file


def test_what_git_ignores_is_not_deployed_either() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert set(ignored) - set(never_deployed()) == set()


def test_the_example_of_local_settings_names_settings_that_exist() -> None:
    values = json.loads((ROOT / "local.settings.json.example").read_text(encoding="utf-8"))["Values"]
    host_settings = {"FUNCTIONS_WORKER_RUNTIME", "PYTHON_THREADPOOL_THREAD_COUNT"}
    assert set(values) - host_settings <= settings.SETTING_NAMES
    assert settings.read_settings(values).storage_connection_string == "UseDevelopmentStorage=true"


def test_the_documentation_has_every_setting_and_every_parameter() -> None:
    text = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    parameters = json.loads((INFRA / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
    variables = {re.sub(r"[${}]|=.*", "", entry["value"]) for entry in parameters.values()}
    wanted = {*settings.SETTING_NAMES, *PLATFORM_SETTINGS, *variables, *load(MAIN).outputs}
    assert {name for name in wanted if f"`{name}`" not in text} == set()
