"""The export engine in this process, with real storage, real queues and a real sandbox, driven message by message.

For faults that have to be forced at a certain point. What several processes do together is tested with real hosts.
"""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueMessage, QueueServiceClient

from dev.sandbox.control import SandboxControl
from shared.bootstrap import Product, Surroundings, bootstrap
from shared.destinations.model import (
    ChosenAudience,
    Consent,
    DataMatching,
    Destination,
    ExportUser,
    SignIn,
    SignInState,
)
from shared.exports.arrivals import Delivery, arrived
from shared.exports.messages import ExportMessage, RemovalMessage, WakeMessage, read_message
from shared.exports.model import Export
from shared.exports.pace import Pace
from shared.exports.view import ExportView
from shared.mailchimp import MailchimpClient, SubscribeReply
from shared.people import SCHEDULE, Person
from shared.settings import read_settings
from shared.storage import names
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE, QUEUES, REMOVALS_QUEUE
from tests.support import wait_for

AUDIENCE = "a1b2c3d4e5"
KEY = "sandbox-key-us1"
ACCOUNT = "sandbox-account"
TESTER = Person(id="tester", name="test")
LONG_LEASE = {"LANE_LEASE_SECONDS": "60"}
"""Nobody is killed here who would have to lose a lease, and a machine that stands still for a while loses none."""
PATIENCE_S = 150.0
"""How long an export may take on a machine that is busy with other things; short of what ends a test."""
SUBSCRIBE = {"method": "POST", "pathPattern": r"/lists/[a-z0-9]+$"}
"""The call that sends members, for a fault of the sandbox to match."""

Rows = Sequence[Mapping[str, str]]


