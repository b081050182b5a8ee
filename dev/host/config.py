"""Configuration as Azure Functions reads it: host.json, local.settings.json, `%SETTING%` and connection settings.

Sources: Azure Functions host.json reference; "Storage queue trigger", host.json properties; "App settings reference",
AzureFunctionsJobHost__*; Core Tools, local.settings.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel

from dev.host.errors import ConfigError, SettingMissingError

DEFAULT_CONNECTION = "AzureWebJobsStorage"
_OVERRIDE_PREFIX = "AzureFunctionsJobHost__"
_TIME_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{1,2}):(\d{1,2}(?:\.\d+)?)")


def parse_time_span(text: str) -> float:
    """Seconds of a .NET time span, `[days.]hours:minutes:seconds`; ValueError for anything else."""
    match = _TIME_SPAN.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not a time span like 00:00:30")
    days, hours, minutes, seconds = match.groups()
    return int(days or 0) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)


class _Section(BaseModel):
    """A part of host.json; properties that this host does not know are left alone."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _names_have_no_case(cls, data: Any) -> Any:
        """.NET configuration does not tell `batchSize` from `BatchSize`."""
        if not isinstance(data, dict):
            return data
        known = {to_camel(name).lower(): to_camel(name) for name in cls.model_fields}
        return {known.get(name.lower(), name): value for name, value in data.items()}


class QueueOptions(_Section):
    """host.json extensions.queues. Times in seconds."""

    batch_size: int = Field(16, ge=1, le=32)
    new_batch_threshold: int | None = Field(None, ge=0)
    max_dequeue_count: int = Field(5, ge=1)
    visibility_timeout: float = Field(0, ge=0, le=7 * 86400)
    max_polling_interval: float = Field(60, ge=0.1)
    message_encoding: Literal["base64", "none"] = "base64"

    @field_validator("visibility_timeout", "max_polling_interval", mode="before")
    @classmethod
    def _time_span(cls, value: object) -> object:
        return parse_time_span(value) if isinstance(value, str) else value

    @property
    def fetch_at(self) -> int:
        """Messages are fetched while this many or fewer are under way: half a batch unless newBatchThreshold says."""
        return self.batch_size // 2 if self.new_batch_threshold is None else self.new_batch_threshold


class HttpOptions(_Section):
    """host.json extensions.http."""

    route_prefix: str = "api"


class Extensions(_Section):
    """host.json extensions."""

    queues: QueueOptions = Field(default_factory=lambda: QueueOptions.model_validate({}))
    http: HttpOptions = Field(default_factory=HttpOptions)


class HostOptions(_Section):
    """host.json, as far as it concerns a local host."""

    version: Literal["2.0"]
    extensions: Extensions = Field(default_factory=Extensions)


def load_host_json(app_dir: Path, env: Mapping[str, str]) -> HostOptions:
    """Reads host.json and applies the overrides of `env` (AzureFunctionsJobHost__extensions__queues__batchSize=4).

    Raises ConfigError with the property's path.
    """
    path = app_dir / "host.json"
    document = _read_json(path)
    for name, value in env.items():
        if name.startswith(_OVERRIDE_PREFIX):
            _override(document, name.removeprefix(_OVERRIDE_PREFIX).split("__"), value)
    try:
        return HostOptions.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path.name}: {where}: {first['msg']}.") from None


def load_local_settings(app_dir: Path, env: MutableMapping[str, str]) -> None:
    """Adds the Values of local.settings.json to `env`, where the environment does not say otherwise."""
    path = app_dir / "local.settings.json"
    if not path.exists():
        return
    values = _read_json(path).get("Values", {})
    if not isinstance(values, dict):
        raise ConfigError(f"{path.name}: Values is not an object.")
    for name, value in values.items():
        env.setdefault(name, str(value))


def expand(text: str, env: Mapping[str, str], needed_by: str) -> str:
    """Replaces each `%NAME%` by the setting of that name; raises SettingMissingError, which names `needed_by`."""

    def value_of(match: re.Match[str]) -> str:
        if match[1] not in env:
            raise SettingMissingError(match[1], needed_by)
        return env[match[1]]

    return re.sub(r"%([^%]+)%", value_of, text)


def connection_string(name: str | None, env: Mapping[str, str], needed_by: str) -> str:
    """The connection string behind a trigger's `connection`, which names a setting; none means AzureWebJobsStorage.

    The host looks for AzureWebJobs<name> before <name>. Raises SettingMissingError, and ConfigError for a connection by
    managed identity (`<name>__accountName`), which exists in Azure only.
    """
    name = name or DEFAULT_CONNECTION
    for candidate in (f"AzureWebJobs{name}", name):
        if value := env.get(candidate):
            return value
    if any(setting.startswith(f"{name}__") for setting in env):
        raise ConfigError(f"The connection {name} of {needed_by} uses an identity: locally, set {name} itself.")
    raise SettingMissingError(name, needed_by)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"There is no {path.name} in {path.parent}: is that the folder of a function app?") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path.name} is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path.name} is not a JSON object.")
    return document


def _override(document: dict[str, Any], path: list[str], value: str) -> None:
    """Sets one property, found without regard to case as .NET configuration does."""
    key = next((known for known in document if known.lower() == path[0].lower()), path[0])
    if len(path) == 1:
        document[key] = value
    else:
        inner = document.setdefault(key, {})
        if isinstance(inner, dict):
            _override(inner, path[1:], value)
