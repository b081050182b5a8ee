"""What can keep the host from starting, and what ends an invocation.

HostError                a sentence for the person who started the host; exit code 1
├── ConfigError          host.json or local.settings.json cannot be read or holds a wrong value
├── SettingMissingError  a setting that a trigger, an output or a %NAME% needs is not set
└── AppError             function_app.py cannot run here: what it declares is wrong or not imitated
InvocationError          a function raised, or its outputs could not be sent
"""

from __future__ import annotations


class HostError(Exception):
    """The host cannot start; the text is one sentence that says why."""


class ConfigError(HostError):
    """host.json or local.settings.json cannot be read or holds a wrong value."""


class SettingMissingError(HostError):
    """A setting that is needed is not set."""

    def __init__(self, name: str, needed_by: str) -> None:
        super().__init__(f"The setting {name} is missing: {needed_by} needs it. Set it in the environment.")
        self.name = name


class AppError(HostError):
    """function_app.py cannot run here: what it declares is wrong or not imitated."""


class InvocationError(Exception):
    """A function raised, or its outputs could not be sent. The cause is chained; it has been logged."""
