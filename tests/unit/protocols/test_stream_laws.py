"""Laws of streamed answers: cuts never matter, and what a client joins is the whole text masked."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.protocols.streaming import TEXTS
from tests.fakes.masker import FakeMaskers, masked
from tests.unit.protocols.streams import (
    NDJSON,
    RECORDED,
    SSE,
    chunk,
    events_of,
    joined,
    read,
    reader,
    recorded,
    sse,
    through,
    tool,
)

texts = st.lists(
    st.sampled_from(["bob@example.org", " ", "4111111111111111", "a", "é", "😀", "\n", '"', "\\", "x.", "1"]),
    max_size=8,
).map("".join)
arguments = st.dictionaries(texts, texts | st.integers() | st.lists(texts, max_size=2), max_size=2)


@st.composite
def split(draw: Any, text: str) -> list[str]:
    at = sorted(draw(st.lists(st.integers(0, len(text)), max_size=5)))
    return [text[i:j] for i, j in zip([0, *at], [*at, len(text)], strict=True)]


@st.composite
def chats(draw: Any) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, Any]]:
    """Chunks of a chat in some order, its texts by place, and its arguments."""
    said: dict[str, str] = {}
    told: dict[str, Any] = {}
    queues: list[list[dict[str, Any]]] = []
    for index in range(draw(st.integers(1, 2))):
        for name in ("content", "reasoning_content"):
            said[f"{index}/{name}"] = text = draw(texts)
            queues.append([chunk({name: piece}, index) for piece in draw(split(text))])
    for at in range(draw(st.integers(0, 2))):
        told[f"0/tool/{at}"] = draw(arguments)
        text = json.dumps(told[f"0/tool/{at}"], ensure_ascii=draw(st.booleans()))
        queues.append([tool(piece, at, "f" if not n else None) for n, piece in enumerate(draw(split(text)))])
    events = []
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        events.append(queue.pop(0))
    return [*events, chunk({}, 0, "stop"), chunk({}, 1, "stop")], said, told


def whole(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, list):
        return [whole(inner) for inner in value]
    if isinstance(value, dict):
        return {masked(key): whole(inner) for key, inner in value.items()}
    return masked(str(value)) if masked(str(value)) != str(value) else value


@settings(deadline=None, max_examples=60)
@given(chats(), st.integers(1, 300))
def test_what_is_joined_is_the_whole_text_masked(
    chat: tuple[list[dict[str, Any]], dict[str, str], dict[str, Any]], size: int
) -> None:
    events, said, told = chat
    out = read(sse(*events, done=True), size=size)
    assert out.refused is None
    assert out == read(sse(*events, done=True))
    made = joined(events_of(out.data))
    assert {place: made.get(place, "") for place in said} == {place: masked(text) for place, text in said.items()}
    for place, value in told.items():
        if len({masked(key) for key in value}) == len(value):
            assert json.loads(made[place]) == whole(value)


@settings(deadline=None, max_examples=60)
@given(chats(), st.data())
def test_nothing_is_scanned_twice_or_not_at_all(
    chat: tuple[list[dict[str, Any]], dict[str, str], dict[str, Any]], data: st.DataObject
) -> None:
    events, said, _ = chat
    made = FakeMaskers()
    raw = sse(*events, done=True)
    at = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    through(reader(make=made), [raw[i:j] for i, j in zip([0, *at], [*at, len(raw)], strict=True)])
    for place, text in said.items():
        index, name = place.split("/")
        assert made.fed(f"/choices/{index}/delta/{name}") == text


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(RECORDED)), st.data())
def test_recorded_streams_cut_anywhere(name: str, data: st.DataObject) -> None:
    protocol, kind = RECORDED[name]
    raw = recorded(name)
    at = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=20)))
    pieces = [raw[i:j] for i, j in zip([0, *at], [*at, len(raw)], strict=True)]
    assert through(reader(protocol, kind), pieces) == read(raw, protocol, kind)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(RECORDED)), st.integers(0, 1 << 14))
def test_a_stream_cut_short_leaks_nothing(name: str, at: int) -> None:
    protocol, kind = RECORDED[name]
    out = read(recorded(name)[:at], protocol, kind)
    assert out.refused in (None, "stream_truncated")
    # Half a value may be all there was: but what was there whole is masked, and no event is half an event.
    assert b"bob@example.org" not in out.data
    assert b"4111111111111111" not in out.data
    if protocol != "generic":
        assert all(isinstance(event, dict) or event == "[DONE]" for event in events_of(out.data))


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([b"data: ", b"{", b"}", b'"a"', b":", b"[", b"]", b"\n", b"\n\n", b"\r", b"1e9", b"\\u", b"d83d", b"\xff", b"\xc3\xa9", b'"', b",", b"event: x\n", b"id: 1\n", b"[DONE]", b'{"choices":[{"delta":{"content":"x"}}]}', b"\xef\xbb\xbf"]),
        max_size=30,
    ).map(b"".join),
    st.integers(1, 9),
    st.sampled_from(["openai.chat", "anthropic.messages", "openai.responses", "generic"]),
    st.sampled_from([SSE, NDJSON]),
)  # fmt: skip
def test_whatever_comes(raw: bytes, size: int, protocol: str, kind: str) -> None:
    """No exception, the same whatever the cuts, and a known code."""
    out = read(raw, protocol, kind, size)
    assert out == read(raw, protocol, kind)
    assert out.refused is None or out.refused in TEXTS
