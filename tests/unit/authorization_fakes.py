"""Sign-ins to Mailchimp with everything around them in memory, and a provider whose faults a test chooses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from azure.core.exceptions import ServiceRequestError

from shared.audit.log import AuditLog
from shared.destinations.authorization import Authorization, Authorizations
from shared.destinations.connections import Access, Connections
from shared.destinations.model import Consent, Destination
from shared.destinations.store import DestinationStore
from shared.mailchimp import Account, SignIn, SignInRefused, Unavailable
from shared.people import Person
from shared.storage import names
from tests.unit.fake_documents import FakeDocuments
from tests.unit.setup_fakes import FakeClock, FakeIds, FakeSecrets

ADA = Person(id="ada", name="ada@contoso.example")
ROOT = "https://us19.api.mailchimp.com"
DOWN = Unavailable("Mailchimp's sign-in is not available at the moment.", reason="serverError", outcome_unknown=True)
STORAGE_DOWN = ServiceRequestError("storage is down")


@dataclass
class FakeProvider:
    """Mailchimp's sign-in: each code is good for one token. ``before`` runs in the middle of each call."""

    used: list[str] = field(default_factory=list)
    faults: dict[str, Exception] = field(default_factory=dict)
    before: Callable[[str], None] = field(default=lambda _: None)

    def authorize_url(self, state: str) -> str:
        return f"https://login.mailchimp.com/oauth2/authorize?state={state}"

    def token(self, code: str) -> str:
        self._meet("token")
        if code in self.used:
            raise SignInRefused("Mailchimp did not complete the sign-in.", action="Start again.", status=400)
        self.used.append(code)
        return f"token-of-{code}"

    def sign_in(self, token: str) -> SignIn:
        self._meet("sign_in")
        return SignIn(ROOT, "us19", "Contoso", "owner", "1")

    def _meet(self, call: str) -> None:
        self.before(call)
        if call in self.faults:
            raise self.faults[call]


class FakeAccess:
    """Every token belongs to the same account."""

    @contextmanager
    def lookup(self, account_id: str | None, api_root: str, token: str) -> Any:
        class Client:
            def account(self) -> Account:
                return Account("acc1", "Contoso", "owner", 0, "monthly", "1")

        yield Client()


class Parts:
    """The sign-ins with everything around them faked, and a destination."""

    def __init__(self) -> None:
        self.documents, self.clock, self.secrets = FakeDocuments(), FakeClock(), FakeSecrets()
        self.provider, ids = FakeProvider(), FakeIds("0")
        documents = self.documents.as_documents()
        self.store = DestinationStore(documents, AuditLog(FakeDocuments().as_documents()), self.clock, ids)
        access = cast("Access", FakeAccess())
        self.connections = Connections(self.store, self.secrets, access, clock=self.clock, new_id=ids)
        self.authorizations = Authorizations(
            documents,
            self.store,
            self.connections,
            self.secrets,
            self.provider,
            portal_origins=("https://portal.contoso.example", "http://localhost:3000"),
            clock=self.clock,
            new_id=ids,
        )
        now = self.clock.now
        consent = Consent(agreed_by="ada", agreed_at=now, text_version="1")
        destination = Destination(
            id="d1",
            display_name="Newsletter",
            consent=consent,
            created_at=now,
            created_by="ada",
            updated_at=now,
            updated_by="ada",
        )
        self.store.create(destination, ADA)

    def begun(self) -> str:
        """The state of a new sign-in."""
        begun = self.authorizations.begin("d1", ADA)
        return parse_qs(urlsplit(begun.authorize_url).query)["state"][0]

    def come_back(self, state: str, code: str = "code-1") -> Destination:
        return self.authorizations.complete(self.authorizations.find(state, ADA), code).destination

    def stored(self, state: str) -> Authorization:
        found = self.documents.read(names.authorization(state))
        assert found is not None
        return Authorization.from_bytes(found.data)
