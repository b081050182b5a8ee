"""The settings of the app: read once from the environment, checked as a whole, passed on as one object.

When you add a setting: a field here, a row in docs/deploying.md, a line in infra/modules/functionapp.bicep and in
local.settings.json.example; tests/unit/test_settings.py and the infrastructure's tests fail otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from shared.plain_faults import plain_fault

MAILCHIMP_LOGIN_URL: Final = "https://login.mailchimp.com"
MAILCHIMP_CONNECTION_LIMIT: Final = 10
"""Simultaneous connections that Mailchimp allows one user over all applications (Marketing API, "Throttling")."""

_VAULT_REFERENCE: Final = "@Microsoft.KeyVault("
_ACCOUNT_NAME = re.compile(r"[a-z0-9]{3,24}")
_NonEmpty = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_ORIGIN: Final = re.compile(r"(https?)://([a-z0-9][a-z0-9.-]*|\[::1\])(?::([0-9]{1,5}))?", re.ASCII | re.IGNORECASE)


def origin_of(text: str) -> str | None:
    """``text`` as browsers write an origin (lower case, no default port); None where it is no origin of a portal:
    https, or http on this machine, and nothing behind host and port."""
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme, host, port = match[1].lower(), match[2].lower(), int(match[3] or 0)
    if (scheme == "http" and host not in _LOOPBACK) or port > 65535 or (match[3] is not None and port == 0):
        return None
    return f"{scheme}://{host}" + (f":{port}" if port not in {0, _DEFAULT_PORTS[scheme]} else "")


class SettingsError(ValueError):
    """Raised at start when a setting is missing or wrong; the message is one sentence that names the setting."""


class StorageConnection(BaseModel):
    """How one storage account is reached: a connection string, or an account name and a managed identity."""

    model_config = ConfigDict(frozen=True)

    connection_string: str | None = Field(default=None, repr=False)
    account_name: str | None = None
    client_id: str | None = None


class Settings(BaseModel):
    """All settings, by the names of docs/deploying.md. Unknown environment variables are none of our business."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=False)

    storage_connection_string: _NonEmpty | None = Field(default=None, alias="AzureWebJobsStorage", repr=False)
    storage_account_name: _NonEmpty | None = Field(default=None, alias="AzureWebJobsStorage__accountName")
    storage_client_id: _NonEmpty | None = Field(default=None, alias="AzureWebJobsStorage__clientId")
    segments_connection_string: _NonEmpty | None = Field(default=None, alias="SEGMENTS_STORAGE", repr=False)
    segments_account_name: _NonEmpty | None = Field(default=None, alias="SEGMENTS_STORAGE__accountName")
    segments_container: _NonEmpty = Field(default="segments", alias="SEGMENTS_CONTAINER")
    segments_prefix: str = Field(default="", alias="SEGMENTS_PREFIX")
    mailchimp_client_id: _NonEmpty | None = Field(default=None, alias="MAILCHIMP_CLIENT_ID")
    mailchimp_client_secret: _NonEmpty | None = Field(default=None, alias="MAILCHIMP_CLIENT_SECRET", repr=False)
    mailchimp_login_url: _NonEmpty = Field(default=MAILCHIMP_LOGIN_URL, alias="MAILCHIMP_LOGIN_URL")
    mailchimp_api_url: _NonEmpty | None = Field(default=None, alias="MAILCHIMP_API_URL")
    mailchimp_max_connections: int = Field(
        default=8, ge=1, le=MAILCHIMP_CONNECTION_LIMIT, alias="MAILCHIMP_MAX_CONNECTIONS"
    )
    key_vault_url: _NonEmpty | None = Field(default=None, alias="KEY_VAULT_URL")
    local_secret_key: _NonEmpty | None = Field(default=None, alias="LOCAL_SECRET_KEY", repr=False)
    public_url: _NonEmpty = Field(default="http://127.0.0.1:7071", alias="PUBLIC_URL")
    portal_origins: tuple[str, ...] = Field(default=(), alias="PORTAL_ORIGINS")
    open_telemetry: bool = Field(default=False, alias="OPEN_TELEMETRY")
    application_insights: _NonEmpty | None = Field(
        default=None, alias="APPLICATIONINSIGHTS_CONNECTION_STRING", repr=False
    )
    max_profiles_per_export: int = Field(default=1_000_000, ge=1, alias="MAX_PROFILES_PER_EXPORT")
    export_retention_days: int = Field(default=90, ge=1, le=3650, alias="EXPORT_RETENTION_DAYS")
    refusal_memory_days: int = Field(default=90, ge=1, le=3650, alias="REFUSAL_MEMORY_DAYS")
    max_wait_hours: int = Field(default=24, ge=1, le=720, alias="MAX_WAIT_HOURS")
    lane_lease_seconds: int = Field(default=30, ge=15, le=60, alias="LANE_LEASE_SECONDS")
    lane_time_budget_seconds: int = Field(default=240, ge=1, le=1500, alias="LANE_TIME_BUDGET_SECONDS")
    auth_enabled: bool = Field(default=False, alias="WEBSITE_AUTH_ENABLED")
    site_name: str | None = Field(default=None, alias="WEBSITE_SITE_NAME")

    @field_validator("storage_account_name", "segments_account_name")
    @classmethod
    def _is_account_name(cls, value: str | None) -> str | None:
        if value is not None and not _ACCOUNT_NAME.fullmatch(value):
            raise ValueError("must be the name of a storage account (3 to 24 lower-case letters and digits)")
        return value

    @field_validator("mailchimp_login_url", "mailchimp_api_url", "public_url", "key_vault_url")
    @classmethod
    def _is_root_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an absolute http or https address")
        if parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
            raise ValueError("must use https (http is accepted only for this machine)")
        return value.rstrip("/")

    @field_validator("portal_origins", mode="before")
    @classmethod
    def _are_origins(cls, value: str) -> tuple[str, ...]:
        found = [origin_of(each.strip()) for each in value.split(",") if each.strip()]
        if None in found:
            raise ValueError(
                "must be a list of origins, separated by commas, such as https://portal.contoso.example: https, "
                "without a path (http is accepted only for this machine)"
            )
        return tuple(dict.fromkeys(origin for origin in found if origin is not None))

    @field_validator("segments_prefix")
    @classmethod
    def _is_prefix(cls, value: str) -> str:
        stripped = value.strip().strip("/")
        return f"{stripped}/" if stripped else ""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.storage_connection_string is None and self.storage_account_name is None:
            raise ValueError("The setting AzureWebJobsStorage (or AzureWebJobsStorage__accountName) is missing")
        if self.site_name is not None and self.key_vault_url is None:
            raise ValueError("The setting KEY_VAULT_URL is missing: in Azure the app keeps secrets in Key Vault")
        if (self.mailchimp_client_id is None) != (self.mailchimp_client_secret is None):
            raise ValueError("The settings MAILCHIMP_CLIENT_ID and MAILCHIMP_CLIENT_SECRET must be set together")
        if self.open_telemetry and self.application_insights is None:
            raise ValueError("The setting OPEN_TELEMETRY is on, but APPLICATIONINSIGHTS_CONNECTION_STRING is missing")
        return self

    @property
    def oauth_client_secret(self) -> str | None:
        """The secret to sign in with at Mailchimp. None too where it is the text of a reference to Key Vault: App
        Service hands that on when it cannot resolve one ("Troubleshoot Key Vault references")."""
        secret = self.mailchimp_client_secret
        return None if secret is None or secret.startswith(_VAULT_REFERENCE) else secret

    @property
    def storage(self) -> StorageConnection:
        """The account of host state, queues and this product's blobs."""
        return StorageConnection(
            connection_string=self.storage_connection_string,
            account_name=self.storage_account_name,
            client_id=self.storage_client_id,
        )

    @property
    def segments_storage(self) -> StorageConnection:
        """The account that segments are read from; the app's own account unless SEGMENTS_STORAGE says otherwise."""
        if self.segments_connection_string is None and self.segments_account_name is None:
            return self.storage
        return StorageConnection(
            connection_string=self.segments_connection_string,
            account_name=self.segments_account_name,
            client_id=self.storage_client_id,
        )


SETTING_NAMES: Final = frozenset(str(field.alias) for field in Settings.model_fields.values())
"""Names of all environment variables that the app reads."""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Check and return the settings found in ``environment``; an empty value counts as not set.

    Raises SettingsError with one sentence that names the first wrong setting. Values are never repeated in it.
    """
    given = {name: value for name in SETTING_NAMES if (value := environment.get(name, "")).strip()}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        fault = plain_fault(str(first["msg"]))
        raise SettingsError(f"The setting {first['loc'][0]} {fault}." if first["loc"] else f"{fault}.") from None
