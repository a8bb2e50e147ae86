"""Streams for tests: bodies in the shapes of the providers' references, and how a client puts them together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ext_proc.protocols.streaming import Limits, Released, StreamReader, stream_reader
from tests.fakes.masker import FakeMaskers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
TEXT = "text/plain"
VECTORS = Path(__file__).parents[2] / "vectors" / "streams"
RECORDED = {
    "openai_chat.sse": ("openai.chat", SSE),
    "openai_tools.sse": ("openai.chat", SSE),
    "openai_completions.sse": ("openai.completions", SSE),
    "openai_responses.sse": ("openai.responses", SSE),
    "anthropic_messages.sse": ("anthropic.messages", SSE),
    "ollama_chat.ndjson": ("generic", NDJSON),
    "generic_text.sse": ("generic", SSE),
}


def recorded(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def reader(
    protocol: str = "openai.chat",
    kind: str = SSE,
    make: Any = None,
    limits: Limits | None = None,
    mask_whole: Any = None,
) -> StreamReader:
    return stream_reader(protocol, kind, make or FakeMaskers(), limits, mask_whole)


def cut(raw: bytes, size: int) -> Iterator[bytes]:
    return (raw[at : at + size] for at in range(0, len(raw), size))


def through(read: StreamReader, pieces: Iterable[bytes]) -> Released:
    """Everything through the reader: all that came out, and the code it ended with."""
    out = b""
    for piece in pieces:
        released = read.feed(piece)
        out += released.data
        if released.refused:
            return Released(out, released.refused)
    last = read.finish()
    return Released(out + last.data, last.refused)


def read(raw: bytes, protocol: str = "openai.chat", kind: str = SSE, size: int = 1 << 30, **more: Any) -> Released:
    return through(reader(protocol, kind, **more), cut(raw, size))


def sse(*events: Any, done: bool = False) -> bytes:
    """Server-sent events; strings stand as they are, events with a type have it as their name too."""
    parts = []
    for event in events:
        if isinstance(event, str):
            parts.append(event)
            continue
        name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
        parts.append(f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n")
    return ("".join(parts) + ("data: [DONE]\n\n" if done else "")).encode()


def events_of(data: bytes) -> list[Any]:
    lines = [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def chunk(delta: Any, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of a chat completion."""
    choice = {"index": index, "delta": delta, "finish_reason": finish, **more}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1741570283,
        "model": "gpt-4o",
        "choices": [choice],
    }


def tool(arguments: str, at: int = 0, name: str | None = None) -> dict[str, Any]:
    """One chunk of a tool call."""
    call: dict[str, Any] = {"index": at, "function": {"arguments": arguments}}
    if name:
        call |= {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
    return chunk({"tool_calls": [call]})


def joined(events: list[Any]) -> dict[str, str]:
    """What a client makes of a chat's chunks: each text by its place."""
    said: dict[str, str] = {}
    for event in events:
        for choice in event["choices"] if isinstance(event, dict) else ():
            for key, value in choice.get("delta", {}).items():
                if isinstance(value, str) and key != "role":
                    place = f"{choice['index']}/{key}"
                    said[place] = said.get(place, "") + value
            for call in choice.get("delta", {}).get("tool_calls", ()):
                place = f"{choice['index']}/tool/{call['index']}"
                said[place] = said.get(place, "") + call["function"]["arguments"]
    return said
