"""Finds segments in a container: the entities of every model.json, and plain folders and files of CSV or Parquet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from azure.storage.blob import ContainerClient

from .blobs import BlobVersion, head_version, list_versions, read_whole
from .errors import ModelInvalid, SegmentError, SegmentNotExportable, SourceMissing, SourceUnreadable
from .formats import CsvFormat, Kind, PinnedModel
from .locations import BlobLocation, LocationResolver
from .matching import SegmentField
from .model_json import MAX_MODEL_BYTES, Entity, check_size, parse_model

MODEL_FILE = "model.json"
_DATA_SUFFIXES = (".csv.gz", ".csv", ".parquet")
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A file of a segment in its present version. `csv` None: Parquet."""

    blob: BlobVersion
    csv: CsvFormat | None


@dataclass(frozen=True, slots=True)
class FoundSegment:
    """A segment as it lies in storage; `error` says why it cannot be exported.

    `name` is short if no newer segment has the short name, else it is `full_name`, which is the same for good.
    `fields` are known without looking into files for Common Data Model entities only.
    """

    name: str
    full_name: str
    kind: Kind
    files: tuple[SegmentFile, ...]
    fields: tuple[SegmentField, ...] = ()
    refreshed_at: datetime | None = None
    model: PinnedModel | None = None
    error: SegmentError | None = None


@dataclass(frozen=True, slots=True)
class _ModelFolder:
    """The folder of a model.json (ends in "/", or is empty) and what in it belongs to the model."""

    folder: str
    is_root: bool
    own_folders: frozenset[str]

    def owns(self, name: str) -> bool:
        """A model at the root of the prefix owns the files beside it and the folders of its entities, so that other
        folders can stand there; any other model owns its folder with all below."""
        if not name.startswith(self.folder):
            return False
        first, slash, _ = name[len(self.folder) :].partition("/")
        return not self.is_root or not slash or first in self.own_folders


def discover(container: ContainerClient, prefix: str) -> list[FoundSegment]:
    """All segments under `prefix` (ends in "/", or is empty), by name. Raises ContainerMissing."""
    store = _Store(container, prefix)
    found: list[FoundSegment] = []
    folders: list[_ModelFolder] = []
    for model in store.models():
        entities, folder = _read_model(store, model)
        found += entities
        folders.append(folder)
    named_files = {file.blob.name for segment in found for file in segment.files}
    plain = [
        blob
        for blob in store.blobs.values()
        if blob.name not in named_files and not any(folder.owns(blob.name) for folder in folders)
    ]
    found += _plain_segments(plain, prefix)
    return sorted(_with_distinct_names(found), key=lambda segment: segment.name)


class _Store:
    """What the container holds under the prefix, and single blobs elsewhere in it as they are asked for."""

    def __init__(self, container: ContainerClient, prefix: str) -> None:
        self.container = container
        self.prefix = prefix
        self.locations = LocationResolver(container.url)
        self.blobs = {blob.name: blob for blob in list_versions(container, prefix)}
        self._snapshots: dict[str, dict[str, BlobVersion]] = {}
        self._elsewhere: dict[str, BlobVersion | None] = {}

    def models(self) -> list[BlobVersion]:
        return [blob for name, blob in sorted(self.blobs.items()) if f"/{name}".endswith(f"/{MODEL_FILE}")]

    def find(self, location: BlobLocation) -> BlobVersion | None:
        """The blob or snapshot. Where a named snapshot is gone (a folder that was copied has none), the blob itself."""
        if location.snapshot:
            folder = location.name.rpartition("/")[0]
            if folder not in self._snapshots:
                blobs = list_versions(self.container, f"{folder}/" if folder else "", snapshots=True)
                self._snapshots[folder] = {f"{blob.name}?{blob.snapshot}": blob for blob in blobs if blob.snapshot}
            if snapshot := self._snapshots[folder].get(f"{location.name}?{location.snapshot}"):
                return snapshot
        if blob := self.blobs.get(location.name):
            return blob
        if location.name not in self._elsewhere:  # outside the prefix, or written since the list was made
            self._elsewhere[location.name] = head_version(self.container, location.name)
        return self._elsewhere[location.name]


def _read_model(store: _Store, listed: BlobVersion) -> tuple[list[FoundSegment], _ModelFolder]:
    folder = listed.name[: -len(MODEL_FILE)]
    is_root = folder == store.prefix
    try:
        check_size(listed.size, listed.name)
        data, model = read_whole(store.container, listed.name, MAX_MODEL_BYTES + 1)
        entities = parse_model(data, model.name)
    except (ModelInvalid, SourceMissing) as error:
        name = listed.name[len(store.prefix) :]
        broken = FoundSegment(name, name, "commonDataModel", (), refreshed_at=listed.last_modified, error=error)
        return [broken], _ModelFolder(folder, is_root, frozenset())
    segments = [_entity_segment(store, model, folder, entity) for entity in entities]
    inside = (file.blob.name[len(folder) :] for segment in segments for file in segment.files)
    own = {path.partition("/")[0] for path in inside} | {entity.name for entity in entities}
    return segments, _ModelFolder(folder, is_root, frozenset(own))


