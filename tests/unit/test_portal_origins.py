"""Where a sign-in may return to: pages of the portals that a setting names, and nowhere else."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.destinations.errors import ReturnToNotAllowed
from shared.settings import SettingsError, origin_of, read_settings
from tests.unit.authorization_fakes import ADA, Parts


@pytest.fixture
def parts() -> Parts:
    return Parts()


# -- pages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "https://portal.contoso.example",
        "https://portal.contoso.example/",
        "https://portal.contoso.example:443/a",
        "HTTPS://Portal.Contoso.example/a",
        "https://portal.contoso.example?a=1",
        "https://portal.contoso.example#/destinations/1",
        "https://portal.contoso.example/a?b=https://evil.example/@",
        "http://localhost:3000/a",
    ],
)
def test_pages_of_the_portals_are_taken(parts: Parts, address: str) -> None:
    parts.authorizations.begin("d1", ADA, address)


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost/a",
        "http://localhost:3001/a",
        "https://localhost:3000/a",
        "https://portal.contoso.example./",
        "https://[::1]/",
        "https://portal.contoso.example/\\evil",
        "https:/portal.contoso.example/",
        "https:portal.contoso.example",
        " https://portal.contoso.example",
        "https://portal.contoso.example/\t",
        "https://portal.contoso.example\n/",
    ],
)
def test_other_addresses_are_not(parts: Parts, address: str) -> None:
    with pytest.raises(ReturnToNotAllowed):
        parts.authorizations.begin("d1", ADA, address)


@given(rest=st.text(alphabet="/\\@?#:.%&a portal\t\n\x00é", max_size=24))
def test_whatever_follows_the_origin_stays_at_the_portal(rest: str) -> None:
    """As browsers read an address: the backslash counts as a slash (WHATWG URL)."""
    parts = Parts()
    address = f"https://portal.contoso.example{rest}"
    try:
        parts.authorizations.begin("d1", ADA, address)
    except ReturnToNotAllowed:
        return
    assert urlsplit(address.replace("\\", "/")).netloc in {"portal.contoso.example", "portal.contoso.example:443"}


# -- the setting ---------------------------------------------------------------------------------------------------

STORAGE = {"AzureWebJobsStorage": "UseDevelopmentStorage=true"}


def test_the_origins_of_portals_are_kept_as_browsers_write_them() -> None:
    given_ = (
        " https://Portal.Contoso.example , http://localhost:3000,https://portal.contoso.example:443,http://[::1]:80,"
    )
    settings = read_settings(STORAGE | {"PORTAL_ORIGINS": given_})
    assert settings.portal_origins == ("https://portal.contoso.example", "http://localhost:3000", "http://[::1]")
    assert read_settings(STORAGE).portal_origins == ()


@pytest.mark.parametrize(
    "value",
    [
        "https://portal.contoso.example/",
        "https://portal.contoso.example/app",
        "http://portal.contoso.example",
        "https://portal.contoso.example?a=1",
        "https://user@portal.contoso.example",
        "https://portal.contoso.example:0",
        "https://portal.contoso.example:65536",
        "https://*.contoso.example",
        "portal.contoso.example",
        "ftp://portal.contoso.example",
        "null",
        "*",
        "https://",
        "https://portal.contoso.example https://other.contoso.example",
        "https://portal.contoso.example,*",
    ],
)
def test_what_is_no_origin_is_refused_with_the_name_of_the_setting(value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(STORAGE | {"PORTAL_ORIGINS": value})
    assert str(caught.value).startswith("The setting PORTAL_ORIGINS must be a list of origins, separated by commas")


BEGINNINGS = st.sampled_from(["https://", "HTTPS://", "http://localhost", "http://"])
PIECES = st.sampled_from(["a", "B.c", "@", ":", "443", "/", "\\", "?", "#", "é"])


@given(text=st.builds("{}{}".format, BEGINNINGS, st.lists(PIECES, max_size=4).map("".join)))
@example(text="HTTPS://A.example:443")
@example(text="https://a@B.c")
def test_what_counts_as_an_origin_is_one(text: str) -> None:
    found = origin_of(text)
    if found is not None:
        parts = urlsplit(found)
        assert f"{parts.scheme}://{parts.netloc}" == found
        assert parts.hostname
        assert parts.username is None
