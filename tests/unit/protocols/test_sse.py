"""Server-sent events (WHATWG HTML, section 9.2): read as a browser does, nothing dropped that could be text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.protocols.json_text import JsonError
from ext_proc.protocols.sse import Event, read_events, write_events


def read(text: str) -> list[tuple[str, object]]:
    return [(event.name, "DONE" if event.is_done else event.data[0]) for event in read_events(text.encode())]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("", []),
        ('data: {"a":1}\n\n', [("", {"a": 1})]),
        ('data:{"a":1}\n\n', [("", {"a": 1})]),
        ('data: {"a":1}\r\n\r\ndata: 2\r\n\r\n', [("", {"a": 1}), ("", 2)]),
        ('data: {"a":1}\r\rdata: 2\r\r', [("", {"a": 1}), ("", 2)]),
        ("data: 1\n\r\ndata: 2\r\n\n", [("", 1), ("", 2)]),
        ('data: {"a":\ndata: 1}\n\n', [("", {"a": 1})]),
        ("event: x\ndata: 1\n\n", [("x", 1)]),
        ("event: x\n\ndata: 1\n\n", [("", 1)]),
        ("event: x\nevent: y\ndata: 1\n\n", [("y", 1)]),
        (": hello bob@example.org\n\ndata: 1\n\n", [("", 1)]),
        ("id: bob@example.org\nretry: 5\ndata: 1\n\n", [("", 1)]),
        ("bob@example.org: x\ndata: 1\n\n", [("", 1)]),
        ("data: 1\n\ndata: [DONE]\n\n", [("", 1), ("", "DONE")]),
        ("event: done\ndata: [DONE]\n\n", [("done", "DONE")]),
        ("\ufeffdata: 1\n\n", [("", 1)]),
        ("data: 1", [("", 1)]),
        ("data: 1\n", [("", 1)]),
        ("data: 1\n\n\n\n\ndata: 2\n\n", [("", 1), ("", 2)]),
        ("data:\n\ndata: 1\n\n", [("", 1)]),
        ("data\n\n", []),
        ("data: 1\x0b\n\n", None),
    ],
)  # fmt: skip
def test_read(text: str, events: list[tuple[str, object]] | None) -> None:
    if events is None:
        with pytest.raises(JsonError):
            read(text)
    else:
        assert read(text) == events


@pytest.mark.parametrize(
    "text", ["data: hello\n\n", "data: {\n\n", "data: [DONE] x\n\n", 'data: {"a":1,"a":2}\n\n', "data: NaN\n\n"]
)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(JsonError):
        read_events(text.encode())


def test_not_utf8() -> None:
    with pytest.raises(JsonError, match="UTF-8"):
        read_events(b'data: "\xff"\n\n')


def test_write() -> None:
    events = [Event("", [{"a": "x\ny"}]), Event("n", [1]), Event("", ["[DONE]"], is_done=True)]
    assert write_events(events) == b'data: {"a":"x\\ny"}\n\nevent: n\ndata: 1\n\ndata: [DONE]\n\n'


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
names = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",)), max_size=8).filter(
    lambda name: not name.startswith(" ")
)


@settings(deadline=None)
@given(st.lists(st.tuples(names, values)))
def test_round_trip(made: list[tuple[str, object]]) -> None:
    events = [Event(name, [value]) for name, value in made]
    assert [(event.name, event.data) for event in read_events(write_events(events))] == [
        (name, [value]) for name, value in made
    ]
