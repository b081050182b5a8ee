"""The app, and the sample app of the host's tests, in Microsoft's own worker library: loaded and called as in Azure.

The local host shares its converters with the real worker but not its checks: an annotation that the worker refuses (an
output of `list[str]` instead of `typing.List[str]`) keeps the whole app from loading in Azure, and would run here.

Which functions there are is asked of the worker; what they are is told by the table in docs/host.md. A function that
one of the two does not have fails the first test, and each one found is called in the others.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from azure.storage.queue import QueueClient, QueueServiceClient

from dev.sandbox.control import API_KEY, AUDIENCE_ID
from dev.stack import Stack
from shared.storage.names import QUEUES, poison
from tests.conformance.worker_library import AppRefused, Outcome, Worker, http, queue_message, start_worker, timer
from tests.support import StorageAccount
from tests.tables import table

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "tests/integration/host_app"
API = "http_app_func"
HOST = {"Host": "127.0.0.1:7071"}
PEOPLE = [(str(number), f"reader{number}@mail.example", "Ada", f"Nr {number}") for number in range(1100)]

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 13),
    reason="Azure runs Python 3.13 with azure-functions-runtime, which Microsoft publishes for no older one",
)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the machine's own settings but what Python needs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "NO_PROXY") if name in os.environ}
    return {**kept, **settings}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Storage of its own and the Mailchimp sandbox, without a host: the worker library is one."""
    with Stack(hosts=0, name="conformance") as running:
        yield running


