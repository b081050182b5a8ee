"""Decides where the figures go."""

from __future__ import annotations

from shared.settings import Settings
from shared.telemetry.log_lines import LogLines
from shared.telemetry.sink import use


def start(settings: Settings) -> None:
    """Send figures into the log, or to Azure Monitor where the settings want that.

    If that cannot be set up the log says so at the end of the first run, and has the figures: no export fails because
    of its telemetry.
    """
    if settings.open_telemetry and settings.application_insights is not None:
        try:
            from shared.telemetry.azure_monitor import azure_monitor

            use(azure_monitor(settings.application_insights, settings.site_name))
        except Exception as error:  # noqa: BLE001 - a pre-release library may fail in any way; exports run, the log tells it
            use(LogLines(not_started=type(error).__name__))
    else:
        use(LogLines())