def _entity_segment(store: _Store, model: BlobVersion, folder: str, entity: Entity) -> FoundSegment:
    error = entity.error
    files: list[SegmentFile] = []
    try:
        for partition in entity.partitions:
            location = store.locations.resolve(partition.location, model.name, partition.property_path)
            blob = store.find(location)
            if blob is None:
                raise SourceMissing(location.name)
            if any(file.blob == blob for file in files):
                raise ModelInvalid(model.name, partition.property_path, f"'{blob.name}' is named twice.")
            files.append(SegmentFile(blob, partition.format))
    except SegmentError as found:
        error = error or found
    refresh_times = [partition.refresh_time for partition in entity.partitions if partition.refresh_time]
    refreshed_at = max(refresh_times, default=None) or _newest(files)
    if refreshed_at is None and entity.partitions:
        refreshed_at = model.last_modified
    return FoundSegment(
        name=entity.name,
        full_name=f"{folder[len(store.prefix) :] or f'{MODEL_FILE}/'}{entity.name}",
        kind="commonDataModel",
        files=tuple(files),
        fields=entity.fields,
        refreshed_at=refreshed_at,
        model=PinnedModel(name=model.name, etag=model.etag),
        error=error,
    )


def _plain_segments(blobs: Sequence[BlobVersion], prefix: str) -> list[FoundSegment]:
    """A file at the root of the prefix is a segment; so is every folder with its direct files."""
    folders = {blob.name[:end] for blob in blobs for end in _slashes(blob.name)}
    groups: defaultdict[str, list[BlobVersion]] = defaultdict(list)
    for blob in blobs:
        path = blob.name[len(prefix) :]
        # A data lake lists its folders as blobs. Tools hide their own files behind "_" or "." (_delta_log, ._x.csv).
        if _suffix(path) and blob.name not in folders and not any(part[0] in "_." for part in path.split("/") if part):
            folder = path.rpartition("/")[0]
            groups[f"{folder}/" if folder else path].append(blob)
    return [_plain_segment(full_name, sorted(files, key=_name)) for full_name, files in groups.items()]


def _plain_segment(full_name: str, blobs: Sequence[BlobVersion]) -> FoundSegment:
    path = full_name.rstrip("/")
    short_name = path[: len(path) - len(_suffix(path))]
    parquet = [blob for blob in blobs if _suffix(blob.name) == ".parquet"]
    text = [blob for blob in blobs if _suffix(blob.name) != ".parquet"]
    files = tuple(SegmentFile(blob, None if blob in parquet else CsvFormat()) for blob in blobs)
    error: SegmentError | None = None
    if parquet and text:
        problem = f"its folder holds both CSV and Parquet files, such as '{text[0].name}' and '{parquet[0].name}'."
        error = SegmentNotExportable(short_name, problem)
    elif empty := next((blob for blob in blobs if blob.size == 0), None):
        error = SourceUnreadable(empty.name, None, "is empty: it does not even have a header line or a schema.")
    return FoundSegment(
        name=short_name,
        full_name=full_name,
        kind="csv" if text else "parquet",
        files=files,
        refreshed_at=_newest(files),
        error=error,
    )


def _with_distinct_names(found: Iterable[FoundSegment]) -> list[FoundSegment]:
    """The newest of several segments with one short name keeps it; the others go by their full names. One without
    data (a ReferenceEntity, a broken model) does not take the name from one that has data."""
    by_name: defaultdict[str, list[FoundSegment]] = defaultdict(list)
    for segment in found:
        by_name[segment.name].append(segment)
    distinct: list[FoundSegment] = []
    for same in by_name.values():
        newest, *others = sorted(
            same,
            key=lambda one: (one.refreshed_at is not None, one.refreshed_at or _NEVER, one.full_name),
            reverse=True,
        )
        distinct += [newest, *(replace(other, name=other.full_name) for other in others)]
    return distinct


def _newest(files: Iterable[SegmentFile]) -> datetime | None:
    return max((file.blob.last_modified for file in files), default=None)


def _suffix(path: str) -> str:
    return next((suffix for suffix in _DATA_SUFFIXES if path.lower().endswith(suffix)), "")


def _slashes(name: str) -> list[int]:
    return [index for index, character in enumerate(name) if character == "/"]


def _name(blob: BlobVersion) -> str:
    return blob.name
