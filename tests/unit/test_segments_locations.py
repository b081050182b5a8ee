"""Which blob a partition's location means, and which locations are refused."""

from __future__ import annotations

import pytest

from shared.segments.errors import LocationRefused
from shared.segments.locations import BlobLocation, LocationResolver

AZURE = "https://contosodata.blob.core.windows.net/segments"
LOCAL = "http://127.0.0.1:10000/devstoreaccount1/segments"
MODEL = "CustomerInsights_1/Export/model.json"


def resolve(location: str, container_url: str = AZURE) -> BlobLocation:
    return LocationResolver(container_url).resolve(location, MODEL, "entities[0].partitions[0].location")


@pytest.mark.parametrize(
    ("location", "blob"),
    [
        (f"{AZURE}/a/b.csv", "a/b.csv"),
        ("https://contosodata.dfs.core.windows.net/segments/a/b.csv", "a/b.csv"),
        ("https://CONTOSODATA.blob.core.windows.net/segments/a/b.csv", "a/b.csv"),
        ("https://contosodata.blob.core.windows.net:443/segments/a/b.csv", "a/b.csv"),
        ("https://contosodata-secondary.blob.core.windows.net/segments/b.csv", "b.csv"),
        ("https://contosodata.z12.blob.storage.azure.net/segments/b.csv", "b.csv"),
        (f"{AZURE}/a%20b/%C3%A9%25.csv", "a b/é%.csv"),
        (f"{AZURE}/a b/é.csv", "a b/é.csv"),
        (f"{AZURE}/a%2Fb.csv", "a/b.csv"),
        (f"{AZURE}/no%231#2.csv", "no#1#2.csv"),
        (f"{AZURE}/a%2520b.csv", "a%20b.csv"),
        ("data/b%20c.csv", "CustomerInsights_1/Export/data/b c.csv"),
        ("./b.csv", "CustomerInsights_1/Export/b.csv"),
    ],
)
def test_a_location_in_the_container_means_one_blob(location: str, blob: str) -> None:
    assert resolve(location) == BlobLocation(blob)


def test_a_snapshot_is_kept_and_a_signature_is_dropped() -> None:
    location = resolve(f"{AZURE}/b.csv?sv=2024&sig=secret&snapshot=2018-11-14T19:37:51.7526830Z")
    assert location == BlobLocation("b.csv", "2018-11-14T19:37:51.7526830Z")


@pytest.mark.parametrize(
    "location",
    [
        f"{LOCAL}/a/b.csv",
        "http://localhost:4711/devstoreaccount1/segments/a/b.csv",
        "https://devstoreaccount1.blob.core.windows.net/segments/a/b.csv",
        "https://devstoreaccount1.dfs.core.windows.net/segments/a/b.csv",
    ],
)
def test_the_emulator_takes_its_own_addresses_and_azures(location: str) -> None:
    assert resolve(location, LOCAL) == BlobLocation("a/b.csv")


def test_a_host_name_of_ones_own_is_compared_as_a_host() -> None:
    assert resolve(
        "https://data.contoso.example/segments/b.csv", "https://data.contoso.example/segments"
    ) == BlobLocation("b.csv")
    with pytest.raises(LocationRefused):
        resolve("https://other.contoso.example/segments/b.csv", "https://data.contoso.example/segments")


@pytest.mark.parametrize(
    "location",
    [
        "https://fabrikamdata.blob.core.windows.net/segments/b.csv",
        "https://contosodata.blob.core.windows.net/other/b.csv",
        "https://contosodata.blob.core.windows.net/b.csv",
        "https://contosodata.blob.core.windows.net.attacker.example/segments/b.csv",
        "https://contosodata.blob.attacker.example/segments/b.csv",
        "https://contosodata.blob.core.windows.net@attacker.example/segments/b.csv",
        "https://contosodata.file.core.windows.net/segments/b.csv",
        "https://attacker.example/contosodata/segments/b.csv",
        "http://169.254.169.254/metadata/identity",
        "http://127.0.0.1:10000/contosodata/segments/b.csv",
        "http://[::1/segments/b.csv",
        "//contosodata.blob.core.windows.net/segments/b.csv",
        "file:///etc/passwd",
        "ftp://contosodata.blob.core.windows.net/segments/b.csv",
        "C:\\data\\b.csv",
        "/etc/passwd",
        "/segments/b.csv",
        "../b.csv",
        "a/../../b.csv",
        "a/%2e%2e/b.csv",
        "a/%2E%2E%2Fb.csv",
        "..\\b.csv",
        "a%5C..%5Cb.csv",
        f"{AZURE}/../other/b.csv",
        f"{AZURE}/%2e%2e/other/b.csv",
        f"{AZURE}/",
        f"{AZURE}",
        f"{AZURE}/folder/",
        f"{AZURE}/a%00b.csv",
        f"{AZURE}/a\nb.csv",
        f"{AZURE}/%ff.csv",
    ],
)
def test_anything_else_is_refused_with_file_property_and_location(location: str) -> None:
    with pytest.raises(LocationRefused) as refused:
        resolve(location)
    assert refused.value.file == MODEL
    assert refused.value.property == "entities[0].partitions[0].location"
    assert refused.value.code == "locationRefused"
    assert MODEL in refused.value.message


def test_a_cloud_account_does_not_take_addresses_of_the_emulator_nor_the_other_way_round() -> None:
    with pytest.raises(LocationRefused):
        resolve("http://127.0.0.1:10000/contosodata/segments/b.csv", AZURE)
    with pytest.raises(LocationRefused):
        resolve(f"{AZURE}/b.csv", LOCAL)


def test_a_refusal_shows_no_signature_and_no_password() -> None:
    with pytest.raises(LocationRefused) as refused:
        resolve("https://user:hunter2@attacker.example/segments/b.csv?sv=1&sig=secret")
    assert "secret" not in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "attacker.example/segments/b.csv" in str(refused.value)
