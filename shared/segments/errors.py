"""What can be wrong with segments in storage.

    SegmentError
    ├── SegmentNotFound        nothing of that name is under the prefix
    ├── SegmentNotExportable   it is there, but has no rows that could be exported
    ├── ContainerMissing       the configured container is not there
    ├── ModelInvalid           a model.json does not say what it should
    ├── LocationRefused        a model.json names a file outside the configured account and container
    ├── SourceMissing          a file is not there (any more)
    ├── SourceChanged          a file is not the version that was pinned
    └── SourceUnreadable       a file is cut off or does not parse

Messages are written for an administrator and never hold the contents of a file. None of these heals by trying again
at once. Faults of the storage service (time-outs, 5xx) are not in this tree: they stay `azure.core` exceptions.
"""

from __future__ import annotations

from typing import ClassVar


class SegmentError(Exception):
    """Base of all errors about segments: `code` for programs, `message` for people, `target` for what it is about."""

    code: ClassVar[str] = "segmentError"

    def __init__(self, message: str, target: str) -> None:
        super().__init__(message)
        self.message = message
        self.target = target


class SegmentNotFound(SegmentError):
    """No segment has this name, neither a short nor a full one."""

    code = "segmentNotFound"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no segment '{name}'. It may have been renamed or deleted: choose it again from the list.", name
        )


class SegmentNotExportable(SegmentError):
    """The segment is known but cannot be exported, for the `reason` given."""

    code = "segmentNotExportable"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The segment '{name}' cannot be exported: {reason}", name)
        self.reason = reason


class ContainerMissing(SegmentError):
    """The container that is configured for segments does not exist."""

    code = "containerMissing"

    def __init__(self, container: str) -> None:
        super().__init__(
            f"The storage account has no container '{container}'. Create it, or correct the setting "
            "SEGMENTS_CONTAINER.",
            container,
        )


class ModelInvalid(SegmentError):
    """`property` of the model.json `file` is wrong; the property is a path such as entities[0].attributes[2].name."""

    code = "modelInvalid"

    def __init__(self, file: str, property_path: str | None, problem: str) -> None:
        where = f"'{file}', {property_path}" if property_path else f"'{file}'"
        super().__init__(f"{where}: {problem}", file)
        self.file = file
        self.property = property_path


class LocationRefused(SegmentError):
    """The model.json `file` names a data file that this product must not read."""

    code = "locationRefused"

    def __init__(self, file: str, property_path: str, location: str, problem: str) -> None:
        # What follows "?" may be a shared access signature, what stands before "@" a password: not for error texts.
        shown = location.partition("?")[0].rpartition("@")[2][:300]
        super().__init__(f"'{file}', {property_path} is refused: '{shown}' {problem}.", file)
        self.file = file
        self.property = property_path
        self.location = shown


class SourceMissing(SegmentError):
    """A file of the segment does not exist."""

    code = "sourceMissing"

    def __init__(self, file: str) -> None:
        super().__init__(f"The file '{file}' is missing. Refresh the segment, then export again.", file)
        self.file = file


class SourceChanged(SegmentError):
    """A file was replaced after the export had pinned it."""

    code = "sourceChanged"

    def __init__(self, file: str) -> None:
        super().__init__(f"The file '{file}' was changed while it was being read. Export again.", file)
        self.file = file


class SourceUnreadable(SegmentError):
    """A file is not what it should be. `row` counts records as a spreadsheet does; None if it is about the file."""

    code = "sourceUnreadable"

    def __init__(self, file: str, row: int | None, problem: str) -> None:
        where = f"The file '{file}'" if row is None else f"Row {row} of '{file}'"
        super().__init__(f"{where} {problem}", file)
        self.file = file
        self.row = row
