"""From a partition's `location` in model.json to a blob of the configured container, or a refusal.

Nothing is ever fetched from a location's host: a location is only read to learn which blob of our own container it
means. What does not mean one is refused, so that a model.json cannot make the product read anything else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from .errors import LocationRefused

# account.blob.core.windows.net, its data lake twin (dfs), its read-only copy, and DNS zones (account.z01.blob…).
_AZURE_HOST = re.compile(
    r"(?P<account>[a-z0-9]+?)(-secondary)?(\.z\d+)?\.(blob|dfs)\."
    r"(core\.windows\.net|core\.chinacloudapi\.cn|core\.usgovcloudapi\.net|core\.cloudapi\.de|storage\.azure\.net)"
)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class BlobLocation:
    """A blob of the configured container, or one of its snapshots."""

    name: str
    snapshot: str | None = None


class LocationResolver:
    """Resolves the locations of one container, known by its address (`ContainerClient.url`)."""

    def __init__(self, container_url: str) -> None:
        address = urlsplit(container_url)
        self._host = address.hostname or ""
        self._account, path = _account_and_path(address)
        self._container = path.strip("/")

    def resolve(self, location: str, model: str, property_path: str) -> BlobLocation:
        """`location` is a full address (blob or dfs host, or an emulator's path style) or a path relative to the folder
        of `model`, the name of the model.json blob; percent-escapes are decoded once, a snapshot is kept, a shared
        access signature is dropped. Raises LocationRefused, which names `property_path`."""

        def refuse(problem: str) -> LocationRefused:
            return LocationRefused(model, property_path, location, problem)

        if _CONTROL.search(location):
            raise refuse("contains control characters")
        try:
            address = urlsplit(location, allow_fragments=False)
            query = parse_qs(address.query)
            host = address.hostname
        except ValueError:
            raise refuse("is not a valid address") from None
        if address.scheme or address.netloc:
            if address.scheme not in ("http", "https") or not host:
                raise refuse("is neither an http(s) address nor a path relative to the folder of model.json")
            path = self._path_in_container(address)
            if path is None:
                raise refuse(
                    f"is outside the configured storage account and container ('{self._account or self._host}', "
                    f"'{self._container}')"
                )
        else:
            path = address.path
            if path.startswith("/"):
                raise refuse("is neither an http(s) address nor a path relative to the folder of model.json")
        try:
            segments = [part for part in unquote(path, errors="strict").split("/") if part != "."]
        except UnicodeDecodeError:
            raise refuse("has percent-escapes that are not UTF-8") from None
        if ".." in segments or any("\\" in part or _CONTROL.search(part) for part in segments):
            raise refuse("leads out of its folder or has characters that file names here cannot have")
        if not segments[-1]:
            raise refuse("names no file")
        name = "/".join(segments)
        if not address.netloc:
            name = model[: model.rfind("/") + 1] + name
        return BlobLocation(name, query["snapshot"][0] if "snapshot" in query else None)

    def _path_in_container(self, address: SplitResult) -> str | None:
        """The still escaped path below the container, None if the address is not in it."""
        account, path = _account_and_path(address)
        same_host = address.hostname == self._host
        if account is None or self._account is None:  # a host name of one's own: no account to compare
            if not same_host:
                return None
        elif account != self._account or (
            not same_host and not _AZURE_HOST.fullmatch(address.hostname or "") and not self._both_local(address)
        ):
            return None
        container, _, below = path.lstrip("/").partition("/")
        return below if unquote(container) == self._container else None

    def _both_local(self, address: SplitResult) -> bool:
        return address.hostname in _LOOPBACK and self._host in _LOOPBACK


def _account_and_path(address: SplitResult) -> tuple[str | None, str]:
    """The account that an address names (in its host, or as first part of the path as emulators have it), the rest."""
    host = address.hostname or ""
    if match := _AZURE_HOST.fullmatch(host):
        return match["account"], address.path
    if "." not in host or host in _LOOPBACK or re.fullmatch(r"[\d.]+", host):
        account, _, rest = address.path.lstrip("/").partition("/")
        return account, "/" + rest
    return None, address.path
