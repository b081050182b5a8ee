"""Errors of exports.

ExportError
 ├ ExportNotFound      no export has this ID
 ├ ExportRunning       the destination runs another export already
 ├ ExportEnded         the export has ended, so it cannot be canceled
 ├ DestinationNotReady steps of the set-up are missing
 ├ RejectedNotReady    the export has not ended, so its rejected profiles are not known yet
 └ RejectedExpired     the personal data of the export has been deleted
"""

from __future__ import annotations


class ExportError(Exception):
    """An export cannot do what was asked; the message says why and what to do."""

    code = "exportError"


class ExportNotFound(ExportError):
    """Raised when no export has the ID."""

    code = "exportNotFound"

    def __init__(self, export_id: str) -> None:
        super().__init__(f"There is no export with the ID '{export_id}'.")


class ExportRunning(ExportError):
    """Raised when a destination is asked for a second export at the same time."""

    code = "exportRunning"

    def __init__(self, export_id: str) -> None:
        super().__init__(
            f"Export '{export_id}' of this destination is still running. Wait until it has ended, or cancel it."
        )
        self.export_id = export_id


class ExportEnded(ExportError):
    """Raised when an export that has ended is to be canceled."""

    code = "exportEnded"

    def __init__(self, export_id: str, status: str) -> None:
        super().__init__(f"Export '{export_id}' has ended as {status}; there is nothing left to cancel.")


class DestinationNotReady(ExportError):
    """Raised when an export is asked of a destination whose set-up is not complete."""

    code = "destinationNotReady"

    def __init__(self, steps: list[str]) -> None:
        super().__init__(f"The destination is not ready. Still to do: {'; '.join(steps)}.")
        self.steps = steps


class RejectedNotReady(ExportError):
    """Raised when the rejected profiles of an export are asked for before it has ended."""

    code = "rejectedNotReady"

    def __init__(self, export_id: str) -> None:
        super().__init__(f"Export '{export_id}' has not ended yet. Its rejected profiles are listed when it has.")


class RejectedExpired(ExportError):
    """Raised when the personal data of an export has been deleted: with time, or with its destination."""

    code = "rejectedExpired"

    def __init__(self, export_id: str) -> None:
        super().__init__(
            f"The personal data of export '{export_id}' was deleted: it had expired, or the destination was removed."
        )
