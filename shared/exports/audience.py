"""What prepare asks Mailchimp: whether the audience is there, how to fill its merge fields, whom somebody has archived,
and the tags, which it creates where they are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shared.destinations.model import AddressMatching, DataMatching, SetUp
from shared.exports import problems
from shared.exports.merge_values import MergeValue, address_value, merge_value
from shared.exports.problems import Impossible
from shared.exports.sign_in import SignIns
from shared.mailchimp import MailchimpClient, MergeField, SignInRefused
from shared.mailchimp.access import MailchimpAccess


@dataclass(frozen=True, slots=True)
class Audience:
    """What Mailchimp said: how to format the merge fields, the tag of each segment (name and ID), and whom somebody
    has archived there."""

    values: Sequence[MergeValue]
    tags: Sequence[str]
    tag_ids: Mapping[str, int]
    archived: Sequence[str]


class Audiences:
    """Asks about the audience of a destination."""

    def __init__(self, sign_ins: SignIns, access: MailchimpAccess) -> None:
        self._sign_ins = sign_ins
        self._access = access

    def ask(
        self,
        destination_id: str,
        set_up: SetUp,
        matching: DataMatching | None,
        tags: Sequence[str],
        check: Callable[[], None],
    ) -> Audience:
        """Check the audience, read its merge fields if ``matching`` is given, and find or create the tags, over one
        connection. Raises Impossible for a merge field that does not fit any more; a refused sign-in is noted at the
        destination."""
        account_id, audience_id = set_up.target
        try:
            token = self._sign_ins.token(set_up.secret_name)
            with self._access.lookup(account_id, set_up.api_root, token) as client:
                client.audience(audience_id)
                values = _values(matching, client.merge_fields(audience_id)) if matching is not None else []
                archived = client.archived(audience_id)
                check()  # thousands of archived contacts take a while
                found = _tags(client, audience_id, tags)
        except SignInRefused as error:
            self._sign_ins.refused(destination_id, set_up.secret_name, error.message)
            raise
        return Audience(values, [name for name, _ in found], dict(found), archived)


def fields_of(matching: DataMatching) -> list[str]:
    """The profile fields to read, each once, the address first."""
    fields = [matching.email]
    for source in matching.by_merge_tag().values():
        fields += source.parts().values() if isinstance(source, AddressMatching) else [source]
    return list(dict.fromkeys(fields))


def _values(matching: DataMatching, known: Sequence[MergeField]) -> list[MergeValue]:
    """How each matched merge field is filled. Raises Impossible for one that the audience no longer has: Mailchimp
    would drop its values without a word."""
    column = {field: f"s.c{number}" for number, field in enumerate(fields_of(matching))}
    by_tag = {field.tag: field for field in known}
    values = []
    for tag, source in matching.by_merge_tag().items():
        field = by_tag.get(tag)
        if field is None:
            raise Impossible(problems.merge_field_gone(tag))
        if isinstance(source, AddressMatching):
            if field.type != "address":
                raise Impossible(problems.merge_field_changed(tag, field.type))
            values.append(address_value(tag, {part: column[name] for part, name in source.parts().items()}))
        elif field.type == "address":
            raise Impossible(problems.merge_field_changed(tag, field.type))
        else:
            options = field.options
            values.append(
                merge_value(tag, field.type, column[source], choices=options.choices, phone_format=options.phone_format)
            )
    return values


def _tags(client: MailchimpClient, audience_id: str, names: Sequence[str]) -> list[tuple[str, int]]:
    """Name and ID of each tag. One that exists in other letter case is used as it is written there."""
    known = {tag.name.casefold(): tag for tag in client.tags(audience_id)}
    found = []
    for name in names:
        tag = known.get(name.casefold()) or client.create_tag(audience_id, name)
        found.append((tag.name, tag.id))
    return found