@pytest.fixture(scope="module")
def worker(stack: Stack) -> Iterator[Worker]:
    """The app as Microsoft's worker has loaded it."""
    with start_worker(PROJECT, environment(stack.env)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def documented() -> dict[str, dict[str, str]]:
    """The functions by docs/host.md."""
    return {row["function"]: row for row in table("host.md", "Functions")}


def functions_with(worker: Worker, trigger: str) -> list[str]:
    return [name for name in worker.functions if worker.trigger(name)["type"] == f"{trigger}Trigger"]


def source(trigger: Mapping[str, Any]) -> str:
    """Where a function gets its work from: queue, schedule or route."""
    return str(trigger.get("queueName") or trigger.get("schedule") or trigger.get("route"))


def example_for(function: str, documented: Mapping[str, Mapping[str, str]]) -> str:
    """The message that the documentation shows for a queue function."""
    message = documented.get(function, {}).get("message", "")
    assert message, f"docs/host.md, Functions, shows no message for {function}"
    return message


def call(worker: Worker, method: str, path: str, body: object = None, **headers: str) -> Outcome:
    text = "" if body is None else json.dumps(body)
    given = {**HOST, "Content-Type": "application/json", **{name.replace("_", "-"): headers[name] for name in headers}}
    return worker.invoke(API, http(method, path, text, given))


# -- what the worker finds ---------------------------------------------------------------------------------------------


def test_the_worker_finds_the_functions_that_are_documented(
    worker: Worker, documented: Mapping[str, Mapping[str, str]]
) -> None:
    found = {
        name: (worker.trigger(name)["type"].removesuffix("Trigger"), source(worker.trigger(name)))
        for name in worker.functions
    }
    listed = {name: (row["trigger"], row["from"]) for name, row in documented.items()}
    assert sorted(set(found) - set(listed)) == [], "give each of these a row in docs/host.md, Functions"
    assert sorted(set(listed) - set(found)) == [], "docs/host.md, Functions, lists what the app does not have"
    assert found == listed


def test_every_queue_of_the_app_has_its_function_and_one_for_its_poison_queue(worker: Worker) -> None:
    queues = [source(worker.trigger(name)) for name in functions_with(worker, "queue")]
    assert sorted(queues) == sorted([*QUEUES, *map(poison, QUEUES)])


def test_every_queue_function_uses_the_app_s_own_storage(worker: Worker) -> None:
    triggers = {name: worker.trigger(name) for name in functions_with(worker, "queue")}
    assert {name: trigger["connection"] for name, trigger in triggers.items()} == dict.fromkeys(
        triggers, "AzureWebJobsStorage"
    )


def test_no_queue_function_has_a_retry_policy(worker: Worker) -> None:
    """The decorator takes one and the host ignores it: retries of queue functions are host.json's."""
    assert not [name for name, bindings in worker.functions.items() if any("retry" in binding for binding in bindings)]


def test_no_timer_runs_at_start_and_the_nightly_one_makes_up_for_a_night_that_it_missed(worker: Worker) -> None:
    timers = {name: worker.trigger(name) for name in functions_with(worker, "timer")}
    assert not [name for name, trigger in timers.items() if trigger.get("runOnStartup")]
    daily = {name for name, trigger in timers.items() if trigger["schedule"].split()[2] != "*"}
    assert {name for name, trigger in timers.items() if trigger.get("useMonitor") is not False} == daily


def test_the_api_has_one_function_for_every_method_and_asks_for_no_function_key(worker: Worker) -> None:
    assert functions_with(worker, "http") == [API]
    trigger = worker.trigger(API)
    assert trigger["authLevel"].upper() == "ANONYMOUS"
    methods = {str(method).upper() for method in trigger["methods"]}
    assert methods >= {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    assert [binding["type"] for binding in worker.functions[API]] == ["httpTrigger", "http"]


# -- each function, called ---------------------------------------------------------------------------------------------


def test_every_timer_runs(worker: Worker) -> None:
    outcomes = {
        name: worker.invoke(name, timer(past_due=past_due)).error
        for name in functions_with(worker, "timer")
        for past_due in (False, True)
    }
    assert outcomes == dict.fromkeys(outcomes)
    assert outcomes


def test_every_queue_function_takes_the_message_that_is_documented(
    worker: Worker, documented: Mapping[str, Mapping[str, str]]
) -> None:
    """The export or destination that it names does not exist, so there is nothing to do, and no reason to fail."""
    errors = {
        name: worker.invoke(name, queue_message(example_for(name, documented))).error
        for name in functions_with(worker, "queue")
    }
    assert errors == dict.fromkeys(errors)
    assert errors


def test_a_message_that_cannot_be_read_fails_and_a_poisoned_one_is_let_go(worker: Worker) -> None:
    for name in functions_with(worker, "queue"):
        outcome = worker.invoke(name, queue_message("not ours", dequeue_count=2))
        if source(worker.trigger(name)).endswith("-poison"):
            assert outcome.error is None, name
        else:
            assert not outcome.succeeded, name
            assert "MessageInvalid" in str(outcome.error), name


def test_requests_reach_the_api_and_its_answers_come_back(worker: Worker) -> None:
    assert call(worker, "GET", "/api/health").json()["status"] == "ok"
    unknown = call(worker, "GET", "/api/nothing-here")
    assert unknown.reply is not None
    assert (unknown.reply["status"], unknown.json()["error"]["code"]) == (404, "notFound")
    created = call(worker, "POST", "/api/destinations", {"displayName": "Жаңа 新", "consent": {"agreed": True}})
    assert created.reply is not None
    assert (created.reply["status"], created.json()["displayName"]) == (201, "Жаңа 新")
    path, etag = f"/api/destinations/{created.json()['id']}", created.reply["headers"]["etag"]
    renamed = call(worker, "PATCH", path, {"displayName": "Renamed"}, If_Match=etag)
    assert renamed.json()["displayName"] == "Renamed"
    stale = call(worker, "PATCH", path, {"displayName": "Again"}, If_Match=etag)
    assert stale.reply is not None
    assert stale.reply["status"] == 412
    listed = call(worker, "GET", "/api/destinations?top=1").json()["value"]
    assert [one["displayName"] for one in listed] == ["Renamed"]
    removed = call(worker, "DELETE", path)
    assert removed.reply is not None
    assert 200 <= removed.reply["status"] < 300


def test_an_export_runs_from_the_request_to_its_books(worker: Worker, stack: Stack) -> None:
    """HTTP, prepare, every lane and finish, all in Microsoft's worker; the test does what the host does with queues.

    The host keeps every line of the log: one that a thread of our own writes would belong to no run, and be lost. And
    there are no others: libraries that tell each request would cost more than the export.
    """
    stack.upload_segments({"Readers": PEOPLE}, columns=("CustomerId", "EMail", "FirstName", "LastName"))
    body = {"displayName": "Conformance", "consent": {"agreed": True}}
    path = f"/api/destinations/{call(worker, 'POST', '/api/destinations', body).json()['id']}"
    matching = {"email": "EMail", "firstName": "FirstName", "lastName": "LastName"}
    call(worker, "PUT", f"{path}/api-key", {"apiKey": API_KEY})
    call(worker, "PUT", f"{path}/export-user")
    call(worker, "PATCH", path, {"audienceId": AUDIENCE_ID})
    call(worker, "PATCH", path, {"dataMatching": matching})
    call(worker, "PATCH", path, {"segments": ["Readers"]})
    started = call(worker, "POST", f"{path}/exports").json()
    ran = deliver_messages(worker, stack.storage)
    export = call(worker, "GET", f"/api/exports/{started['id']}").json()
    assert export["status"] == "Successful"
    assert (export["books"]["rowsRead"], export["books"]["created"]) == (1100, 1100)
    assert len([one for one in stack.sandbox.members(AUDIENCE_ID) if "Readers" in one["tags"]]) == 1100
    assert set(ran) >= {"prepare", "lanes", "finish"}

    told = {json.loads(line)["event"] for line in worker.kept}
    assert {"export.queued", "export.prepared", "lane.left", "export.ended", "metrics.told"} <= told
    assert worker.lost == []
    assert worker.strangers <= {"azure.functions"}  # the worker's own, which the host keeps apart from the app's


def deliver_messages(worker: Worker, connection_string: str) -> list[str]:
    """Gives every message to the function of its queue until the queues are empty; the functions that ran."""
    ran: list[str] = []
    sources = {name: source(worker.trigger(name)) for name in functions_with(worker, "queue")}
    with QueueServiceClient.from_connection_string(connection_string) as service:
        queues = {name: service.get_queue_client(queue) for name, queue in sources.items() if queue in QUEUES}
        while messages := [(name, message) for name in queues for message in queues[name].receive_messages()]:
            for name, message in messages:
                text = base64.b64decode(message.content).decode()
                outcome = worker.invoke(name, queue_message(text, message.dequeue_count or 1))
                assert outcome.error is None, name
                queues[name].delete_message(message)
                ran.append(name)
    return ran


# -- the worker's own rules --------------------------------------------------------------------------------------------


def test_the_sample_app_behaves_in_the_worker_as_in_the_local_host(storage_account: StorageAccount) -> None:
    with QueueClient.from_connection_string(storage_account.connection_string, "notes") as notes:
        notes.create_queue()
    settings = {
        "AzureWebJobsStorage": storage_account.connection_string,
        "WORK_QUEUE": "work",
        "TICK_SCHEDULE": "0 0 0 1 1 *",
    }
    with start_worker(SAMPLE, environment(settings)) as worker:
        fixed = worker.invoke("fixed", http("GET", "/api/echo/fixed/path"))
        fan_out = worker.invoke("fan_out", http("POST", "/api/fan-out", body='[{"id": 1}, {"id": 2}]'))
        broken = worker.invoke("broken", http("GET", "/api/broken"))
        others = [
            worker.invoke("work", queue_message('{"id": 1}', dequeue_count=2)),
            worker.invoke("work", queue_message('{"id": 1, "fail": true}')),
            worker.invoke("work_poison", queue_message('{"id": 1}')),
            worker.invoke("tick", timer(past_due=True)),
        ]
    assert fixed.reply == {"status": 200, "headers": {}, "body": "fixed True"}
    assert fan_out.outputs == {"work": ['{"id": 1}', '{"id": 2}']}
    assert (broken.succeeded, broken.reply) == (False, None)
    assert [outcome.succeeded for outcome in others] == [True, False, True, True]


def load(folder: Path, code: str) -> None:
    (folder / "function_app.py").write_text(f"import azure.functions as func\napp = func.FunctionApp()\n{code}\n")
    with start_worker(folder, environment({})):
        pass


@pytest.mark.parametrize(
    ("annotation", "loads"),
    [("typing.List[str]", True), ("list[str]", False), ("collections.abc.Sequence[str]", False)],
)
def test_some_annotations_keep_the_worker_from_loading_an_app(tmp_path: Path, annotation: str, loads: bool) -> None:
    code = (
        "import collections.abc, typing\n"
        "@app.route(route='x')\n"
        "@app.queue_output(arg_name='out', queue_name='q', connection='AzureWebJobsStorage')\n"
        f"def send(req: func.HttpRequest, out: func.Out[{annotation}]) -> str: return ''\n"
    )
    if loads:
        load(tmp_path, code)
    else:
        with pytest.raises(AppRefused):
            load(tmp_path, code)


def test_the_settings_hold_in_a_process_that_ran_before_it_was_given_them() -> None:
    """On Flex Consumption the worker makes its threads before it takes up the settings that say how many."""
    later = environment({"AzureWebJobsStorage": "UseDevelopmentStorage=true", "PYTHON_THREADPOOL_THREAD_COUNT": "24"})
    with start_worker(PROJECT, environment({}), later) as specialized:
        assert specialized.threads == 24
        assert API in specialized.functions


def test_an_app_whose_settings_are_wrong_is_refused_with_the_sentence_that_names_the_setting() -> None:
    with pytest.raises(AppRefused, match="AzureWebJobsStorage"), start_worker(PROJECT, environment({})):
        pass
