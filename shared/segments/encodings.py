"""Text encodings of CSV files: which ones are read, and turning them into the UTF-8 that DuckDB reads."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator

UTF_8 = "utf-8"

# Windows code pages whose Python codec is not called cp{number}.
_CODE_PAGES = {
    65001: UTF_8,
    1200: "utf-16-le",
    1201: "utf-16-be",
    12000: "utf-32-le",
    12001: "utf-32-be",
    20127: "ascii",
    20866: "koi8-r",
    20932: "euc_jp",
    21866: "koi8-u",
    51949: "euc_kr",
    54936: "gb18030",
}
# Of Python's codecs, those that are text encodings of files (and not escapes, compression or host names).
_READABLE = re.compile(
    r"utf-(8|16|32)(-[bl]e)?|ascii|iso8859-\d+|cp\d+|koi8-[ru]|shift_jis|euc_(jp|kr)|gbk|gb2312|gb18030|big5|mac-roman"
)
_BYTE_ORDER_MARKS = (  # UTF-32 before UTF-16: its mark begins with the other's
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_INVALID = "shared.segments.invalid"


def _mark_invalid(error: UnicodeError) -> tuple[str, int]:
    """Turns undecodable input into a lone surrogate, which `to_utf8` writes as the byte FF: invalid stays invalid."""
    if not isinstance(error, UnicodeDecodeError):
        raise error  # only decoders are given this handler
    return "\udcff", error.end


codecs.register_error(_INVALID, _mark_invalid)


def codec_name(encoding: str | int) -> str | None:
    """The Python codec for an encoding as model.json writes it: a name ("UTF-8", "windows-1252") or a Windows code
    page as number or digits (65001, "1252"). None if it is unknown or not an encoding of text."""
    text = str(encoding).strip()
    if text.isascii() and text.isdigit():
        number = int(text[:6])
        # 28591 to 28605 are ISO 8859-1 to -15 (Microsoft Learn, "Code Page Identifiers").
        text = _CODE_PAGES.get(number) or (f"iso8859-{number - 28590}" if 28591 <= number <= 28605 else f"cp{number}")
    try:
        name = codecs.lookup(text).name
    except (LookupError, ValueError):
        return None
    return name if _READABLE.fullmatch(name) else None


def to_utf8(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The same text as UTF-8 without byte order mark. A byte order mark in the data wins over `encoding` (a codec).

    Input that is not valid in its encoding is not valid UTF-8 in the output either, so it is found where it is read.
    """
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= 4:
            break
    for mark, marked_encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            encoding = marked_encoding
            if encoding == UTF_8:
                head = head[len(mark) :]
            break
    if encoding == UTF_8:
        yield head
        yield from source
        return
    decoder = codecs.getincrementaldecoder(encoding)(_INVALID)
    text = decoder.decode(head).removeprefix("\ufeff")  # utf-16-le and the like keep the mark
    yield text.encode(errors="surrogateescape")
    for chunk in source:
        yield decoder.decode(chunk).encode(errors="surrogateescape")
    yield decoder.decode(b"", True).encode(errors="surrogateescape")
