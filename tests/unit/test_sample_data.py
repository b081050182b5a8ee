"""The sample that demo, serve and benchmark stand on: the same every time, and with all the faults that it promises."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import duckdb
import pytest

from dev import bench_data, demo
from dev.sample_data.people import FOUND_BEFORE_SENDING, Fault, Person
from dev.sample_data.sample import SMALLEST, SampleData, SampleSegment, expected_books, make_sample
from dev.sample_data.upload import Entity, csv_bytes, entity_of, upload_model, upload_plain_folder
from dev.sandbox.addresses import objection
from shared.segments.locations import LocationResolver
from shared.segments.model_json import parse_model

WHEN = datetime(2026, 11, 22, 14, 5, tzinfo=UTC)


class FakeContainer:
    """Keeps what is uploaded."""

    url = "http://127.0.0.1:10000/devstoreaccount1/segments"

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def upload_blob(self, name: str, data: Any, **_: Any) -> None:
        self.blobs[name] = data if isinstance(data, bytes) else data.read()


@pytest.fixture(scope="module")
def sample() -> SampleData:
    return make_sample()


@pytest.fixture
def container() -> Any:
    return FakeContainer()


def _people(sample: SampleData) -> Iterator[Person]:
    for segment in sample.all_segments:
        yield from segment.people


def test_the_same_seed_makes_the_same_sample_and_another_seed_another() -> None:
    assert make_sample(500, seed=1) == make_sample(500, seed=1)
    assert make_sample(500, seed=1) != make_sample(500, seed=2)


def test_the_smallest_sample_shows_all_and_a_smaller_one_is_refused() -> None:
    assert make_sample(SMALLEST).left
    with pytest.raises(ValueError, match="too few"):
        make_sample(SMALLEST - 1)


def test_there_are_twenty_thousand_people_in_three_overlapping_segments(sample: SampleData) -> None:
    keys = [{person.key for person in segment.people} for segment in sample.segments]
    assert len(keys) == 3
    assert len(set.union(*keys)) > 20_000
    for one in range(3):
        for other in range(one):
            assert len(keys[one] & keys[other]) > 100


def test_every_fault_occurs_in_every_large_segment(sample: SampleData) -> None:
    for segment in sample.segments:
        assert {person.fault for person in segment.people} == set(Fault)


def test_addresses_are_reserved_ones_except_those_that_are_wrong_on_purpose(sample: SampleData) -> None:
    for person in _people(sample):
        if person.fault in (Fault.NONE, Fault.WRONG_VALUE):
            assert person.key.endswith(".example"), person.email
            assert objection(person.email.strip()) is None
            assert person.email.isascii()


def test_what_only_mailchimp_refuses_is_refused_by_the_sandbox(sample: SampleData) -> None:
    refused = [person for person in _people(sample) if person.fault is Fault.ONLY_MAILCHIMP_KNOWS]
    assert refused
    assert all(objection(person.email.strip()) for person in refused)


def test_what_is_marked_as_found_before_sending_would_be_refused_by_the_sandbox_too(sample: SampleData) -> None:
    for person in _people(sample):
        if person.fault in FOUND_BEFORE_SENDING - {Fault.WRONG_VALUE}:
            assert objection(person.email.strip()), person.email


def test_customer_ids_are_32_hexadecimal_digits_and_no_two_people_share_one(sample: SampleData) -> None:
    for segment in sample.all_segments:
        ids = [person.values[0] for person in segment.people]
        assert len(set(ids)) == len(ids)
        assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in ids)


def test_some_addresses_come_twice_in_one_segment_in_other_letter_case(sample: SampleData) -> None:
    for segment in sample.segments:
        spellings: dict[str, set[str]] = {}
        for person in segment.people:
            spellings.setdefault(person.key, set()).add(person.email.strip())
        assert any(len(found) > 1 for found in spellings.values())


def test_names_come_in_many_alphabets(sample: SampleData) -> None:
    first_names = "".join({person.values[1] for person in _people(sample)})
    for letter in "İşҚәΓή陽さفנ":
        assert letter in first_names


def test_some_cells_would_be_formulas_in_a_spreadsheet_and_some_need_quotation_marks(sample: SampleData) -> None:
    cells = {value for person in _people(sample) for value in person.values}
    for start in ("=", "+", "@"):
        assert any(cell.startswith(start) for cell in cells)
    for inside in ('"', ",", "\n"):
        assert any(inside in cell for cell in cells)


def test_the_expected_books_balance_and_every_column_is_used(sample: SampleData) -> None:
    books = expected_books(sample.all_segments)
    assert books.rows_read == sum(len(segment.people) for segment in sample.all_segments)
    assert books.rows_read == books.invalid + books.duplicates + books.merged + books.members
    assert min(books.invalid, books.duplicates, books.merged, books.members) > 0


def test_the_expected_books_count_a_small_example_by_hand() -> None:
    def person(email: str, fault: Fault = Fault.NONE) -> Person:
        return Person(("id", "", "", email, "", "", "", "", "", "", "", ""), fault)

    first = SampleSegment("A", ("EMail",), (person("a@x.example"), person(" A@x.example"), person("b@x.example")))
    second = SampleSegment("B", ("EMail",), (person("A@X.example"), person("", Fault.NO_ADDRESS)))
    books = expected_books([first, second])
    assert (books.rows_read, books.invalid, books.duplicates, books.merged, books.members) == (5, 1, 1, 1, 2)


def test_contacts_that_left_are_people_of_the_segments_and_strangers_are_not(sample: SampleData) -> None:
    keys = {person.key for person in _people(sample) if person.fault is Fault.NONE}
    statuses = Counter(contact.get("status", "subscribed") for contact in sample.contacts)
    assert sample.left <= keys
    assert not sample.strangers & keys
    assert set(statuses) == {"subscribed", "unsubscribed", "cleaned", "archived", "pending"}
    assert any(contact.get("forgotten") for contact in sample.contacts)
    assert any(contact.get("compliance") for contact in sample.contacts)
    addresses = [contact["email_address"] for contact in sample.contacts]
    assert len(set(addresses)) == len(addresses)


def test_files_lie_where_customer_insights_writes_them(container: Any) -> None:
    entity = entity_of("Lapsed in 2026", ("CustomerId", "EMail"), [("1", "a@x.example"), ("2", "b@x.example")], 1)
    model = upload_model(container, [entity], refreshed_at=WHEN, export_name="My export", instance_id="abc")
    folder = "CustomerInsights_abc/My export"
    assert model == f"{folder}/model.json"
    assert {name: data for name, data in container.blobs.items() if name != model} == {
        f"{folder}/Lapsed in 2026/2026/11/22/1405/Lapsed in 2026_1.csv": b"1,a@x.example\n",
        f"{folder}/Lapsed in 2026/2026/11/22/1405/Lapsed in 2026_2.csv": b"2,b@x.example\n",
    }


def test_locations_are_absolute_escaped_and_lead_the_product_to_the_files(container: Any) -> None:
    entity = entity_of("Élite & more", ("CustomerId", "EMail"), [("1", "a@x.example")])
    name = upload_model(container, [entity], refreshed_at=WHEN)
    (found,) = parse_model(container.blobs[name], name)
    (partition,) = found.partitions
    address = urlsplit(partition.location)
    assert address.netloc == "127.0.0.1:10000"
    assert " " not in partition.location
    assert partition.location.isascii()
    assert unquote(address.path).removeprefix("/devstoreaccount1/segments/") in container.blobs
    resolved = LocationResolver(container.url).resolve(partition.location, name, "x")
    assert resolved.name in container.blobs


def test_the_model_says_what_the_product_needs_to_read_the_files(container: Any, sample: SampleData) -> None:
    segment = sample.segments[1]
    name = upload_model(container, [entity_of(segment.name, segment.columns, segment.rows)], refreshed_at=WHEN)
    (entity,) = parse_model(container.blobs[name], name)
    assert entity.error is None
    assert len(entity.partitions) > 1
    assert not any(partition.format.has_header for partition in entity.partitions)
    types = {field.name: field.data_type for field in entity.fields}
    assert types["LoyaltyPoints"] == "int64"
    assert types["BirthDate"] == "dateTime"
    assert {field.name: field.semantic_type for field in entity.fields}["EMail"] == "IdentityServiceEmail"
    data = b"".join(content for blob, content in container.blobs.items() if blob.endswith(".csv"))
    rows = [tuple(row) for row in csv.reader(io.StringIO(data.decode(), newline=""))]
    assert rows == list(segment.rows)


def test_the_model_is_written_after_the_files_that_it_names(container: Any) -> None:
    name = upload_model(container, [entity_of("A", ("EMail",), [("a@x.example",)])], refreshed_at=WHEN)
    assert list(container.blobs)[-1] == name


def test_an_entity_without_rows_has_one_empty_file() -> None:
    assert entity_of("Empty", ("EMail",), []).files == (b"",)


def test_the_plain_folder_has_a_header_line_and_other_separators(container: Any) -> None:
    name = upload_plain_folder(container, "Store visitors", ("EMail", "City"), [("a@x.example", "Bonn; Köln")])
    assert name == "Store visitors/store-visitors.csv"
    assert container.blobs[name].decode() == 'EMail;City\na@x.example;"Bonn; Köln"\n'


def test_benchmark_people_are_distinct_and_files_are_made_once(tmp_path: Path) -> None:
    files = bench_data.people_files(1000, tmp_path)
    rows = [row for file in files for row in csv.reader(file.read_text(encoding="utf-8").splitlines())]
    assert len(files) == 10
    assert {len(row) for row in rows} == {len(bench_data.ATTRIBUTES)} == {8}
    assert len({row[0] for row in rows}) == len({row[3] for row in rows}) == len(rows) == 1000
    assert all(objection(row[3]) is None for row in rows)
    before = [file.stat().st_mtime_ns for file in files]
    assert [file.stat().st_mtime_ns for file in bench_data.people_files(1000, tmp_path)] == before


def test_benchmark_parquet_holds_the_same_rows_under_their_names(tmp_path: Path) -> None:
    plain, parquet = (bench_data.people_files(100, tmp_path, file_format)[3] for file_format in ("csv", "parquet"))
    with duckdb.connect() as connection:
        found = connection.read_parquet(str(parquet))
        assert found.columns == [attribute.name for attribute in bench_data.ATTRIBUTES]
        rows = [tuple(str(value) for value in row) for row in found.fetchall()]
    assert rows == [tuple(row) for row in csv.reader(plain.read_text(encoding="utf-8").splitlines())]


def test_benchmark_segments_overlap_by_a_fifth_and_cover_everybody() -> None:
    uses = Counter(number for files in bench_data.OVERLAPPING.values() for number in files)
    assert set(uses) == set(range(bench_data.FILES))
    assert sum(uses.values()) == 12


def test_benchmark_entities_are_uploaded_from_the_files_where_they_lie(tmp_path: Path, container: Any) -> None:
    files = bench_data.people_files(100, tmp_path)
    name = upload_model(container, bench_data.entities(bench_data.SINGLE, files), refreshed_at=WHEN)
    document = json.loads(container.blobs[name])
    assert len(document["entities"][0]["partitions"]) == 10
    assert sum(data.count(b"\n") for blob, data in container.blobs.items() if blob.endswith(".csv")) == 100


def test_books_that_do_not_add_up_are_noticed_by_the_demo() -> None:
    names = ("invalid", "duplicates", "merged", "unchanged", "suppressed", "notSent", "created", "updated", "rejected")
    books = dict.fromkeys(names, 1) | {"rowsRead": 9, "members": 6, "sent": 3}
    assert demo.balance(books)
    for name in books:
        assert not demo.balance({**books, name: books[name] + 1}), name


def test_values_are_quoted_only_where_they_have_to_be() -> None:
    assert csv_bytes([("a", 'b"c', "d,e", "")]) == b'a,"b""c","d,e",\n'


def test_an_entity_keeps_the_order_of_its_files() -> None:
    entity = entity_of("A", ("EMail",), [(str(number),) for number in range(5)], rows_per_file=2)
    assert entity == Entity("A", entity.attributes, (b"0\n1\n", b"2\n3\n", b"4\n"))
