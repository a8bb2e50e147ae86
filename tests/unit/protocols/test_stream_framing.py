"""Server-sent events and lines, cut anywhere (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.protocols.streaming.framing import EventFrames, Frame, LineFrames
from ext_proc.protocols.streaming.masking import StreamRefused

LIMIT = 64


def frames(raw: bytes, size: int = 1 << 30, limit: int = LIMIT) -> list[tuple[bytes, bytes]]:
    framer = EventFrames(limit)
    found: list[Frame] = [frame for at in range(0, len(raw), size) for frame in framer.feed(raw[at : at + size])]
    last = framer.finish()
    return [(frame.name, b":" if frame.is_comment else frame.data) for frame in (*found, *([last] if last else []))]


CASES = [
    (b"", []),
    (b"data: 1\n\n", [(b"", b"1")]),
    (b"data:1\n\n", [(b"", b"1")]),
    (b"data:  1\n\n", [(b"", b" 1")]),
    (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [(b"", b"1"), (b"", b"2")]),
    (b"data: 1\r\rdata: 2\r\r", [(b"", b"1"), (b"", b"2")]),
    (b"data: 1\n\r\ndata: 2\r\n\n", [(b"", b"1"), (b"", b"2")]),
    (b"data: a\r\ndata: b\rdata: c\n\n", [(b"", b"a\nb\nc")]),
    (b"event: x\ndata: 1\n\n", [(b"x", b"1")]),
    (b"event: x\n\ndata: 1\n\n", [(b"", b"1")]),
    (b"event: x\nevent: y\ndata: 1\n\n", [(b"y", b"1")]),
    (b": hello\n\ndata: 1\n\n", [(b"", b":"), (b"", b"1")]),
    (b"data: 1\n: hello\ndata: 2\n\n", [(b"", b":"), (b"", b"1\n2")]),
    (b"bob@example.org: x\ndata: 1\n\n", [(b"", b"1")]),
    (b"\xef\xbb\xbfdata: 1\n\n", [(b"", b"1")]),
    (b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n", [(b"", b"1")]),  # a mark stands at the beginning only
    (b"data: 1", [(b"", b"1")]),
    (b"data: 1\n", [(b"", b"1")]),
    (b"data: 1\r", [(b"", b"1")]),
    (b"data:\n\ndata\n\n", []),
    (b"\n\n\r\n\r\r", []),
]


@pytest.mark.parametrize(("raw", "found"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 1 << 20])
def test_events(raw: bytes, found: list[tuple[bytes, bytes]], size: int) -> None:
    assert frames(raw, size) == found


@given(
    st.lists(st.sampled_from([b"data: x", b"\n", b"\r", b"\r\n", b":", b"event: e", b"\xc3\xa9", b"\n\n", b" "])),
    st.integers(1, 5),
)
def test_cuts_do_not_matter(parts: list[bytes], size: int) -> None:
    raw = b"".join(parts)
    assert frames(raw, size, 1 << 20) == frames(raw, 1 << 20, 1 << 20)


def test_id_and_retry() -> None:
    (frame,) = EventFrames(LIMIT).feed(b"id: 7\nretry: 500\ndata: 1\n\n")
    assert (frame.id, frame.retry) == (b"7", b"500")
    (frame,) = EventFrames(LIMIT).feed(b"retry: 4111111111111111\ndata: 1\n\n")
    assert frame.retry == b""


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"data: " + b"x" * 100, "stream_line_too_long"),
        (b": " + b"x" * 100, "stream_line_too_long"),
        (b"ok: 1\n" + b"x" * 100 + b"\n", "stream_line_too_long"),
        (b"data: xxxxxxxxxxxxxxxx\n" * 100, "stream_event_too_large"),
        (b"data:\n" * 100, "stream_event_too_large"),
    ],
)
def test_limits(raw: bytes, code: str, size: int) -> None:
    with pytest.raises(StreamRefused) as caught:
        frames(raw, size)
    assert caught.value.code == code


def test_what_ends_is_let_go() -> None:
    """Many events within the limit are no large event."""
    assert len(frames(b"data: xxxxxxxx\n\n" * 100)) == 100


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_lines(size: int) -> None:
    framer = LineFrames(LIMIT)
    raw = b'{"a":1}\r\n\n[2]\n\r\n3'
    found = [frame for at in range(0, len(raw), size) for frame in framer.feed(raw[at : at + size])]
    last = framer.finish()
    assert [b"" if frame.is_comment else frame.data.strip() for frame in found] == [b'{"a":1}', b"", b"[2]", b""]
    assert last is not None
    assert last.data == b"3"
    assert framer.finish() is None


def test_endless_line() -> None:
    framer = LineFrames(LIMIT)
    for _ in range(LIMIT):
        assert list(framer.feed(b"x")) == []
    with pytest.raises(StreamRefused, match="stream_line_too_long"):
        list(framer.feed(b"x"))
