"""Reads the `model.json` of a Common Data Model folder: entities, attributes, partitions, CSV settings.

Source of the rules: Microsoft Learn, "The Common Data Model metadata file (model.json)", and the JSON schema that
Azure-Samples/cdm-azure-data-services-integration publishes. Properties that nobody here knows are ignored, because
producers add their own (`pbi:…`, `cdm:…`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
)

from .encodings import UTF_8, codec_name
from .errors import ModelInvalid, SegmentError
from .formats import CsvFormat
from .matching import SegmentField, known_semantic_type

MAX_MODEL_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Partition:
    """A data file of an entity. `location` as written; `property_path` is where model.json says so."""

    location: str
    property_path: str
    refresh_time: datetime | None
    format: CsvFormat


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity of model.json. `error` says why it cannot be exported; the rest may then be missing."""

    name: str
    fields: tuple[SegmentField, ...]
    partitions: tuple[Partition, ...]
    error: SegmentError | None = None


def check_size(size: int, file: str) -> None:
    """Raises ModelInvalid for a model.json of more than MAX_MODEL_BYTES."""
    if size > MAX_MODEL_BYTES:
        raise ModelInvalid(
            file, None, f"is larger than {MAX_MODEL_BYTES // 1024**2} MB, which no model.json should be."
        )


def parse_model(data: bytes, file: str) -> list[Entity]:
    """The entities of the model.json `file`, in order; one name comes once. A fault inside an entity is that entity's
    `error`, a fault around them raises ModelInvalid."""
    check_size(len(data), file)
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ModelInvalid(file, None, "is not UTF-8 text.") from None
    except RecursionError:
        raise ModelInvalid(file, None, "is nested too deeply to be a model.json.") from None
    except json.JSONDecodeError as error:
        raise ModelInvalid(file, None, f"is not valid JSON (line {error.lineno}, column {error.colno}).") from None
    except ValueError:
        raise ModelInvalid(file, None, "is not valid JSON.") from None
    if not isinstance(document, dict):
        raise ModelInvalid(file, None, "must be a JSON object.")
    entities = document.get("entities")
    if not isinstance(entities, list):
        raise ModelInvalid(file, "entities", "must be a list of entities.")
    named = [(_entity_name(raw, file, f"entities[{index}]"), raw) for index, raw in enumerate(entities)]
    return _entities(named, file)


def _entity_name(raw: Any, file: str, path: str) -> str:
    if not isinstance(raw, dict):
        raise ModelInvalid(file, path, "must be a JSON object.")
    name = raw.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > 256:
        raise ModelInvalid(file, f"{path}.name", "must be a text of 1 to 256 characters.")
    try:
        return _valid_text(name)
    except ValueError as error:
        raise ModelInvalid(file, f"{path}.name", f"{error}.") from None


def _entities(named: list[tuple[str, Mapping[str, Any]]], file: str) -> list[Entity]:
    uses = Counter(name for name, _ in named)
    entities: dict[str, Entity] = {}
    for index, (name, raw) in enumerate(named):
        path = f"entities[{index}]"
        if uses[name] > 1:
            problem = f"the name '{name}' is used by {uses[name]} entities."
            entities[name] = Entity(name, (), (), ModelInvalid(file, f"{path}.name", problem))
            continue
        try:
            entities[name] = _entity(name, raw, file, path)
        except ModelInvalid as error:
            entities[name] = Entity(name, (), (), error)
    return list(entities.values())


def _entity(name: str, raw: Mapping[str, Any], file: str, path: str) -> Entity:
    if raw.get("$type", "LocalEntity") == "ReferenceEntity":
        reason = "is a ReferenceEntity: its data belongs to another model. Export the segment from where it is stored."
        return Entity(name, (), (), ModelInvalid(file, path, reason))
    try:
        parsed = _EntityJson.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ModelInvalid(file, path + _path(first["loc"]), f"{first['msg']}.") from None
    if parsed.type != "LocalEntity":
        raise ModelInvalid(file, f"{path}.$type", "must be LocalEntity or ReferenceEntity.")
    fields = _fields(parsed, file, path)
    partitions = tuple(
        _partition(partition, partition.location, file, f"{path}.partitions[{index}]")
        for index, partition in enumerate(parsed.partitions or ())
        if partition.location  # without one it describes columns only
    )
    problem: ModelInvalid | None = None
    if not partitions:
        problem = ModelInvalid(file, f"{path}.partitions", "names no data file: the entity has no rows to export.")
    elif not fields:
        problem = ModelInvalid(file, f"{path}.attributes", "must name the columns.")
    return Entity(name, fields, partitions, problem)


