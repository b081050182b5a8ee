"""Sends metrics and spans to Azure Monitor. It takes a second to import: only where OPEN_TELEMETRY is on.

OpenTelemetry's global providers stay unset: with them FastAPI would make spans of its own, which show the query of the
address that a sign-in returns to. The exporter signs in as APPLICATIONINSIGHTS_AUTHENTICATION_STRING says, like the
Functions host. Log lines go through the host as ever: alerts and the workbook read them there (docs/decisions/0021).
"""

from __future__ import annotations

import os

from azure.monitor.opentelemetry.exporter import AzureMonitorMetricExporter, AzureMonitorTraceExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from shared.telemetry.open_telemetry import OpenTelemetry

_NAME = "segments-to-mailchimp"
_OFF = (
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",
    "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED",
)
"""What the exporter would add of its own: it tells Microsoft how it is used, asks Microsoft for settings, and counts
what it sends. It talks to nobody but the resource of the connection string."""


def azure_monitor(connection_string: str, site_name: str | None) -> OpenTelemetry:
    """Metrics once a minute, spans in batches, to the Application Insights resource of the connection string.

    ``site_name``: shown as its role, so that they stand beside the host's own. Raises ValueError for a connection
    string that is none.
    """
    for name in _OFF:
        os.environ.setdefault(name, "true")
    role = Resource({"service.name": site_name or _NAME})
    metrics = AzureMonitorMetricExporter(connection_string=connection_string, disable_offline_storage=True)
    spans = AzureMonitorTraceExporter(connection_string=connection_string, disable_offline_storage=True)
    meters = MeterProvider([PeriodicExportingMetricReader(metrics)], resource=role)
    tracers = TracerProvider(ALWAYS_ON, role)
    tracers.add_span_processor(BatchSpanProcessor(spans))
    return OpenTelemetry(meters, tracers)
