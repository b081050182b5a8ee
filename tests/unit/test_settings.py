"""The settings: defaults, what is refused, and that the pages and templates name every one of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.bootstrap import _oauth_provider
from shared.settings import SETTING_NAMES, Settings, SettingsError, read_settings

ROOT = Path(__file__).parents[2]
STORAGE = {"AzureWebJobsStorage": "UseDevelopmentStorage=true"}
DEPLOYED = {
    "AzureWebJobsStorage__accountName": "contosostate",
    "AzureWebJobsStorage__clientId": "00000000-0000-0000-0000-000000000001",
    "KEY_VAULT_URL": "https://kv-1.vault.azure.net/",
    "WEBSITE_SITE_NAME": "app-1",
    "WEBSITE_AUTH_ENABLED": "True",
}
SET_BY_THE_PLATFORM = {"AzureWebJobsStorage__clientId", "WEBSITE_AUTH_ENABLED", "WEBSITE_SITE_NAME"}


def refusal(environment: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        read_settings(environment)
    return str(caught.value)


def test_storage_is_all_that_a_local_run_needs() -> None:
    settings = read_settings(STORAGE)
    assert settings.segments_container == "segments"
    assert settings.segments_prefix == ""
    assert settings.mailchimp_login_url == "https://login.mailchimp.com"
    assert settings.mailchimp_api_url is None
    assert settings.mailchimp_max_connections == 8
    assert settings.public_url == "http://127.0.0.1:7071"
    assert settings.max_profiles_per_export == 1_000_000
    assert settings.auth_enabled is False


def test_a_deployment_reaches_storage_with_its_identity() -> None:
    settings = read_settings(DEPLOYED)
    assert settings.storage.connection_string is None
    assert settings.storage.account_name == "contosostate"
    assert settings.storage.client_id == DEPLOYED["AzureWebJobsStorage__clientId"]
    assert settings.auth_enabled is True


def test_segments_are_read_from_the_apps_own_account_unless_said_otherwise() -> None:
    settings = read_settings(DEPLOYED)
    assert settings.segments_storage == settings.storage
    elsewhere = read_settings(DEPLOYED | {"SEGMENTS_STORAGE__accountName": "contosolake"})
    assert elsewhere.segments_storage.account_name == "contosolake"
    assert elsewhere.segments_storage.client_id == settings.storage.client_id
    by_string = read_settings(STORAGE | {"SEGMENTS_STORAGE": "AccountName=lake"})
    assert by_string.segments_storage.connection_string == "AccountName=lake"


def test_an_empty_value_counts_as_not_set() -> None:
    environment = STORAGE | {"SEGMENTS_CONTAINER": "", "MAILCHIMP_API_URL": "  ", "MAILCHIMP_MAX_CONNECTIONS": ""}
    assert read_settings(environment) == read_settings(STORAGE)


def test_other_variables_of_the_environment_do_not_matter() -> None:
    assert read_settings(STORAGE | {"PATH": "/usr/bin", "MAILCHIMP_TYPO": "1"}) == read_settings(STORAGE)


@pytest.mark.parametrize(("given", "kept"), [("a", "a/"), ("/a/b/", "a/b/"), ("/", ""), ("", "")])
def test_a_prefix_is_a_folder_without_leading_slash(given: str, kept: str) -> None:
    assert read_settings(STORAGE | {"SEGMENTS_PREFIX": given}).segments_prefix == kept


def test_addresses_lose_their_final_slash() -> None:
    assert read_settings(DEPLOYED).key_vault_url == "https://kv-1.vault.azure.net"


def test_storage_must_be_named() -> None:
    assert "AzureWebJobsStorage" in refusal({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAILCHIMP_MAX_CONNECTIONS", "0"),
        ("MAILCHIMP_MAX_CONNECTIONS", "11"),
        ("MAILCHIMP_MAX_CONNECTIONS", "many"),
        ("MAX_PROFILES_PER_EXPORT", "0"),
        ("EXPORT_RETENTION_DAYS", "0"),
        ("REFUSAL_MEMORY_DAYS", "0"),
        ("REFUSAL_MEMORY_DAYS", "3651"),
        ("MAX_WAIT_HOURS", "0"),
        ("MAX_WAIT_HOURS", "721"),
        ("LANE_LEASE_SECONDS", "14"),
        ("LANE_LEASE_SECONDS", "61"),
        ("LANE_TIME_BUDGET_SECONDS", "0"),
        ("WEBSITE_AUTH_ENABLED", "perhaps"),
        ("OPEN_TELEMETRY", "perhaps"),
        ("PUBLIC_URL", "app-1.azurewebsites.net"),
        ("PUBLIC_URL", "http://app-1.azurewebsites.net"),
        ("PUBLIC_URL", "https://app-1.azurewebsites.net/?a=1"),
        ("KEY_VAULT_URL", "ftp://kv"),
        ("MAILCHIMP_API_URL", "http://192.0.2.1:8085"),
        ("MAILCHIMP_LOGIN_URL", "//login"),
        ("AzureWebJobsStorage__accountName", "Contoso State"),
        ("SEGMENTS_STORAGE__accountName", "https://contosolake.blob.core.windows.net"),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_setting(name: str, value: str) -> None:
    sentence = refusal(STORAGE | {name: value})
    assert sentence.startswith(f"The setting {name} must ")
    assert value not in sentence or value.isdigit()


def test_a_test_servers_address_may_use_http_on_this_machine_and_a_data_centre() -> None:
    environment = STORAGE | {
        "MAILCHIMP_API_URL": "http://127.0.0.1:8085",
        "MAILCHIMP_LOGIN_URL": "http://localhost:8085/",
    }
    assert read_settings(environment).mailchimp_login_url == "http://localhost:8085"


def test_secrets_are_kept_in_a_vault_in_azure() -> None:
    assert "KEY_VAULT_URL" in refusal({name: value for name, value in DEPLOYED.items() if name != "KEY_VAULT_URL"})


@pytest.mark.parametrize("name", ["MAILCHIMP_CLIENT_ID", "MAILCHIMP_CLIENT_SECRET"])
def test_the_oauth_application_is_set_as_a_whole(name: str) -> None:
    assert "together" in refusal(STORAGE | {name: "x"})


def test_a_reference_to_the_vault_that_was_not_resolved_is_no_secret_and_keeps_nothing_from_starting() -> None:
    """App Service hands its text on, which would go to Mailchimp as if it were one."""
    reference = "@Microsoft.KeyVault(SecretUri=https://kv-1.vault.azure.net/secrets/mailchimp-oauth-client-secret/)"
    for secret, usable in (("s3cret", "s3cret"), (reference, None)):
        settings = read_settings(STORAGE | {"MAILCHIMP_CLIENT_ID": "1", "MAILCHIMP_CLIENT_SECRET": secret})
        assert settings.oauth_client_secret == usable
        assert (_oauth_provider(settings) is None) == (usable is None)


def test_open_telemetry_needs_a_place_to_send_to() -> None:
    assert "APPLICATIONINSIGHTS_CONNECTION_STRING" in refusal(STORAGE | {"OPEN_TELEMETRY": "true"})
    on = STORAGE | {"OPEN_TELEMETRY": "true", "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=0"}
    assert read_settings(on).open_telemetry
    assert not read_settings(STORAGE | {"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=0"}).open_telemetry


def test_no_secret_is_shown_when_settings_are_printed() -> None:
    settings = read_settings(
        STORAGE
        | {
            "AzureWebJobsStorage": "AccountKey=hidden1",
            "SEGMENTS_STORAGE": "AccountKey=hidden2",
            "MAILCHIMP_CLIENT_ID": "id",
            "MAILCHIMP_CLIENT_SECRET": "hidden3",
            "LOCAL_SECRET_KEY": "hidden4",
        }
    )
    assert "hidden" not in f"{settings!r} {settings} {settings.storage!r} {settings.segments_storage!r}"


def test_every_setting_is_explained_to_the_administrator() -> None:
    page = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    assert [name for name in sorted(SETTING_NAMES - SET_BY_THE_PLATFORM) if f"`{name}" not in page] == []


def test_the_example_of_local_settings_can_be_read_and_names_only_known_settings() -> None:
    example = json.loads((ROOT / "local.settings.json.example").read_text(encoding="utf-8"))
    values: dict[str, str] = example["Values"]
    of_the_host = {"FUNCTIONS_WORKER_RUNTIME", "PYTHON_THREADPOOL_THREAD_COUNT"}
    assert set(values) <= SETTING_NAMES | of_the_host
    read_settings(values)


def test_every_setting_has_the_name_of_an_environment_variable() -> None:
    assert len(SETTING_NAMES) == len(Settings.model_fields)
