"""Which addresses Mailchimp takes, and the number by which it knows a member."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

# No spaces, control characters or quotes; no leading, trailing or double dots; a domain of at least two labels.
_LOCAL_PART = re.compile(r"[^\s\x00-\x1f\x7f@\"(),:;<>\[\]\\.]+(?:\.[^\s\x00-\x1f\x7f@\"(),:;<>\[\]\\.]+)*")
_DOMAIN = re.compile(
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+(?:[^\W\d_]{2,63}|xn--[a-z0-9-]{2,59})",
    re.IGNORECASE,
)
_FAKE_DOMAINS = frozenset(
    {
        "example.com",
        "example.net",
        "example.org",
        "mailinator.com",
        "guerrillamail.com",
        "10minutemail.com",
        "yopmail.com",
        "trashmail.com",
    }
)
_FAKE_ENDINGS = (".con",)

NOT_VALID = "Please provide a valid email address."
LOOKS_FAKE = "{} looks fake or invalid, please enter a real email address."


def subscriber_key(address: str) -> bytes:
    """The MD5 of the lower-case address: its hexadecimal form is Mailchimp's `subscriber_hash`."""
    return hashlib.md5(address.lower().encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()


def objection(address: str) -> str | None:
    """Mailchimp's sentence against a (trimmed) address, or None when the address is fine."""
    local_part, _, domain = address.rpartition("@")
    sentence = _domain_objection(domain)
    if sentence is NOT_VALID or len(address) > 254 or not _LOCAL_PART.fullmatch(local_part):
        return NOT_VALID
    return None if sentence is None else sentence.format(address)


@lru_cache(maxsize=10_000)
def _domain_objection(domain: str) -> str | None:
    if not _DOMAIN.fullmatch(domain):
        return NOT_VALID
    domain = domain.lower()
    return LOOKS_FAKE if domain in _FAKE_DOMAINS or domain.endswith(_FAKE_ENDINGS) else None
