"""host.json, local.settings.json, %SETTING% and connections."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dev.host.config import connection_string, expand, load_host_json, load_local_settings, parse_time_span
from dev.host.errors import ConfigError, SettingMissingError


def write(app_dir: Path, name: str, document: object) -> None:
    (app_dir / name).write_text(json.dumps(document), encoding="utf-8")


def test_settings_are_expanded_wherever_they_stand() -> None:
    env = {"QUEUE": "lanes", "STAGE": "test"}
    assert expand("%STAGE%-%QUEUE%-poison", env, "x") == "test-lanes-poison"
    assert expand("100%", env, "x") == "100%"


def test_a_missing_setting_is_named_with_what_needs_it() -> None:
    with pytest.raises(SettingMissingError, match="The setting QUEUE is missing: the function work needs it"):
        expand("%QUEUE%", {}, "the function work")


def test_a_connection_is_looked_up_as_azure_functions_does() -> None:
    env = {"AzureWebJobsStorage": "default", "Other": "other", "AzureWebJobsBoth": "prefixed", "Both": "plain"}
    assert connection_string(None, env, "x") == "default"
    assert connection_string("", env, "x") == "default"
    assert connection_string("AzureWebJobsStorage", env, "x") == "default"
    assert connection_string("Other", env, "x") == "other"
    assert connection_string("Both", env, "x") == "prefixed"


def test_a_missing_connection_is_named() -> None:
    with pytest.raises(SettingMissingError, match="AzureWebJobsStorage is missing"):
        connection_string(None, {}, "the function work")


def test_a_connection_by_identity_is_refused_with_a_sentence() -> None:
    with pytest.raises(ConfigError, match="uses an identity"):
        connection_string("Other", {"Other__accountName": "a"}, "the function work")


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:00:30", 30), ("01:02:03", 3723), ("1.00:00:00", 86400), ("00:00:00.500", 0.5)]
)
def test_time_spans_are_dotnets(text: str, seconds: float) -> None:
    assert parse_time_span(text) == seconds


def test_host_json_has_the_real_hosts_defaults(tmp_path: Path) -> None:
    write(tmp_path, "host.json", {"version": "2.0"})
    options = load_host_json(tmp_path, {})
    queues = options.extensions.queues
    assert (queues.batch_size, queues.fetch_at, queues.max_dequeue_count) == (16, 8, 5)
    assert (queues.visibility_timeout, queues.max_polling_interval, queues.message_encoding) == (0, 60, "base64")
    assert options.extensions.http.route_prefix == "api"


def test_host_json_is_read_and_the_environment_overrides_it(tmp_path: Path) -> None:
    queues = {"batchSize": 4, "visibilityTimeout": "00:00:30", "messageEncoding": "none"}
    write(tmp_path, "host.json", {"version": "2.0", "extensions": {"queues": queues, "http": {"routePrefix": ""}}})
    env = {
        "AzureFunctionsJobHost__extensions__queues__MaxPollingInterval": "00:00:01",
        "AzureFunctionsJobHost__extensions__queues__batchsize": "8",
    }
    options = load_host_json(tmp_path, env)
    assert options.extensions.queues.batch_size == 8
    assert options.extensions.queues.fetch_at == 4
    assert options.extensions.queues.visibility_timeout == 30
    assert options.extensions.queues.max_polling_interval == 1
    assert options.extensions.http.route_prefix == ""


@pytest.mark.parametrize(
    ("queues", "named"),
    [
        ({"batchSize": 33}, "extensions.queues.batchSize"),
        ({"visibilityTimeout": "soon"}, "extensions.queues.visibilityTimeout"),
        ({"messageEncoding": "utf8"}, "extensions.queues.messageEncoding"),
    ],
)
def test_a_wrong_value_in_host_json_is_named(tmp_path: Path, queues: dict[str, object], named: str) -> None:
    write(tmp_path, "host.json", {"version": "2.0", "extensions": {"queues": queues}})
    with pytest.raises(ConfigError, match=named):
        load_host_json(tmp_path, {})


def test_a_folder_without_host_json_is_not_an_app(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no host\.json"):
        load_host_json(tmp_path, {})


def test_local_settings_fill_in_what_the_environment_leaves_open(tmp_path: Path) -> None:
    env = {"A": "environment"}
    load_local_settings(tmp_path, env)
    assert env == {"A": "environment"}
    write(tmp_path, "local.settings.json", {"IsEncrypted": False, "Values": {"A": "file", "B": "file"}})
    load_local_settings(tmp_path, env)
    assert env == {"A": "environment", "B": "file"}
