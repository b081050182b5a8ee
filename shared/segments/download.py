"""Brings a pinned file to disk: exactly the pinned version, unpacked, and CSV as UTF-8."""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from azure.storage.blob import ContainerClient

from .blobs import CHUNK_BYTES, BlobVersion, read_chunks
from .encodings import to_utf8
from .errors import SourceUnreadable
from .formats import PinnedFile

# Of a .gz file when unpacked: the bound on what a few bytes in storage can do to the disk here.
MAX_UNPACKED_BYTES = 4 * 1024**3
_BLANK_LINE_WITHIN = re.compile(rb"(?:\n\r?\n|\r\r)[\r\n]*[^\r\n]")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on disk. `blank_lines`: there may be blank lines before the last record (or such text inside quotes)."""

    path: Path
    blank_lines: bool


def fetch(container: ContainerClient, file: PinnedFile, path: Path, stopped: threading.Event) -> LocalFile:
    """Writes the pinned version of `file` to `path`; leaves it incomplete as soon as `stopped` is set.

    Raises SourceMissing and SourceChanged, SourceUnreadable for a damaged .gz file, azure.core errors for faults.
    """
    version = BlobVersion(file.name, file.snapshot, file.etag, file.size, file.last_modified)
    chunks: Iterable[bytes] = read_chunks(container, version)
    if file.name.lower().endswith(".gz"):
        chunks = unpack(chunks, file.name)
    watch = _BlankLineWatch()
    if file.csv:
        chunks = watch.over(to_utf8(chunks, file.csv.encoding))
    with path.open("wb") as target:
        for chunk in chunks:
            target.write(chunk)
            if stopped.is_set():
                break
    return LocalFile(path, watch.found)


def unpack(chunks: Iterable[bytes], file: str, *, whole: bool = True) -> Iterator[bytes]:
    """Unpacks gzip, of one or several members. `whole` False takes a beginning of a file. Raises SourceUnreadable."""
    unpacked = 0
    member = zlib.decompressobj(wbits=31)
    try:
        for chunk in chunks:
            data = chunk
            while data:
                if member.eof:
                    data = data.lstrip(b"\0")  # padding is allowed between and after members
                    if not data:
                        break
                    member = zlib.decompressobj(wbits=31)
                text = member.decompress(data, CHUNK_BYTES)
                data = member.unused_data if member.eof else member.unconsumed_tail
                unpacked += len(text)
                if unpacked > MAX_UNPACKED_BYTES:
                    raise SourceUnreadable(file, None, f"unpacks to more than {MAX_UNPACKED_BYTES // 1024**3} GB.")
                yield text
    except zlib.error:
        raise SourceUnreadable(file, None, "is not a gzip file, or is damaged.") from None
    if whole and not member.eof:
        raise SourceUnreadable(file, None, "is cut off: its gzip data has no end.")


class _BlankLineWatch:
    """Looks for line breaks that follow one another and are followed by more: blank lines, as far as bytes can tell."""

    def __init__(self) -> None:
        self.found = False

    def over(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks."""
        carried = b"\n"  # a line break at the start of a file is a blank line
        for chunk in chunks:
            if not self.found:
                self.found = _has_blank_line(carried + chunk[:4]) or _has_blank_line(chunk)
                # Four line breaks in a row are as good as more; anything else cannot begin a blank line.
                tail = (carried + chunk[-4:])[-4:]
                carried = tail[len(tail.rstrip(b"\r\n")) :]
            yield chunk


def _has_blank_line(part: bytes) -> bool:
    # Looking for fixed bytes first is many times faster than the pattern, and most files have no CR at all.
    suspected = b"\n\n" in part or (b"\r" in part and (b"\n\r\n" in part or b"\r\r" in part))
    return suspected and _BLANK_LINE_WITHIN.search(part) is not None