def _fields(entity: _EntityJson, file: str, path: str) -> tuple[SegmentField, ...]:
    seen: set[str] = set()
    for index, attribute in enumerate(entity.attributes):
        if attribute.name in seen:
            raise ModelInvalid(file, f"{path}.attributes[{index}].name", f"'{attribute.name}' appears twice.")
        seen.add(attribute.name)
    return tuple(
        SegmentField(attribute.name, attribute.data_type, _semantic_type(attribute)) for attribute in entity.attributes
    )


def _semantic_type(attribute: _AttributeJson) -> str | None:
    for note in (*(attribute.annotations or ()), *(attribute.traits or ())):
        texts = note.values() if isinstance(note, dict) else (note,)
        for text in texts:
            if isinstance(text, str) and known_semantic_type(text):
                return text
    return None


def _partition(partition: _PartitionJson, location: str, file: str, path: str) -> Partition:
    settings = partition.format
    path_of_settings = f"{path}.fileFormatSettings"

    def invalid(name: str, problem: str) -> ModelInvalid:
        return ModelInvalid(file, f"{path_of_settings}.{name}", problem)

    if settings.type != "CsvFormatSettings":
        raise invalid("$type", "must be CsvFormatSettings; other files than CSV are not read from a model.json.")
    delimiter = "\t" if settings.delimiter == "\\t" else settings.delimiter
    if not 1 <= len(delimiter.encode()) <= 4 or set(delimiter) & set('"\r\n\0'):
        raise invalid("delimiter", "must be 1 to 4 characters and no quotation mark or line break.")
    quote_style = settings.quote_style.removeprefix("QuoteStyle.").lower()
    if quote_style not in ("csv", "none"):
        raise invalid("quoteStyle", "must be QuoteStyle.Csv or QuoteStyle.None.")
    encoding = codec_name(settings.encoding)
    if encoding is None:
        raise invalid("encoding", f"'{settings.encoding[:40]}' is not a known text encoding.")
    return Partition(
        location,
        f"{path}.location",
        partition.refresh_time,
        CsvFormat(
            has_header=settings.column_headers,
            delimiter=delimiter,
            quoted=quote_style == "csv",
            encoding=encoding,
        ),
    )


def _path(parts: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _valid_text(text: str) -> str:
    """JSON can write half a character (\\ud800), which no file, column or tag can be called."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid text") from None
    return text


def _digits(value: object) -> object:
    """Code pages come as numbers too: 65001."""
    return str(value) if type(value) is int else value


def _time_or_none(value: object) -> datetime | None:
    """A refresh time is only shown, never needed: one that cannot be read counts as absent. Without a zone: UTC."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value.strip())
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


_Time = Annotated[datetime | None, BeforeValidator(_time_or_none)]
_Text = Annotated[StrictStr, AfterValidator(_valid_text)]
_Encoding = Annotated[StrictStr, BeforeValidator(_digits)]
_Name = Annotated[_Text, Field(min_length=1, max_length=256)]


class _CsvJson(BaseModel):
    type: StrictStr = Field(default="CsvFormatSettings", validation_alias="$type")
    column_headers: StrictBool = Field(default=False, validation_alias="columnHeaders")
    delimiter: _Text = ","
    quote_style: StrictStr = Field(default="QuoteStyle.Csv", validation_alias="quoteStyle")
    encoding: _Encoding = UTF_8
    # csvStyle tells writers when to quote; reading is the same for both.


class _PartitionJson(BaseModel):
    location: _Text | None = None
    refresh_time: _Time = Field(None, validation_alias="refreshTime")
    settings: _CsvJson | None = Field(default=None, validation_alias="fileFormatSettings")

    @property
    def format(self) -> _CsvJson:
        return self.settings or _CsvJson()


class _AttributeJson(BaseModel):
    name: _Name
    data_type: StrictStr = Field(default="unclassified", validation_alias="dataType")
    annotations: list[Any] | None = None
    traits: list[Any] | None = Field(default=None, validation_alias="cdm:traits")


class _EntityJson(BaseModel):
    type: StrictStr = Field(default="LocalEntity", validation_alias="$type")
    attributes: list[_AttributeJson] = Field(default_factory=list)
    partitions: list[_PartitionJson] | None = None
