"""Reading model.json: what is taken, and which file and property an error names."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.segments import CsvFormat, ModelInvalid, SegmentField
from shared.segments.model_json import MAX_MODEL_BYTES, Entity, check_size, parse_model

FILE = "folder/model.json"


def entity(name: str = "Vip", **changes: Any) -> dict[str, Any]:
    made = {
        "$type": "LocalEntity",
        "name": name,
        "attributes": [{"name": "EMail", "dataType": "string"}, {"name": "Age", "dataType": "int64"}],
        "partitions": [{"name": "1", "location": "Vip_1.csv"}],
    }
    made.update(changes)
    return made


def partition(**settings: Any) -> list[dict[str, Any]]:
    return [{"location": "Vip_1.csv", "fileFormatSettings": {"$type": "CsvFormatSettings", **settings}}]


def parse(*entities: Any, **root: Any) -> list[Entity]:
    return parse_model(json.dumps({"name": "Model", "version": "1.0", "entities": entities, **root}).encode(), FILE)


def test_an_entity_has_fields_and_partitions() -> None:
    (vip,) = parse(entity())
    assert vip.error is None
    assert vip.fields == (SegmentField("EMail", "string"), SegmentField("Age", "int64"))
    assert vip.partitions[0].location == "Vip_1.csv"
    assert vip.partitions[0].property_path == "entities[0].partitions[0].location"


def test_without_settings_csv_has_no_header_and_commas() -> None:
    (vip,) = parse(entity())
    assert vip.partitions[0].format == CsvFormat(has_header=False, delimiter=",", quoted=True, encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"columnHeaders": True}, {"has_header": True}),
        ({"delimiter": ";"}, {"delimiter": ";"}),
        ({"delimiter": "\t"}, {"delimiter": "\t"}),
        ({"delimiter": "\\t"}, {"delimiter": "\t"}),
        ({"delimiter": "||"}, {"delimiter": "||"}),
        ({"quoteStyle": "QuoteStyle.None"}, {"quoted": False}),
        ({"quoteStyle": "QuoteStyle.Csv", "csvStyle": "CsvStyle.QuoteAfterDelimiter"}, {"quoted": True}),
        ({"encoding": "UTF-8"}, {"encoding": "utf-8"}),
        ({"encoding": 65001}, {"encoding": "utf-8"}),
        ({"encoding": "65001"}, {"encoding": "utf-8"}),
        ({"encoding": 1252}, {"encoding": "cp1252"}),
        ({"encoding": "windows-1252"}, {"encoding": "cp1252"}),
        ({"encoding": "utf-16"}, {"encoding": "utf-16"}),
        ({"encoding": 28605}, {"encoding": "iso8859-15"}),
        ({"somethingNew": {"a": 1}}, {}),
    ],
)
def test_csv_settings_are_taken(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    (vip,) = parse(entity(partitions=partition(**settings)))
    defaults = {"has_header": False, "delimiter": ",", "quoted": True, "encoding": "utf-8"}
    assert vip.partitions[0].format == CsvFormat(**{**defaults, **expected})


def test_refresh_times_are_read_and_bad_ones_do_no_harm() -> None:
    times = ["2018-11-14T19:37:55.4375154+00:00", "2018-11-14T20:37:55+01:00", "2018-11-14T19:37:55", "soon", 5, None]
    partitions = [{"location": f"{index}.csv", "refreshTime": time} for index, time in enumerate(times)]
    (vip,) = parse(entity(partitions=partitions))
    moment = datetime(2018, 11, 14, 19, 37, 55, tzinfo=UTC)
    read = [one.refresh_time for one in vip.partitions]
    assert read == [moment.replace(microsecond=437515), moment, moment, None, None, None]


def test_annotations_and_traits_give_the_semantic_type() -> None:
    attributes = [
        {"name": "A", "annotations": [{"name": "x", "value": 1}, {"name": "type", "value": "IdentityServiceEmail"}]},
        {"name": "B", "cdm:traits": ["is.formatted", {"traitReference": "means.identity.person.firstName"}]},
        {"name": "C", "annotations": None},
    ]
    (vip,) = parse(entity(attributes=attributes))
    assert [field.semantic_type for field in vip.fields] == [
        "IdentityServiceEmail",
        "means.identity.person.firstName",
        None,
    ]


def test_unknown_properties_are_ignored_everywhere() -> None:
    odd = entity(isHidden=True)
    odd["pbi:refreshPolicy"] = {"$type": "FullRefreshPolicy"}
    odd["attributes"][0]["cdm:unknown"] = [[]]
    odd["partitions"][0]["pbi:source"] = {"start": 1}
    (vip,) = parse(odd, **{"pbi:mashup": {"deep": [1, {"er": None}]}})
    assert vip.error is None


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse_model(b"\xef\xbb\xbf" + json.dumps({"entities": [entity()]}).encode(), FILE)[0].error is None


def test_ten_thousand_attributes_are_read() -> None:
    (vip,) = parse(entity(attributes=[{"name": f"a{index}", "dataType": "string"} for index in range(10_000)]))
    assert len(vip.fields) == 10_000


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"$type": "ReferenceEntity"}, "entities[1]", "another model"),
        ({"$type": "Other"}, "entities[1].$type", "LocalEntity"),
        ({"$type": 5}, "entities[1].$type", "string"),
        ({"partitions": []}, "entities[1].partitions", "no data file"),
        ({"partitions": None}, "entities[1].partitions", "no data file"),
        ({"partitions": [{"location": None}]}, "entities[1].partitions", "no data file"),
        ({"partitions": {}}, "entities[1].partitions", "list"),
        ({"partitions": [7]}, "entities[1].partitions[0]", "dictionary"),
        ({"partitions": [{"location": 7}]}, "entities[1].partitions[0].location", "string"),
        ({"attributes": []}, "entities[1].attributes", "columns"),
        ({"attributes": "EMail"}, "entities[1].attributes", "list"),
        ({"attributes": [{"name": "a"}, {"dataType": "b"}]}, "entities[1].attributes[1].name", "required"),
        ({"attributes": [{"name": "a\ud800"}]}, "entities[1].attributes[0].name", "valid text"),
        ({"partitions": [{"location": "a\ud800"}]}, "entities[1].partitions[0].location", "valid text"),
        ({"attributes": [{"name": ""}]}, "entities[1].attributes[0].name", "at least 1"),
        ({"attributes": [{"name": "a"}, {"name": "a"}]}, "entities[1].attributes[1].name", "twice"),
        ({"partitions": partition(delimiter="")}, "entities[1].partitions[0].fileFormatSettings.delimiter", "1 to 4"),
        ({"partitions": partition(delimiter='"')}, "entities[1].partitions[0].fileFormatSettings.delimiter", "quot"),
        ({"partitions": partition(delimiter="\ud800")}, "entities[1].partitions[0].fileFormatSettings.delimiter", ""),
        (
            {"partitions": partition(columnHeaders="yes")},
            "entities[1].partitions[0].fileFormatSettings.columnHeaders",
            "",
        ),
        ({"partitions": partition(quoteStyle="X")}, "entities[1].partitions[0].fileFormatSettings.quoteStyle", "Csv"),
        ({"partitions": partition(encoding="rot13")}, "entities[1].partitions[0].fileFormatSettings.encoding", "rot13"),
        ({"partitions": partition(encoding="idna")}, "entities[1].partitions[0].fileFormatSettings.encoding", "idna"),
        ({"partitions": partition(encoding=99)}, "entities[1].partitions[0].fileFormatSettings.encoding", "99"),
        ({"partitions": partition(encoding="a\0b")}, "entities[1].partitions[0].fileFormatSettings.encoding", ""),
        ({"partitions": partition(encoding=[1])}, "entities[1].partitions[0].fileFormatSettings.encoding", ""),
        (
            {"partitions": [{"location": "a", "fileFormatSettings": {"$type": "ParquetFormatSettings"}}]},
            "entities[1].partitions[0].fileFormatSettings.$type",
            "CSV",
        ),
    ],
)
def test_a_fault_in_one_entity_is_its_own(changes: dict[str, Any], where: str, says: str) -> None:
    good, bad = parse(entity("Good"), entity("Bad", **changes))
    assert good.error is None
    assert isinstance(bad.error, ModelInvalid)
    assert (bad.error.file, bad.error.property) == (FILE, where)
    assert FILE in bad.error.message
    assert where in bad.error.message
    assert says in bad.error.message


def test_entities_of_one_name_are_both_refused_and_listed_once() -> None:
    found = parse(entity("A"), entity("B"), entity("A"))
    assert [(one.name, one.error is None) for one in found] == [("A", False), ("B", True)]
    assert "2 entities" in str(found[0].error)


@pytest.mark.parametrize(
    ("data", "where", "says"),
    [
        (b"", None, "not valid JSON"),
        (b"{", None, "line 1, column 2"),
        (b"[]", None, "JSON object"),
        (b"7", None, "JSON object"),
        (b"null", None, "JSON object"),
        (b'{"entities": "x"}', "entities", "list"),
        (b"{}", "entities", "list"),
        (b'{"entities": [3]}', "entities[0]", "JSON object"),
        (b'{"entities": [{}]}', "entities[0].name", "text"),
        (b'{"entities": [{"name": "  "}]}', "entities[0].name", "text"),
        (b'{"entities": [{"name": "' + b"x" * 300 + b'"}]}', "entities[0].name", "256"),
        (b'{"entities": [{"name": "a\\ud800"}]}', "entities[0].name", "valid text"),
        (b'{"name": "\xff"}', None, "UTF-8"),
        ('{"entities": []}'.encode("utf-16"), None, "UTF-8"),
        (b"[" * 1_000_000, None, "nested"),
        (b'{"a":' * 200_000, None, "nested"),
        (b'{"a": ' + b"9" * 10_000 + b"}", None, "not valid JSON"),
    ],
)
def test_a_fault_of_the_whole_file_names_the_file_and_the_property(data: bytes, where: str | None, says: str) -> None:
    with pytest.raises(ModelInvalid) as invalid:
        parse_model(data, FILE)
    assert (invalid.value.file, invalid.value.property) == (FILE, where)
    assert says in invalid.value.message


def test_an_absurd_size_is_refused() -> None:
    check_size(MAX_MODEL_BYTES, FILE)
    with pytest.raises(ModelInvalid, match="32 MB"):
        check_size(MAX_MODEL_BYTES + 1, FILE)
