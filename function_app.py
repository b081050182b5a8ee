"""The triggers of the app and nothing else: each decodes, calls shared/, encodes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

import azure.functions as func

from shared import telemetry, trace
from shared.bootstrap import bootstrap
from shared.exports.arrivals import Delivery, arrived
from shared.exports.messages import ExportMessage, Message, MessageInvalid, RemovalMessage, WakeMessage
from shared.failures import do_each, failing_quietly
from shared.log import error, event, quieten_libraries
from shared.settings import read_settings
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE, REMOVALS_QUEUE, poison
from shared.worker_process import take_up

take_up(os.environ)
quieten_libraries()
product = bootstrap(read_settings(os.environ))
telemetry.start(product.settings)
# Anonymous for the platform: shared/api/auth.py asks for the signed-in user and the role.
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
api = func.AsgiMiddleware(product.asgi)

STORAGE = "AzureWebJobsStorage"
Work = TypeVar("Work", bound=Message)


@contextmanager
def work(kind: type[Work], queue: str, message: func.QueueMessage, context: func.Context) -> Iterator[Work]:
    delivery = Delivery(queue, message.insertion_time, datetime.now(UTC), context.trace_context.trace_parent)
    with telemetry.telling(), arrived(kind, message.get_body(), delivery) as found, failing_quietly():
        yield found


def book_failure(
    kind: type[Work], queue: str, book: Callable[[Work], None], message: func.QueueMessage, context: func.Context
) -> None:
    try:
        with work(kind, poison(queue), message, context) as found:
            book(found)
    except MessageInvalid:
        error("poison.unreadable", queue=queue, message=message.id)


# What func.AsgiFunctionApp makes, but for requests that the adapter cannot read, such as GET /api/%ff: they fail before
# the API is asked, and would look like a defect of the app.
@app.route(route="/{*route}", methods=list(func.HttpMethod))
async def http_app_func(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    with telemetry.telling():
        try:
            answer: func.HttpResponse = await api.handle_async(req, context)
        except ValueError:
            refusal = product.unreadable_request()
            return func.HttpResponse(bytes(refusal.body), status_code=refusal.status_code, mimetype=refusal.media_type)
        return answer


@app.queue_trigger(arg_name="message", queue_name=PREPARE_QUEUE, connection=STORAGE)
def prepare(message: func.QueueMessage, context: func.Context) -> None:
    with work(ExportMessage, PREPARE_QUEUE, message, context) as found:
        product.preparer.prepare(found)


@app.queue_trigger(arg_name="message", queue_name=LANES_QUEUE, connection=STORAGE)
def lanes(message: func.QueueMessage, context: func.Context) -> None:
    with work(WakeMessage, LANES_QUEUE, message, context) as found:
        product.lanes.wake(found)


@app.queue_trigger(arg_name="message", queue_name=FINISH_QUEUE, connection=STORAGE)
def finish(message: func.QueueMessage, context: func.Context) -> None:
    with work(ExportMessage, FINISH_QUEUE, message, context) as found:
        product.finisher.finish(found)


@app.queue_trigger(arg_name="message", queue_name=REMOVALS_QUEUE, connection=STORAGE)
def removals(message: func.QueueMessage, context: func.Context) -> None:
    with work(RemovalMessage, REMOVALS_QUEUE, message, context) as found:
        product.untagger.go_on(found)


@app.queue_trigger(arg_name="message", queue_name=poison(PREPARE_QUEUE), connection=STORAGE)
def prepare_poison(message: func.QueueMessage, context: func.Context) -> None:
    book_failure(ExportMessage, PREPARE_QUEUE, product.poison.prepare, message, context)


@app.queue_trigger(arg_name="message", queue_name=poison(LANES_QUEUE), connection=STORAGE)
def lanes_poison(message: func.QueueMessage, context: func.Context) -> None:
    book_failure(WakeMessage, LANES_QUEUE, product.poison.wake, message, context)


@app.queue_trigger(arg_name="message", queue_name=poison(FINISH_QUEUE), connection=STORAGE)
def finish_poison(message: func.QueueMessage, context: func.Context) -> None:
    book_failure(ExportMessage, FINISH_QUEUE, product.poison.finish, message, context)


@app.queue_trigger(arg_name="message", queue_name=poison(REMOVALS_QUEUE), connection=STORAGE)
def removals_poison(message: func.QueueMessage, context: func.Context) -> None:
    book_failure(RemovalMessage, REMOVALS_QUEUE, product.poison.removal, message, context)


@app.timer_trigger(arg_name="timer", schedule="30 * * * * *", use_monitor=False)
def sweep(timer: func.TimerRequest) -> None:
    with telemetry.telling(), failing_quietly():
        do_each((product.sweeper.sweep, product.removals.finish_removals, product.destination_store.log_recent_changes))
    event("sweep.tick")


@app.timer_trigger(arg_name="timer", schedule="0 * * * * *", use_monitor=False)
def schedule(timer: func.TimerRequest, context: func.Context) -> None:
    with telemetry.telling(), trace.going_on(context.trace_context.trace_parent), failing_quietly():
        product.schedule.run(datetime.now(UTC))
    event("schedule.tick")


@app.timer_trigger(arg_name="timer", schedule="0 17 3 * * *")
def expire(timer: func.TimerRequest) -> None:
    with telemetry.telling(), failing_quietly():
        loose_secrets = product.connections.loose_secrets
        do_each((product.sweeper.expire, product.authorizations.delete_expired, loose_secrets.delete_left_over))
