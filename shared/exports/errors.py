"""Errors of exports.

ExportError
 ├ ExportNotFound      no export has this ID
 ├ ExportRunning       the destination runs another export already
 ├ ExportEnded         the export has ended, so it cannot be canceled
 ├ DestinationNotReady steps of the set-up are missing
 ├ RejectedNotReady    the export has not ended, so its rejected profiles are not known yet
 ├ RejectedExpired     the personal data of the export has been deleted
 ├ ExportNotEnded      the export has not ended, so it cannot be resumed
 ├ NothingToResume     the export has sent everything, or had nothing to do
 ├ ResumeExpired       what the export has not sent has been deleted
 ├ AlreadyResumed      another export has resumed it
 ├ ResumeTargetChanged the destination leads to another account or audience since
 └ NewerExportSent     a newer export of the destination has sent something since
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
        super().__init__(f"Export '{export_id}' has already ended ({status}); there is nothing left to cancel.")


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
        super().__init__(
            f"Export '{export_id}' has not ended yet. Its rejected profiles can be downloaded once it has."
        )


class RejectedExpired(ExportError):
    """Raised when the personal data of an export has been deleted: with time, or with its destination."""

    code = "rejectedExpired"

    def __init__(self, export_id: str) -> None:
        super().__init__(
            f"The rejected profiles of export '{export_id}' are deleted: they have expired, or the destination was "
            "removed."
        )


class ExportNotEnded(ExportError):
    """Raised when an export that has not ended is to be resumed."""

    code = "exportNotEnded"

    def __init__(self, export_id: str) -> None:
        super().__init__(
            f"Export '{export_id}' has not ended yet. It goes on by itself, so there is nothing to resume."
        )


class NothingToResume(ExportError):
    """Raised when an export is to be resumed that has left nothing unsent."""

    code = "nothingToResume"

    def __init__(self, export_id: str, status: str) -> None:
        super().__init__(
            f"Export '{export_id}' has ended ({status}) and has left nothing unsent. To send everything again, export "
            "again."
        )


class ResumeExpired(ExportError):
    """Raised when what an export has not sent is not kept any more."""

    code = "resumeExpired"

    def __init__(self, export_id: str, days: int) -> None:
        super().__init__(
            f"What export '{export_id}' did not send is no longer kept: it is deleted after {days} days, and at once "
            "if the consent is withdrawn, the destination is removed, or the books cannot be closed. Export again "
            "instead."
        )


class AlreadyResumed(ExportError):
    """Raised when an export is to be resumed a second time."""

    code = "alreadyResumed"

    def __init__(self, export_id: str, resumed_by: str) -> None:
        super().__init__(
            f"Export '{export_id}' has already been resumed by export '{resumed_by}'. If that one has left something "
            "unsent, resume that one instead."
        )
        self.resumed_by = resumed_by


class ResumeTargetChanged(ExportError):
    """Raised when the destination of an export leads to another account or audience since."""

    code = "resumeTargetChanged"

    def __init__(self, export_id: str) -> None:
        super().__init__(
            f"Export '{export_id}' cannot be resumed: the destination has had another Mailchimp account or audience "
            "since then. Export again instead."
        )


class NewerExportSent(ExportError):
    """Raised when sending the rest of an export would set people back to older data."""

    code = "newerExportSent"

    def __init__(self, export_id: str, newer: str) -> None:
        super().__init__(
            f"Export '{newer}' of this destination is newer than '{export_id}' and has already sent something. "
            "Resuming the older one would overwrite newer data. Export again instead."
        )
        self.newer = newer