@dataclass
class Engine:
    """One process's product, and the means to drive and to look at it."""

    product: Product
    sandbox: SandboxControl
    connection_string: str
    _queues: QueueServiceClient = field(init=False)

    def __post_init__(self) -> None:
        self._queues = QueueServiceClient.from_connection_string(self.connection_string)

    # -- set-up --------------------------------------------------------------------------------------------------

    def write_segment(self, name: str, rows: Rows, columns: Sequence[str] = ("EMail", "FirstName", "LastName")) -> None:
        """A plain CSV segment."""
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        container = BlobServiceClient.from_connection_string(self.connection_string).get_container_client("segments")
        if not container.exists():
            container.create_container()
        container.upload_blob(f"{name}.csv", text.getvalue().encode(), overwrite=True)

    def destination(
        self, segments: Sequence[str], matching: DataMatching | None = None, id_: str = "d1"
    ) -> Destination:
        """A destination that is ready, signed in to the sandbox."""
        now = datetime.now(UTC)
        secret = f"mc-{id_}-0001"
        self.product.secrets.write(secret, KEY)
        destination = Destination(
            id=id_,
            display_name=f"Destination {id_}",
            consent=Consent(agreed_by="test", agreed_at=now, text_version="1"),
            sign_in=SignIn(
                state=SignInState.CONNECTED,
                method="apiKey",
                account_id=ACCOUNT,
                account_name="Sandbox",
                api_root=self.sandbox.address,
                secret_name=secret,
            ),
            audience=ChosenAudience(id=AUDIENCE, name="Newsletter"),
            data_matching=matching or DataMatching(email="EMail", first_name="FirstName", last_name="LastName"),
            segments=tuple(segments),
            export_user=ExportUser(id=TESTER.id, name=TESTER.name, added_at=now),
            created_at=now,
            created_by="test",
            updated_at=now,
            updated_by="test",
        )
        self.product.destination_store.create(destination, TESTER)
        return destination

    def set_pace(self, *, lanes: int, seconds_per_member: float = 0.01) -> None:
        """What is known of the Mailchimp account, for an hour."""
        known = Pace(
            lanes=lanes, seconds_per_member=seconds_per_member, changed_at=datetime.now(UTC) - timedelta(hours=1)
        )
        self.product.documents.write(names.pace(ACCOUNT), known.to_bytes())

    # -- driving -------------------------------------------------------------------------------------------------

    def start(self, destination: Destination, key: str | None = None) -> str:
        view = self.product.exports.start(destination, trigger="onDemand", requested_by=TESTER, idempotency_key=key)
        return view.id

    def run(self, destination: Destination, seconds: float = PATIENCE_S, key: str | None = None) -> ExportView:
        """Start an export and work until it has ended."""
        return self.work_until_ended(self.start(destination, key), seconds)

    def work_until_ended(
        self, export_id: str, seconds: float = PATIENCE_S, also: Callable[[], None] | None = None
    ) -> ExportView:
        """Handle messages, several at a time as the host does, until the export has ended. ``also`` runs each round."""
        deadline = time.monotonic() + seconds
        pending: list[Future[None]] = []
        with ThreadPoolExecutor(16, thread_name_prefix="function") as pool:
            while True:
                for queue, message in self.receive():
                    pending.append(pool.submit(self.handle, queue, message))
                for done in [future for future in pending if future.done()]:
                    pending.remove(done)
                    done.result()
                if also is not None:
                    also()
                if self.export(export_id).ended and not pending:
                    return self.product.exports.get(export_id)
                assert time.monotonic() < deadline, f"the export is still {self.export(export_id)}"
                time.sleep(0.02)

    def receive(self, queues: Iterable[str] = QUEUES, hidden_s: int = 600) -> list[tuple[str, QueueMessage]]:
        return [
            (queue, message)
            for queue in queues
            for message in self._queues.get_queue_client(queue).receive_messages(
                max_messages=16, visibility_timeout=hidden_s
            )
        ]

    def handle(self, queue: str, message: QueueMessage) -> None:
        """Run the function of a queue, then delete the message, as the host does."""
        self.invoke(queue, b64decode(message.content))
        self._queues.get_queue_client(queue).delete_message(message)

    def invoke(self, queue: str, body: bytes) -> None:
        delivery = Delivery(queue, None, datetime.now(UTC))
        if queue == PREPARE_QUEUE:
            with arrived(ExportMessage, body, delivery) as export:
                self.product.preparer.prepare(export)
        elif queue == LANES_QUEUE:
            with arrived(WakeMessage, body, delivery) as wake:
                self.product.lanes.wake(wake)
        elif queue == FINISH_QUEUE:
            with arrived(ExportMessage, body, delivery) as export:
                self.product.finisher.finish(export)
        elif queue == REMOVALS_QUEUE:
            with arrived(RemovalMessage, body, delivery) as removal:
                self.product.untagger.go_on(removal)

    def poison(self, queue: str, message: QueueMessage) -> None:
        """What becomes of a message that failed too often."""
        body, poison = b64decode(message.content), self.product.poison
        if queue == PREPARE_QUEUE:
            poison.prepare(read_message(ExportMessage, body))
        elif queue == LANES_QUEUE:
            poison.wake(read_message(WakeMessage, body))
        elif queue == FINISH_QUEUE:
            poison.finish(read_message(ExportMessage, body))
        else:
            poison.removal(read_message(RemovalMessage, body))
        self._queues.get_queue_client(queue).delete_message(message)

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """The visible messages of a queue, without taking them."""
        peeked = self._queues.get_queue_client(queue).peek_messages(max_messages=32)
        return [json.loads(b64decode(message.content)) for message in peeked]

    def held(self, queue: str) -> int:
        """How many messages a queue holds, those that are not due yet too."""
        properties = self._queues.get_queue_client(queue).get_queue_properties()
        return int(properties.approximate_message_count or 0)

    # -- looking -------------------------------------------------------------------------------------------------

    def export(self, export_id: str) -> Export:
        found = self.product.store.find(export_id)
        assert found is not None
        return found

    def members(self) -> dict[str, dict[str, Any]]:
        """What the sandbox holds, by lower-case address."""
        return {member["email_address"].lower(): member for member in self.sandbox.members(AUDIENCE)}

    def everybody_arrived(self, count: int, tag: str = "Readers") -> bool:
        """Whether the sandbox holds exactly ``people(count)``, each with the tag."""
        members = self.members()
        return set(members) == {f"person{n}@mail.example" for n in range(count)} and all(
            tag in member["tags"] for member in members.values()
        )

    def rejected(self, export_id: str) -> list[dict[str, str]]:
        text = self.product.exports.rejected(export_id).decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text)))


