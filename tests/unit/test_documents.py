"""Large blobs come in several pieces, and somebody may write over them, or delete them, between two of these."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from azure.storage.blob import ContainerClient

from shared.storage.documents import Documents

_PIECE = 4


class Storage(ThreadingHTTPServer):
    """One blob, or None. ``then``: what it is as soon as a piece of it was read."""

    def __init__(self, blob: bytes, then: bytes | None) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.blob: bytes | None = blob
        self.then = then


class _Requests(BaseHTTPRequestHandler):
    server: Storage

    def do_GET(self) -> None:
        blob, wanted = self.server.blob, self.headers.get("If-Match")
        self.server.blob = self.server.then
        if blob is None:
            self._answer(404, {"x-ms-error-code": "BlobNotFound"})
        elif wanted not in {None, _etag(blob)}:
            self._answer(412, {"x-ms-error-code": "ConditionNotMet"})
        else:
            first = int(self.headers["x-ms-range"].removeprefix("bytes=").split("-")[0])
            piece = blob[first : first + _PIECE]
            place = f"bytes {first}-{first + len(piece) - 1}/{len(blob)}"
            self._answer(206, {"Content-Range": place, "ETag": _etag(blob)}, piece)

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""


def _etag(blob: bytes) -> str:
    return f'"{blob.decode()}"'


@pytest.fixture
def storage(then: bytes | None) -> Iterator[Storage]:
    with Storage(b"12345678", then) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(b"12345678", id="nothing happens"),
        pytest.param(b"abcdefghij", id="written over"),
        pytest.param(b"abc", id="written over with less"),
        pytest.param(None, id="deleted"),
    ],
)
def test_a_blob_that_changes_between_two_pieces_is_read_anew(
    storage: Storage, then: bytes | None, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{storage.server_port}/account"
    with ContainerClient(url, "state", max_single_get_size=_PIECE, max_chunk_get_size=_PIECE) as container:
        found = Documents(container).download("blob", tmp_path / "file")
    if then is None:
        assert found is None
    else:
        assert found is not None
        assert found.etag == _etag(then)
        assert (tmp_path / "file").read_bytes() == then
