"""Where a token may be sent, and where not."""

from __future__ import annotations

import pytest

from shared.mailchimp import ApiKeyMalformed, ApiRootRefused, api_root_for_key, validate_api_root

KEY = "0123456789abcdef0123456789abcdef-us19"
SANDBOX = "http://127.0.0.1:8085"


def test_a_key_names_its_data_centre() -> None:
    assert api_root_for_key(KEY) == "https://us19.api.mailchimp.com"
    assert api_root_for_key(f"  {KEY}\n", None) == "https://us19.api.mailchimp.com"


def test_a_configured_address_is_used_instead() -> None:
    assert api_root_for_key(KEY, SANDBOX) == SANDBOX
    assert api_root_for_key(KEY, SANDBOX + "/") == SANDBOX
    assert api_root_for_key(KEY, "https://{dc}.api.mailchimp.com") == "https://us19.api.mailchimp.com"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "0123456789abcdef",
        "0123456789abcdef-",
        "0123456789abcdef-us",
        "0123456789abcdef-19",
        "0123456789abcdef-US19",
        "0123456789abcdef-us19.evil.example",
        "0123456789abcdef-us19@evil.example",
        "0123456789abcdef-us19/",
        "0123456789abcdef-us١٩",
        "0123456789abcdef-us19\nX",
        "01234567 89abcdef-us19",
        "-us19",
        "k" * 200 + "-us19",
    ],
)
@pytest.mark.parametrize("override", [None, SANDBOX])
def test_what_is_no_key_is_refused_and_not_repeated(key: str, override: str | None) -> None:
    with pytest.raises(ApiKeyMalformed) as caught:
        api_root_for_key(key, override)
    assert len(key) < 8 or key not in f"{caught.value} {caught.value.action}"


@pytest.mark.parametrize("root", ["https://us19.api.mailchimp.com", "https://us1.api.mailchimp.com/"])
def test_mailchimps_own_addresses_are_fine(root: str) -> None:
    assert validate_api_root(root) == root.rstrip("/")
    assert validate_api_root(root, SANDBOX) == root.rstrip("/")


STRANGERS = [
    "",
    "http://us19.api.mailchimp.com",
    "HTTPS://us19.api.mailchimp.com",
    "https://US19.api.mailchimp.com",
    "https://us19.api.mailchimp.com.evil.example",
    "https://us19.api.mailchimp.com@evil.example",
    "https://evil.example/us19.api.mailchimp.com",
    "https://evil.example#us19.api.mailchimp.com",
    "https://evil.example?us19.api.mailchimp.com",
    "https://user:password@us19.api.mailchimp.com",
    "https://us19.api.mailchimp.com:8443",
    "https://us19.api.mailchimp.com:443",
    "https://us19.api.mailchimp.com/3.0",
    "https://us19.api.mailchimp.com//",
    "https://us19.api.mailchimp.com\\@evil.example",
    "https://us19.api.mailchimp.com\n",
    " https://us19.api.mailchimp.com",
    "https://us19.api.mailchimp.com.",
    "https://us19-api.mailchimp.com",
    "https://us19xapi.mailchimp.com",
    "https://evil.us19.api.mailchimp.com",
    "https://us.api.mailchimp.com",
    "https://19.api.mailchimp.com",
    "https://us١٩.api.mailchimp.com",
    "https://uѕ19.api.mailchimp.com",
    "https://api.mailchimp.com",
    "https://169.254.169.254",
    "http://127.0.0.1:8086",
    "http://127.0.0.1:8085/x",
    "http://127.0.0.1:8085@evil.example",
    "//us19.api.mailchimp.com",
    "us19.api.mailchimp.com",
]


@pytest.mark.parametrize("root", STRANGERS)
@pytest.mark.parametrize("override", [None, "", SANDBOX])
def test_a_strangers_address_is_refused(root: str, override: str | None) -> None:
    with pytest.raises(ApiRootRefused) as caught:
        validate_api_root(root, override)
    assert "evil" not in str(caught.value)


def test_the_configured_address_is_fine_and_nothing_like_it() -> None:
    assert validate_api_root(SANDBOX, SANDBOX + "/") == SANDBOX
    assert validate_api_root("http://[::1]:8085", "http://[::1]:8085") == "http://[::1]:8085"


def test_a_configured_pattern_takes_any_data_centre_and_nothing_else() -> None:
    pattern = "https://{dc}.mailchimp-proxy.example"
    assert validate_api_root("https://us7.mailchimp-proxy.example", pattern) == "https://us7.mailchimp-proxy.example"
    for stranger in ("https://evil.example/.mailchimp-proxy.example", "https://us7.mailchimp-proxy-example"):
        with pytest.raises(ApiRootRefused):
            validate_api_root(stranger, pattern)


@pytest.mark.parametrize(
    "override",
    ["http://user@127.0.0.1:8085", "http://127.0.0.1:99999", "http://127.0.0.1:8085/3.0", "file:///etc", "x"],
)
def test_a_configured_address_must_be_one(override: str) -> None:
    with pytest.raises(ApiRootRefused, match="nothing more"):
        validate_api_root(override, override)
    with pytest.raises(ApiRootRefused, match="nothing more"):
        api_root_for_key(KEY, override)
