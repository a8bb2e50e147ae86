"""Whole JSON bodies, whatever the bytes: refused as documented, or read as everybody reads them, every text a channel.

The first byte chooses the protocol and the direction. What follows are the bytes themselves, or the script of a body
(`composed`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ext_proc.errors import BadBody, UnsupportedContent, UpstreamError
from ext_proc.model import Edit
from ext_proc.protocols import read_request, read_response
from ext_proc.protocols.json_text import JsonError, parse, parse_bytes, render
from tests.fuzz.blind import MARK, tree_of
from tests.fuzz.composed import document_of

if TYPE_CHECKING:
    from ext_proc.protocols import Document

PROTOCOLS = ("openai.chat", "openai.responses", "anthropic.messages", "generic", "openai.completions")
HEADERS = (("content-type", b"application/json"),)
NUMBER_MIN, LISTED_MIN, LISTED_FEW, FRACTION_MIN = 1000, 10**8, 16, 10**8
FED_MAX = 6
"""Times the body: ``1e21`` is 22 digits to whoever reads it next."""
LIMIT_BYTES = 1 << 20
_MASKED = re.compile(rf"{MARK}(?:_[0-9]+)?")


def one(data: bytes) -> None:
    """Read one body."""
    if not data:
        return
    protocol = PROTOCOLS[(data[0] & 0x3F) % len(PROTOCOLS)]
    body = document_of(data[1:]) if data[0] & 0x40 else data[1:]
    try:
        value = parse_bytes(body)
    except JsonError:
        value = None
    else:
        _is_read_as_by_others(value, body)
    document = _read(protocol, body, is_answer=bool(data[0] & 0x80))
    if document is not None:
        assert value is not None or body.strip() in (b"", b"null"), "read, though it is refused"
        _has_channels_for_all(document, body)


def _is_read_as_by_others(value: Any, body: bytes) -> None:
    """Python's own reader agrees, no key is there twice, and what is written again is the same."""
    assert tree_of(body.decode()) == value
    again = render(value)
    again.encode("utf-8")
    assert parse(again) == value


def _read(protocol: str, body: bytes, *, is_answer: bool) -> Document | None:
    try:
        if not is_answer:
            return read_request(protocol, HEADERS, body)
        request = read_request(protocol, HEADERS, b"{}")
        return read_response(protocol, request, 200, HEADERS, body, LIMIT_BYTES)
    except (BadBody, UnsupportedContent):
        assert not is_answer, "an upstream's fault is not the caller's"
    except UpstreamError:
        assert is_answer, "a caller's fault is not the upstream's"
    return None


def _has_channels_for_all(document: Document, body: bytes) -> None:
    """With every channel edited away nothing is left."""
    texts = [channel.text for channel in document.channels]
    assert sum(map(len, texts)) <= FED_MAX * len(body) + 1024, "far more is looked at than there is"
    out = document.rewritten({index: [Edit(0, len(text), MARK)] for index, text in enumerate(texts) if text})
    if out:
        left = list(_left(tree_of(out.decode("utf-8")), None))
        assert not left, left[:3]


def _left(node: Any, holder: Any) -> Any:
    if isinstance(node, dict):
        for key, inner in node.items():
            if key and not _MASKED.fullmatch(key):
                yield key
            yield from _left(inner, node)
    elif isinstance(node, list):
        for inner in node:
            yield from _left(inner, node)
    elif isinstance(node, str):
        yield from _left_in_text(node)
    elif node is not None and not isinstance(node, bool) and not _is_measure(node, holder):
        yield node


def _left_in_text(text: str) -> Any:
    """A text that is JSON is read as such; what is in no place of it was edited."""
    if text and text != MARK:
        try:
            inner = tree_of(text)
        except ValueError:
            yield text
            return
        yield from [text] if isinstance(inner, str) else _left(inner, None)


def _is_measure(number: float, holder: Any) -> bool:
    if isinstance(number, float) and not number.is_integer():
        return abs(number) < FRACTION_MIN
    is_listed = isinstance(holder, list) and len(holder) > LISTED_FEW
    return abs(number) < (LISTED_MIN if is_listed else NUMBER_MIN)
