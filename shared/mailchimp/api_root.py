"""Which addresses a Mailchimp token may be sent to: the guard against handing it to a stranger's server.

An API key ends in its data centre (`…-us19`), whose API is at https://us19.api.mailchimp.com (Mailchimp Marketing API,
"Fundamentals"). Anything else is refused unless the operator configured exactly that address (`MAILCHIMP_API_URL`,
`MAILCHIMP_LOGIN_URL`). A configured address may hold `{dc}` in place of the data centre.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from shared.mailchimp.errors import ApiKeyMalformed, ApiRootRefused

_DATA_CENTRE = r"[a-z]{2,10}[0-9]{1,4}"
_KEY = re.compile(rf"[A-Za-z0-9_-]{{4,128}}-({_DATA_CENTRE})")
_TOKEN = re.compile(r"[!-~]{4,512}")  # what fits into a header: visible ASCII, no blanks
_API_ROOT = re.compile(rf"https://{_DATA_CENTRE}\.api\.mailchimp\.com")


def api_root_for_key(key: str, override: str | None = None) -> str:
    """The API root (without /3.0) for an API key, e.g. "https://us19.api.mailchimp.com".

    override: the configured address, used instead; `{dc}` in it becomes the key's data centre.
    Raises ApiKeyMalformed if the key does not end in a data centre, ApiRootRefused if the override is no usable
    address.
    """
    match = _KEY.fullmatch(key.strip())
    if match is None:
        raise ApiKeyMalformed(
            "This is not a Mailchimp API key: a key ends in its data centre, for example -us19.",
            action=(
                "Copy the whole key from Mailchimp (Account & billing, Extras, API keys), including the part "
                "after the last hyphen."
            ),
        )
    if not override:
        return f"https://{match[1]}.api.mailchimp.com"
    return require_address(override.replace("{dc}", match[1]))


def validate_api_root(url: str, allowed_override: str | None = None) -> str:
    """`url` without a final slash, if a token may be sent there; ApiRootRefused otherwise.

    allowed_override: the configured address, the only one besides https://<data centre>.api.mailchimp.com. For the
    `api_endpoint` that Mailchimp's OAuth metadata names, and for an address read back from storage.
    """
    root = url.removesuffix("/")
    if _API_ROOT.fullmatch(root):
        return root
    if allowed_override and _matches_override(root, allowed_override.removesuffix("/")):
        return require_address(root)
    raise ApiRootRefused(
        "The address is not one of Mailchimp's (https://<data centre>.api.mailchimp.com); nothing was sent to it.",
        action="Connect the destination to Mailchimp again. For a test server, set MAILCHIMP_API_URL to its address.",
    )


def require_address(url: str) -> str:
    """`url` without a final slash, if it is http(s)://host[:port] and nothing more; ApiRootRefused otherwise."""
    root = url.removesuffix("/")
    try:
        parts = urlsplit(root)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_fine = urlsplit(""), False
    plain = re.fullmatch(r"https?://[A-Za-z0-9.\-]+(?::[0-9]{1,5})?|https?://\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?", root)
    if not (port_is_fine and plain and parts.hostname):
        raise ApiRootRefused(
            "The address of Mailchimp's API must be http(s)://host or http(s)://host:port and nothing more.",
            action="Correct MAILCHIMP_API_URL or MAILCHIMP_LOGIN_URL in the app's settings.",
        )
    return root


def require_token(token: str) -> str:
    """The token without surrounding blanks, if it can stand in a header; ApiKeyMalformed otherwise."""
    stripped = token.strip()
    if not _TOKEN.fullmatch(stripped):
        raise ApiKeyMalformed(
            "The Mailchimp key or token is empty, or has characters that no key has.",
            action="Enter the API key again, or sign in to Mailchimp again.",
        )
    return stripped


def _matches_override(root: str, override: str) -> bool:
    before, placeholder, after = override.partition("{dc}")
    if not placeholder:
        return root == override
    return re.fullmatch(re.escape(before) + _DATA_CENTRE + re.escape(after), root) is not None
