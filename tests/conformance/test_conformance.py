"""The app, and the sample app of the host's tests, in Microsoft's own worker library.

The local host shares its converters with the real worker but not its checks: an annotation that the worker refuses
(`func.Out[list[str]]`) keeps the whole app from loading in Azure, and would run here.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueClient

from shared.storage.names import STATE_CONTAINER
from tests.conformance.worker_library import Invocation, Outcome, WorkerRun, http, queue_message, run_app, timer
from tests.support import StorageAccount

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "tests/integration/host_app"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("azure_functions_runtime") is None,
    reason="Microsoft's worker library azure-functions-runtime exists for Python 3.13 and newer",
)


@pytest.fixture
def env(storage_account: StorageAccount) -> dict[str, str]:
    """An environment with nothing of the machine's own settings but what Python needs, and the storage of infra/."""
    with BlobServiceClient.from_connection_string(storage_account.connection_string) as service:
        service.create_container(STATE_CONTAINER)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "AzureWebJobsStorage": storage_account.connection_string}


def run_project(env: dict[str, str], *invocations: Invocation) -> list[Outcome]:
    run = run_app(PROJECT, env, invocations)
    assert run.load_error is None
    return list(run.outcomes)


def triggers(run: WorkerRun) -> dict[str, tuple[str, str | None]]:
    """Kind and source of each function's trigger."""
    found: dict[str, tuple[str, str | None]] = {}
    for name, bindings in run.functions.items():
        (trigger,) = [binding for binding in bindings if binding["type"].endswith("Trigger")]
        source = trigger.get("queueName") or trigger.get("schedule") or trigger.get("route")
        found[name] = (trigger["type"], source)
    return found


def test_the_worker_loads_the_app_with_its_triggers(env: dict[str, str]) -> None:
    run = run_app(PROJECT, env)
    assert run.load_error is None
    assert triggers(run) == {
        "http_app_func": ("httpTrigger", "/{*route}"),
        "prepare": ("queueTrigger", "prepare"),
        "lanes": ("queueTrigger", "lanes"),
        "finish": ("queueTrigger", "finish"),
        "removals": ("queueTrigger", "removals"),
        "prepare_poison": ("queueTrigger", "prepare-poison"),
        "lanes_poison": ("queueTrigger", "lanes-poison"),
        "finish_poison": ("queueTrigger", "finish-poison"),
        "removals_poison": ("queueTrigger", "removals-poison"),
        "sweep": ("timerTrigger", "30 * * * * *"),
        "schedule": ("timerTrigger", "0 * * * * *"),
        "expire": ("timerTrigger", "0 17 3 * * *"),
    }


def test_no_queue_function_has_a_retry_policy(env: dict[str, str]) -> None:
    """The decorator takes one and the host ignores it: retries of queue functions are host.json's."""
    run = run_app(PROJECT, env)
    assert not [name for name, bindings in run.functions.items() if any("retry" in binding for binding in bindings)]


def test_the_worker_answers_http_through_the_app(env: dict[str, str]) -> None:
    healthy, unknown = run_project(
        env,
        Invocation("http_app_func", http("GET", "/api/health", headers={"Host": "127.0.0.1:7071"})),
        Invocation("http_app_func", http("GET", "/api/nothing-here", headers={"Host": "127.0.0.1:7071"})),
    )
    assert healthy.succeeded
    assert healthy.reply is not None
    assert healthy.reply["status"] == 200
    assert unknown.reply is not None
    assert unknown.reply["status"] == 404
    assert set(json.loads(unknown.reply["body"])["error"]) >= {"code", "message"}


def test_the_worker_runs_the_timers(env: dict[str, str]) -> None:
    outcomes = run_project(env, *(Invocation(name, timer(past_due=True)) for name in ("sweep", "schedule", "expire")))
    assert [outcome.error for outcome in outcomes] == [None, None, None]


@pytest.mark.parametrize("function", ["prepare", "lanes", "finish", "removals"])
def test_the_worker_reports_a_message_that_cannot_be_read_as_failed(env: dict[str, str], function: str) -> None:
    (outcome,) = run_project(env, Invocation(function, queue_message("not ours")))
    assert not outcome.succeeded
    assert "MessageInvalid" in str(outcome.error)


@pytest.mark.parametrize("function", ["prepare_poison", "lanes_poison", "finish_poison", "removals_poison"])
def test_the_worker_lets_a_poison_message_that_cannot_be_read_go(env: dict[str, str], function: str) -> None:
    (outcome,) = run_project(env, Invocation(function, queue_message("not ours", dequeue_count=1)))
    assert outcome.error is None


def test_the_sample_app_behaves_in_the_worker_as_in_the_local_host(
    env: dict[str, str], storage_account: StorageAccount
) -> None:
    with QueueClient.from_connection_string(storage_account.connection_string, "notes") as notes:
        notes.create_queue()
    settings = {"WORK_QUEUE": "work", "TICK_SCHEDULE": "0 0 0 1 1 *"}
    run = run_app(
        SAMPLE,
        {**env, **settings},
        [
            Invocation("fixed", http("GET", "/api/echo/fixed/path")),
            Invocation("fan_out", http("POST", "/api/fan-out", body='[{"id": 1}, {"id": 2}]')),
            Invocation("broken", http("GET", "/api/broken")),
            Invocation("work", queue_message('{"id": 1}', dequeue_count=2)),
            Invocation("work", queue_message('{"id": 1, "fail": true}')),
            Invocation("work_poison", queue_message('{"id": 1}')),
            Invocation("tick", timer(past_due=True)),
        ],
    )
    assert run.load_error is None
    fixed, fan_out, broken, work, failing, poisoned, tick = run.outcomes
    assert fixed.reply == {"status": 200, "headers": {}, "body": "fixed True"}
    assert fan_out.outputs == {"work": ['{"id": 1}', '{"id": 2}']}
    assert (broken.succeeded, broken.reply) == (False, None)
    assert [outcome.succeeded for outcome in (work, failing, poisoned, tick)] == [True, False, True, True]


@pytest.mark.parametrize(
    ("annotation", "loads"),
    [("typing.List[str]", True), ("list[str]", False), ("collections.abc.Sequence[str]", False)],
)
def test_some_annotations_keep_the_worker_from_loading_an_app(
    env: dict[str, str], tmp_path: Path, annotation: str, loads: bool
) -> None:
    (tmp_path / "function_app.py").write_text(
        "import collections.abc, typing\n"
        "import azure.functions as func\n"
        "app = func.FunctionApp()\n"
        "@app.route(route='x')\n"
        "@app.queue_output(arg_name='out', queue_name='q', connection='AzureWebJobsStorage')\n"
        f"def send(req: func.HttpRequest, out: func.Out[{annotation}]) -> str: return ''\n"
    )
    run = run_app(tmp_path, env)
    assert (run.load_error is None) is loads
