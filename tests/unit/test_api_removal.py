"""Removals over HTTP: what is answered until a destination is gone, and to whom."""

from __future__ import annotations

import pytest

from shared.settings import read_settings
from tests.unit.api_caller import DEPLOYED, Api, signed_in
from tests.unit.setup_fakes import with_ledger


def ready(api: Api) -> str:
    return api.setup.ready().destination.id


def test_204_when_it_is_gone_and_404_afterwards(api: Api) -> None:
    path = f"/api/destinations/{ready(api)}"
    reply = api.call("DELETE", path)
    assert (reply.status, reply.body) == (204, b"")
    assert api.call("GET", path).status == api.call("DELETE", path).status == 404


def test_202_with_what_is_left_and_when_to_ask_again(api: Api) -> None:
    destination_id = ready(api)
    path = f"/api/destinations/{destination_id}"
    export_id = api.call("POST", f"{path}/exports").json["id"]
    reply = api.call("DELETE", path)
    assert (reply.status, reply.headers["retry-after"]) == (202, "2")
    assert export_id in reply.json["removal"]["left"][0]
    shown = api.call("GET", path)
    assert shown.json == reply.json
    assert (shown.headers["retry-after"], shown.headers["etag"]) == ("2", reply.headers["etag"])
    assert api.call("DELETE", path).json == reply.json
    assert api.call("POST", f"{path}/exports").error["code"] == "destinationBeingRemoved"
    assert api.call("DELETE", f"{path}?tags=remove").error["code"] == "tagsAreKept"
    api.setup.exports.end(export_id)
    assert api.call("DELETE", path).status == 204


def test_a_problem_is_shown_and_makes_callers_ask_less_often(api: Api) -> None:
    destination_id = with_ledger(api.setup)
    path = f"/api/destinations/{destination_id}"
    assert api.call("DELETE", f"{path}?tags=remove").status == 202
    api.setup.removals.troubled(destination_id)
    reply = api.call("GET", path)
    assert reply.headers["retry-after"] == "15"
    assert destination_id in reply.json["removal"]["problem"]


@pytest.mark.parametrize("tags", ["burn", "", "KEEP"])
def test_what_becomes_of_the_tags_is_one_of_two_words(api: Api, tags: str) -> None:
    reply = api.call("DELETE", f"/api/destinations/{ready(api)}?tags={tags}")
    assert (reply.status, reply.error["target"]) == (422, "tags")


def test_an_old_version_is_not_removed_by_mistake(api: Api) -> None:
    path = f"/api/destinations/{ready(api)}"
    old = api.call("GET", path).headers["etag"]
    assert api.call("PATCH", path, {"displayName": "New"}).status == 200
    assert api.call("DELETE", path, headers={"If-Match": old}).status == 412
    assert api.call("GET", path).json["removal"] is None
    assert api.call("DELETE", path, headers={"If-Match": api.call("GET", path).headers["etag"]}).status == 204


@pytest.mark.parametrize("role", ["Viewer", "Contributor"])
def test_only_administrators_remove(role: str) -> None:
    api = Api(read_settings(DEPLOYED))
    destination_id = ready(api)
    reply = api.call("DELETE", f"/api/destinations/{destination_id}?tags=remove", headers=signed_in([role]))
    assert (reply.status, reply.error["code"]) == (403, "roleMissing")
    assert api.setup.store.get(destination_id).destination.removal is None
    api.close()
