"""A small function app that shows what the host does: each function leaves a note in the queue `notes`."""

import json
import logging
import os
import threading
import time
import typing

import azure.functions as func
from azure.storage.queue import QueueClient, QueueServiceClient

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
STORAGE = "AzureWebJobsStorage"
_queues = QueueServiceClient.from_connection_string(os.environ[STORAGE])
_notes = QueueClient.from_connection_string(os.environ[STORAGE], "notes")


def note(**fields: object) -> None:
    """Tells the test what happened, and in which process."""
    _notes.send_message(json.dumps({**fields, "pid": os.getpid()}))


@app.route(route="echo/{name}/{*rest}", methods=["GET", "POST"])
def echo(req: func.HttpRequest) -> func.HttpResponse:
    """Shows what arrived."""
    seen = {
        "method": req.method,
        "url": req.url,
        "params": dict(req.params),
        "route": dict(req.route_params),
        "accept": req.headers.get("accept-language"),
        "size": len(req.get_body()),
    }
    headers = {"ETag": '"1"', "Content-Disposition": 'attachment; filename="a.csv"', "Set-Cookie": "a=1; Path=/"}
    return func.HttpResponse(json.dumps(seen), mimetype="application/json", status_code=201, headers=headers)


@app.route(route="echo/fixed/path", methods=["GET"])
async def fixed(req: func.HttpRequest, context: func.Context) -> str:
    """A literal route beside one with parameters; async, and with a context."""
    return f"{context.function_name} {bool(context.invocation_id)}"


@app.route(route="numbers/{number:int}", methods=["GET"])
def numbers(req: func.HttpRequest) -> str:
    """A route with a constraint."""
    return str(req.route_params["number"])


@app.route(route="broken", methods=["GET"])
def broken(req: func.HttpRequest) -> str:
    """Fails."""
    raise RuntimeError("broken on purpose")


@app.route(route="fan-out", methods=["POST"])
@app.queue_output(arg_name="work", queue_name="%WORK_QUEUE%", connection=STORAGE)
def fan_out(
    req: func.HttpRequest,
    work: func.Out[typing.List[str]],  # noqa: UP006 - with list[str] Microsoft's worker refuses the app: tests/conformance
) -> str:
    """Sends each element of the body's list to the queue, unless the query asks it to fail after that."""
    work.set([json.dumps(job) for job in req.get_json()])
    if "fail" in req.params:
        raise RuntimeError("failed after setting its output")
    return "sent"


@app.route(route="slow", methods=["GET"])
def slow(req: func.HttpRequest) -> str:
    """Takes a while."""
    note(function="slow", step="started")
    time.sleep(float(req.params["seconds"]))
    return "done"


@app.queue_trigger(arg_name="message", queue_name="%WORK_QUEUE%", connection=STORAGE)
def work(message: func.QueueMessage) -> None:
    """Does as the message says: takes its time, waits until there is a queue of some name, fails, or none of that."""
    job = message.get_json()
    logging.info("job %s", job["id"])
    note(function="work", step="started", id=job["id"], deliveries=message.dequeue_count)
    if message.dequeue_count == 1:
        time.sleep(job.get("seconds", 0))
    while "until" in job and not list(_queues.list_queues(name_starts_with=job["until"])):
        time.sleep(0.1)
    if job.get("fail"):
        raise RuntimeError("failed on purpose")
    note(function="work", step="finished", id=job["id"], thread=threading.current_thread().name)


@app.queue_trigger(arg_name="message", queue_name="%WORK_QUEUE%-poison", connection=STORAGE)
async def work_poison(message: func.QueueMessage) -> None:
    """Gets what `work` failed on too often."""
    note(function="work_poison", body=message.get_body().decode())


@app.timer_trigger(arg_name="timer", schedule="%TICK_SCHEDULE%")
def tick(timer: func.TimerRequest) -> None:
    """Runs on a schedule."""
    status: typing.Any = getattr(timer, "schedule_status", None)
    note(function="tick", past_due=timer.past_due, last=(status or {}).get("Last"))
