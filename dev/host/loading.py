"""Indexes function_app.py: what Microsoft's Python worker does at its start.

Rules checked here are the worker's own (azure-functions-runtime, loader and functions modules): exactly one app per
module, and parameters that match the bindings both ways.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import azure.functions as func

from dev.host.config import expand
from dev.host.cron import Schedule
from dev.host.errors import AppError

_MODULE = "function_app"
FIRST_IMPORTS = "HOST_FIRST_IMPORTS"
"""Setting of this host: modules, separated by commas, that are imported before the app. They may put something else in
the place of what the app takes from its surroundings (dev/chaos/surroundings.py); the app's files stay as they are."""


@dataclass(frozen=True, slots=True)
class HttpTrigger:
    """Answers requests. `methods`: upper case, empty for all. `route`: None means the function's name."""

    parameter: str
    route: str
    methods: frozenset[str]
    type: Literal["httpTrigger"] = "httpTrigger"


@dataclass(frozen=True, slots=True)
class QueueTrigger:
    """Runs for each message of a queue. `connection` names a setting."""

    parameter: str
    queue: str
    connection: str | None
    type: Literal["queueTrigger"] = "queueTrigger"


@dataclass(frozen=True, slots=True)
class TimerTrigger:
    """Runs on a schedule. `use_monitor`: remember runs, to catch up one that was missed."""

    parameter: str
    schedule: Schedule
    run_on_startup: bool
    use_monitor: bool
    type: Literal["timerTrigger"] = "timerTrigger"


Trigger = HttpTrigger | QueueTrigger | TimerTrigger


@dataclass(frozen=True, slots=True)
class QueueOutput:
    """A queue that the function writes to, through `func.Out` (`parameter`) or its result (`$return`)."""

    parameter: str
    queue: str
    connection: str | None


@dataclass(frozen=True, slots=True)
class LoadedFunction:
    """One function of the app, ready to be called by keyword."""

    name: str
    directory: Path
    call: Callable[..., Any]
    trigger: Trigger
    outputs: tuple[QueueOutput, ...]
    takes_context: bool
    takes_plain_text: bool
    is_async: bool


def load_app(app_dir: Path, env: Mapping[str, str]) -> tuple[LoadedFunction, ...]:
    """Imports `app_dir`/function_app.py and returns its functions, by name.

    Raises AppError and SettingMissingError; whatever the module's own import raises comes through unchanged. An app
    can be indexed once per process: azure.functions refuses a second time.
    """
    if not (app_dir / f"{_MODULE}.py").is_file():
        raise AppError(f"There is no {_MODULE}.py in {app_dir}.")
    sys.path.insert(0, str(app_dir))
    for name in filter(None, env.get(FIRST_IMPORTS, "").split(",")):
        importlib.import_module(name)
    module = importlib.import_module(_MODULE)
    apps = {id(value): value for value in vars(module).values() if isinstance(value, func.FunctionRegister)}
    if len(apps) != 1:
        raise AppError(f"{_MODULE}.py must hold exactly one FunctionApp; it holds {len(apps)}.")
    (app,) = apps.values()
    try:
        indexed: Sequence[Any] = app.get_functions()
    except ValueError as error:
        raise AppError(f"{_MODULE}.py cannot be indexed: {error}") from error
    functions = [_load(function, app_dir, env) for function in indexed]
    return tuple(sorted(functions, key=lambda function: function.name))


def raised_by_app(error: BaseException, app_dir: Path) -> bool:
    """True for a ValueError of a class that the app itself defines: its way of saying that a setting is wrong."""
    home = type(error).__module__
    if not isinstance(error, ValueError) or home == _MODULE:  # a module whose import failed is not in sys.modules
        return isinstance(error, ValueError)
    source = Path(getattr(sys.modules.get(home), "__file__", None) or "/")
    return source.is_relative_to(app_dir) and "site-packages" not in source.parts


def _load(function: Any, app_dir: Path, env: Mapping[str, str]) -> LoadedFunction:
    name: str = function.get_function_name()
    call: Callable[..., Any] = function.get_user_function()
    bindings: Sequence[Any] = function.get_bindings()
    parameters = set(inspect.signature(call).parameters)
    _check_parameters(name, parameters, {binding.name for binding in bindings} - {"$return"})
    trigger = _trigger(name, function.get_trigger(), env)
    return LoadedFunction(
        name=name,
        directory=app_dir,
        call=call,
        trigger=trigger,
        outputs=tuple(output for binding in bindings if (output := _output(name, binding, env))),
        takes_context="context" in parameters,
        takes_plain_text=typing.get_type_hints(call).get(trigger.parameter) is str,
        is_async=inspect.iscoroutinefunction(call),
    )


def _check_parameters(name: str, parameters: set[str], bound: set[str]) -> None:
    if missing := bound - parameters:
        raise AppError(f"The function {name} has bindings without a parameter: {', '.join(sorted(missing))}.")
    if extra := parameters - bound - {"context"}:
        raise AppError(f"The function {name} has parameters without a binding: {', '.join(sorted(extra))}.")


def _trigger(name: str, binding: Any, env: Mapping[str, str]) -> Trigger:
    where = f"the function {name}"
    match binding.type:
        case "httpTrigger":
            methods = frozenset(str(getattr(method, "value", method)).upper() for method in binding.methods or ())
            return HttpTrigger(binding.name, name if binding.route is None else binding.route, methods)
        case "queueTrigger":
            return QueueTrigger(binding.name, expand(binding.queue_name, env, where), binding.connection)
        case "timerTrigger":
            try:
                schedule = Schedule.parse(expand(binding.schedule, env, where))
            except ValueError as error:
                raise AppError(f"The schedule of {where} is wrong: {error}.") from None
            monitored = binding.use_monitor is not False
            return TimerTrigger(binding.name, schedule, bool(binding.run_on_startup), monitored)
    raise AppError(f"The trigger {binding.type} of {where} is not imitated here: HTTP, queue and timer are.")


def _output(name: str, binding: Any, env: Mapping[str, str]) -> QueueOutput | None:
    """The binding as an output; None for triggers and for HTTP replies, which go back to the caller."""
    where = f"the function {name}"
    if binding.type == "queue":
        return QueueOutput(binding.name, expand(binding.queue_name, env, where), binding.connection)
    if binding.type == "http" or binding.type.endswith("Trigger"):
        return None
    raise AppError(f"The binding {binding.type} of {where} is not imitated here: queue outputs are.")
