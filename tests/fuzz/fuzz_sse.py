"""Streamed answers, whatever the bytes: refused with a code, or every text of them was scanned; cuts never matter.

The first three bytes choose the protocol, the media type and what is masked, and the size of the pieces. What follows
are the bytes themselves, or the script of a stream (`composed`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ext_proc.protocols.streaming import TEXTS, Limits, Released, stream_reader
from tests.fuzz.blind import MARK, Blinds, tree_of, unscanned
from tests.fuzz.composed import composed

if TYPE_CHECKING:
    from ext_proc.protocols.streaming import StreamReader

PROTOCOLS = ("openai.chat", "openai.responses", "anthropic.messages", "generic", "openai.completions")
SSE, LINES, TEXT = KINDS = ("text/event-stream", "application/x-ndjson", "text/plain")
LIMITS = Limits(total_bytes=1 << 16, event_bytes=1 << 13, channels=64, values=500)
"""Small ones, so that a fuzzer gets there."""
FED_MAX = 128
"""Times the answer: of a label, up to 96 characters that stood there before are looked at with it."""
GROWN_MAX = 64
"""Times the answer: the tail of a short piece comes in an event of its own, with the ids of the one before."""


def one(data: bytes) -> None:
    """Let one answer through, whole and in pieces."""
    if len(data) < 3:
        return
    protocol, kind = PROTOCOLS[data[0] % len(PROTOCOLS)], KINDS[(data[1] & 0x3F) % len(KINDS)]
    only_digits, size = bool(data[1] & 0x80), data[2] % 61 + 1
    raw = composed(data[3:], as_lines=kind == LINES) if data[1] & 0x40 else data[3:]
    blinds = Blinds(only_digits=only_digits)
    whole, reader = _through(protocol, kind, blinds, [raw])
    _judge(whole, raw, kind, blinds, reader)
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    again = Blinds(only_digits=only_digits)
    cut, reader = _through(protocol, kind, again, pieces)
    _judge(cut, raw, kind, again, reader)
    assert (whole.refused is None) == (cut.refused is None), (whole.refused, cut.refused)
    if whole.refused is None and kind != TEXT:  # of plain text each piece that comes is passed on
        assert whole.data == cut.data, "cuts matter"
    if whole.refused is None:
        assert whole.data.replace(MARK.encode(), b"") == cut.data.replace(MARK.encode(), b"")


def _through(protocol: str, kind: str, blinds: Blinds, pieces: list[bytes]) -> tuple[Released, StreamReader]:
    reader = stream_reader(protocol, kind, blinds, LIMITS)
    out = b""
    for piece in pieces:
        released = reader.feed(piece)
        out += released.data
        if released.refused:
            assert reader.feed(piece) == reader.finish() == Released(b""), "something comes after the end"
            return Released(out, released.refused), reader
    last = reader.finish()
    return Released(out + last.data, last.refused), reader


def _judge(out: Released, raw: bytes, kind: str, blinds: Blinds, reader: StreamReader) -> None:
    assert out.refused is None or out.refused in TEXTS, out.refused
    assert blinds.fed_characters <= FED_MAX * len(raw) + 1024, "far more is looked at than there is"
    assert len(out.data) <= GROWN_MAX * len(raw) + 1024, "the answer grows"
    assert out.refused is not None or blinds.is_all_out, "some of a text was never let out"
    learnt = reader.learnt()
    assert learnt.coverage.forwarded_bytes == len(out.data), "the record says something else than what went out"
    assert learnt.coverage.scanned_bytes >= 0 <= learnt.coverage.structure_bytes
    text = out.data.decode("utf-8")  # whatever came in
    if kind == TEXT:
        assert not blinds.is_through(text), text
    elif kind == LINES:
        found = [one for line in text.split("\n") if line.strip() for one in unscanned(tree_of(line), blinds)]
        assert not found, found[:3]
    else:
        found = [one for event in text.split("\n\n") for one in _of_event(event, blinds)]
        assert not found, found[:3]


def _of_event(event: str, blinds: Blinds) -> list[Any]:
    """What stands in an event of ours, unscanned. Its lines end in LF, and none is empty: a careless reader reads it."""
    data: list[str] = []
    found: list[Any] = []
    for line in event.split("\n"):
        field, _, value = line.partition(": ")
        if field == "data":
            data.append(value)
        elif field == "event":
            found += unscanned({"event": value}, blinds)
        elif field == "id":
            found += [] if value.isdigit() and len(value) < 10 else unscanned({"id": value}, blinds)
        elif field == "retry":
            found += [] if value.isdigit() and len(value) < 8 else [value]
        elif line not in ("", ":"):
            found.append(line)
    said = "\n".join(data)
    if said in ("", "[DONE]"):
        return found
    try:
        tree = tree_of(said)
    except ValueError:
        return found + ([said] if blinds.is_through(said) else [])
    return found + unscanned(tree, blinds)