def scheduled(engine: Engine, id_: str = "d1") -> ExportView:
    """The export of a scheduled run, as the timer starts it, when it has ended."""
    destination = engine.product.destination_store.get(id_).destination
    view = engine.product.exports.start(destination, trigger="scheduled", requested_by=SCHEDULE)
    return engine.work_until_ended(view.id)


class HurriedSleep:
    """Sleeps a fiftieth of what is asked, and remembers what was asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked: list[float] = []

    def __call__(self, seconds: float) -> None:
        with self._lock:
            self.asked.append(seconds)
        time.sleep(seconds / 50)


class Gate:
    """Calls that send members wait at it, but for the first ``free`` ones, until they are let in."""

    def __init__(self, free: int) -> None:
        self._lock = threading.RLock()
        self._free = free
        self._is_open = False
        self._waiting: list[threading.Event] = []

    def wait_until_at_it(self, calls: int) -> None:
        """Until so many calls wait: no other one is under way then if there are no more connections."""
        wait_for(lambda: self.are_at_it(calls), f"{calls} calls at the gate", PATIENCE_S)

    def are_at_it(self, calls: int) -> bool:
        return len(self._waiting) >= calls

    def let_in(self) -> None:
        """Those that wait now."""
        with self._lock:
            for turn in self._waiting:
                turn.set()
            self._waiting.clear()

    def open(self) -> None:
        """For those that wait and for all that come."""
        with self._lock:
            self._is_open = True
            self.let_in()

    def pass_(self) -> None:
        """A call wants to be made."""
        turn = threading.Event()
        with self._lock:
            self._free -= 1
            if self._is_open or self._free >= 0:
                return
            self._waiting.append(turn)
        assert turn.wait(PATIENCE_S)


@contextmanager
def gate(free: int = 0) -> Iterator[Gate]:
    """Inside the block, calls that send members go through a gate: so a test knows how far an export has come."""
    between, subscribe = Gate(free), MailchimpClient.subscribe

    def held(client: MailchimpClient, audience_id: str, body: bytes) -> SubscribeReply:
        between.pass_()
        return subscribe(client, audience_id, body)

    with patch.object(MailchimpClient, "subscribe", held):
        try:
            yield between
        finally:
            between.open()


class MovedClock:
    """The time of day, as much later as a test wants it to be."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def go_on(self, **time: float) -> None:
        self._ahead += timedelta(**time)


def build_engine(connection_string: str, sandbox: SandboxControl, **settings: str) -> Engine:
    """An engine on a storage account of its own; ``settings`` by their names.

    It has exported to the Mailchimp account before, so all lanes are open.
    """
    return build_engine_at(MovedClock(), connection_string, sandbox, **settings)


def build_engine_at(clock: MovedClock, connection_string: str, sandbox: SandboxControl, **settings: str) -> Engine:
    """As ``build_engine``, where it is as late as ``clock`` says."""
    environment = {
        "AzureWebJobsStorage": connection_string,
        "MAILCHIMP_API_URL": sandbox.address,
        "MAILCHIMP_LOGIN_URL": sandbox.address,
        "LOCAL_SECRET_KEY": "a key for tests only, not a secret",
        **LONG_LEASE,
        **settings,
    }
    surroundings = Surroundings(now=clock, sleep=HurriedSleep(), random=lambda: 0.5)
    product = bootstrap(read_settings(environment), surroundings)
    product.ensure_storage()
    engine = Engine(product, sandbox, connection_string)
    if not product.documents.exists(names.pace(ACCOUNT)):
        engine.set_pace(lanes=10)
    return engine


def people(count: int, *, start: int = 0, domain: str = "mail.example") -> list[dict[str, str]]:
    """Profiles with names in several alphabets."""
    first = ("Ayşe", "İpek", "Жанар", "Әсел", "Ελένη", "Ann")
    last = ("Yılmaz", "Öztürk", "Нұрланова", "Қасым", "Παππά", "O'Neil")
    return [
        {"EMail": f"person{n}@{domain}", "FirstName": first[n % 6], "LastName": last[n % 5]}
        for n in range(start, start + count)
    ]
