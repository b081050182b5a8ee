"""Counts and measures what the app does: few figures, without anything about a profile.

`start` says where they go: into the log, as a line at the end of a run (log_lines.py), or to Azure Monitor with
OpenTelemetry (azure_monitor.py), which is imported only then. Before it is called they go nowhere. They are for looking
at: the books of an export are its account, and a process that is killed takes the figures of its last minute with it.
"""

from shared.telemetry.calls import calling
from shared.telemetry.instruments import BATCH_DURATION, CALLS, OPEN_CALLS, PROFILES, QUEUE_AGE, WAIT_DURATION
from shared.telemetry.sink import count, measure, telling, use
from shared.telemetry.start import start

__all__ = [
    "BATCH_DURATION",
    "CALLS",
    "OPEN_CALLS",
    "PROFILES",
    "QUEUE_AGE",
    "WAIT_DURATION",
    "calling",
    "count",
    "measure",
    "start",
    "telling",
    "use",
]
