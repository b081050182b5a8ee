"""No secret outlives a sign-in that was cut off at whatever moment: the timer deletes what nothing points to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.destinations.store import StoredDestination
from shared.mailchimp import Unavailable
from shared.storage.names import LOOSE_SECRETS_PREFIX, loose_secret
from tests.unit.authorization_fakes import DOWN, Parts


class Killed(BaseException):
    """What a process that is killed sees of it."""


class Axe:
    """Kills the process before its n-th write to storage or to the secret store."""

    def __init__(self, parts: Parts, fall: int) -> None:
        self.left = fall
        self.parts = parts
        self.real: list[tuple[Any, str, Callable[..., Any]]] = []
        for place, names in ((parts.documents, ("create", "write", "replace", "delete")), (parts.secrets, ("write",))):
            for name in names:
                self._arm(place, name)
        self._arm(parts.secrets, "delete")

    def _arm(self, place: Any, name: str) -> None:
        real = getattr(place, name)
        self.real.append((place, name, real))

        def armed(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return real(*args, **options)

        setattr(place, name, armed)

    def lay_down(self) -> bool:
        """Whether it has fallen."""
        for place, name, real in self.real:
            setattr(place, name, real)
        return self.left < 0


def notes(parts: Parts) -> list[str]:
    return [name for name in parts.documents.blobs if name.startswith(LOOSE_SECRETS_PREFIX)]


def a_day_later(parts: Parts) -> None:
    parts.clock.pass_(days=1)
    parts.authorizations.delete_expired()
    parts.connections.loose_secrets.delete_left_over()


def assert_nothing_left_over(parts: Parts) -> None:
    used = parts.store.get("d1").destination.sign_in.secret_name
    assert set(parts.secrets.values) == ({used} if used else set())
    assert notes(parts) == []


@pytest.mark.parametrize("signed_in_before", [False, True])
@pytest.mark.parametrize("mailchimp_is_down", [False, True])
def test_a_process_that_is_killed_in_the_middle_leaves_no_secret_behind(
    signed_in_before: bool, mailchimp_is_down: bool
) -> None:
    for fall in range(100):
        parts = Parts()
        if signed_in_before:
            parts.come_back(parts.begun(), "code-0")
        state = parts.begun()
        if mailchimp_is_down:
            parts.provider.faults["sign_in"] = DOWN
        axe = Axe(parts, fall)
        with suppress(Killed, Unavailable):
            parts.come_back(state)
        fell = axe.lay_down()
        a_day_later(parts)
        assert_nothing_left_over(parts)
        if not fell:
            assert fall > 3
            return
    raise AssertionError("a sign-in takes fewer writes than this")


def test_a_sign_in_that_succeeds_leaves_no_note(parts: Parts) -> None:
    for number in range(3):
        parts.come_back(parts.begun(), f"code-{number}")
        assert_nothing_left_over(parts)


def test_a_secret_that_could_not_be_deleted_is_deleted_by_the_timer(parts: Parts) -> None:
    parts.come_back(parts.begun())

    def broken(name: str) -> None:
        raise ServiceRequestError("the vault is down")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parts.secrets, "delete", broken)
        parts.come_back(parts.begun(), "code-2")
    assert len(parts.secrets.values) == 2
    a_day_later(parts)
    assert_nothing_left_over(parts)


def test_a_sign_in_that_goes_on_is_left_alone(parts: Parts) -> None:
    loose = parts.connections.loose_secrets
    loose.write("d1", "mc-d1-new", "token")
    parts.clock.pass_(minutes=59)
    assert loose.delete_left_over() == 0
    parts.clock.pass_(minutes=1)
    assert loose.delete_left_over() == 1
    assert parts.secrets.values == {}


def test_a_secret_in_use_is_never_deleted_whatever_the_note_says(parts: Parts) -> None:
    used = parts.come_back(parts.begun()).sign_in.secret_name
    assert used is not None
    parts.connections.loose_secrets.note("d1", used)
    a_day_later(parts)
    assert_nothing_left_over(parts)
    assert used in parts.secrets.values


def test_a_note_that_a_sign_in_writes_anew_while_the_timer_is_at_it_stays(parts: Parts) -> None:
    """The old note was left by a sign-in that was cut off; the new one is of the sign-in that replaces it."""
    used = parts.come_back(parts.begun()).sign_in.secret_name
    assert used is not None
    loose = parts.connections.loose_secrets
    loose.note("d1", used)
    loose.write("d1", "mc-d1-unused", "token")
    parts.clock.pass_(days=1)
    find = parts.store.find

    def note_first(destination_id: str) -> StoredDestination | None:
        loose.note("d1", used)
        return find(destination_id)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parts.store, "find", note_first)
        loose.delete_left_over()
    assert notes(parts) == [loose_secret(used)]
    assert set(parts.secrets.values) == {used}


def test_the_note_of_a_destination_that_was_removed_goes_with_its_secret(parts: Parts) -> None:
    parts.connections.loose_secrets.write("gone", "mc-gone-1", "token")
    a_day_later(parts)
    assert_nothing_left_over(parts)


@pytest.fixture
def parts() -> Parts:
    return Parts()
