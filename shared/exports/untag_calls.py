"""The calls that take tags away, over one connection at a time, until Mailchimp answers them.

The connection is one of those that look-ups use, and is given back every two seconds so that others get a turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final, TypeVar

from shared.destinations.model import SignIn
from shared.exports.backoff import Availability, Backoff
from shared.exports.pace import hangs
from shared.exports.sign_in import SignIns
from shared.exports.troubled import Search, Troubled, in_parts, tries_of
from shared.mailchimp import BatchRefused, MailchimpClient, SignInRefused, TagNotFound, TagReply, Unavailable
from shared.mailchimp.access import LookupsBusy, MailchimpAccess
from shared.mailchimp.problems import MAX_ROWS
from shared.storage.leases import HeldLease

_CALL_MARGIN_S: Final = 5.0
_HOLD_S: Final = 2.0
_GAP_S: Final = 0.3
"""Longer than others wait between two looks for a free connection (shared/mailchimp/access.py)."""

_Answer = TypeVar("_Answer")


class Busy(Exception):
    """Raised when no connection became free for a while."""


class UntagCalls:
    """Calls on behalf of one sign-in, under the lease of one removal.

    Methods raise MustPause when Mailchimp is away for long, LeaseLost, Busy, and the Stop errors of Mailchimp.
    """

    def __init__(
        self,
        sign_in: SignIn,
        access: MailchimpAccess,
        sign_ins: SignIns,
        lease: HeldLease,
        *,
        failures: int,
        availability: Availability,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        random: Callable[[], float],
    ) -> None:
        self._sign_in = sign_in
        self._access = access
        self._sign_ins = sign_ins
        self._lease = lease
        self._monotonic = monotonic
        self._sleep = sleep
        self._connection = ExitStack()
        self._held: MailchimpClient | None = None
        self._held_until = 0.0
        self._backoff = Backoff(
            failures,
            availability,
            sleep=self._sleep_without_connection,
            random=random,
            still_ours=partial(lease.check, _CALL_MARGIN_S),
        )

    @property
    def failures(self) -> int:
        """Failures in a row, to go on with after a pause."""
        return self._backoff.failures

    def tag_ids(self, audience_id: str) -> Mapping[str, int]:
        """The IDs of the audience's tags by their names in small letters."""
        tags = self._until_answered(lambda client: client.tags(audience_id))
        return {tag.name.strip().casefold(): tag.id for tag in tags}

    def take(self, audience_id: str, tag_id: int, addresses: Sequence[str]) -> int:
        """Take the tag off up to 500 members; returns how many addresses Mailchimp refused. Who is no member, or does
        not have the tag, is no error, and neither is a tag that is gone.
        """
        search, refused = Search(addresses, self._backoff, self._monotonic), 0
        while part := search.next(MAX_ROWS):
            try:
                self._until_answered(_untagging(audience_id, tag_id, part), tries_of(len(part)))
            except TagNotFound:
                break
            except BatchRefused:
                search.answered(in_parts(part) if len(part) > 1 else [])
                refused += len(part) == 1
            except Troubled as trouble:
                refused += len(search.failed(part, trouble))
            else:
                search.answered()
        return refused

    def give(self, audience_id: str, tag_id: int, addresses: Sequence[str]) -> None:
        """Give the tag to members, 500 a call."""
        for start in range(0, len(addresses), MAX_ROWS):
            with suppress(TagNotFound, BatchRefused):
                self._until_answered(_tagging(audience_id, tag_id, addresses[start : start + MAX_ROWS]))

    def _until_answered(self, call: Callable[[MailchimpClient], _Answer], tries: int | None = None) -> _Answer:
        """Make the call until Mailchimp answers it. Raises Troubled after ``tries`` while Mailchimp is up, and when the
        call hangs."""
        failed = 0
        while True:
            self._lease.check(_CALL_MARGIN_S)
            client = self._client()
            began = self._monotonic()
            try:
                answer = call(client)
            except (BatchRefused, TagNotFound):
                self._backoff.success()
                raise
            except Unavailable as error:
                if tries is not None and error.outcome_unknown and self._is_up():
                    failed, hung = failed + 1, hangs(error, self._monotonic() - began)
                    if hung or failed >= tries:
                        raise Troubled(error.reason, hung=hung) from error
                else:
                    self._backoff.wait(error.reason, error.retry_after_s)
            else:
                self._backoff.success()
                return answer

    def _is_up(self) -> bool:
        self._lease.check(_CALL_MARGIN_S)
        try:
            self._client().ping()
        except Unavailable:
            return False
        self._backoff.up()
        return True

    # -- the connection ------------------------------------------------------------------------------------------

    def _client(self) -> MailchimpClient:
        if self._held is not None and self._monotonic() >= self._held_until:
            self._sleep_without_connection(_GAP_S)
        if self._held is None:
            sign_in = self._sign_in
            if not sign_in.secret_name or not sign_in.api_root:
                raise SignInRefused("Nobody is signed in.", action="Remove the tags in Mailchimp yourself.")
            token = self._sign_ins.token(sign_in.secret_name)
            connection = self._access.lookup(sign_in.account_id, sign_in.api_root, token)
            try:
                self._held = self._connection.enter_context(connection)
            except LookupsBusy as busy:
                raise Busy(str(busy)) from busy
            self._connection.callback(self._held.close)
            self._held_until = self._monotonic() + _HOLD_S
        return self._held

    def give_connection_back(self) -> None:
        self._held = None
        self._connection.close()

    def _sleep_without_connection(self, seconds: float) -> None:
        self.give_connection_back()
        self._sleep(seconds)


def _untagging(audience_id: str, tag_id: int, addresses: Sequence[str]) -> Callable[[MailchimpClient], TagReply]:
    return lambda client: client.untag_members(audience_id, tag_id, addresses)


def _tagging(audience_id: str, tag_id: int, addresses: Sequence[str]) -> Callable[[MailchimpClient], TagReply]:
    return lambda client: client.tag_members(audience_id, tag_id, addresses)
