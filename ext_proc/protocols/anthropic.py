"""Anthropic's messages (API reference, "Messages" and "Streaming messages")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.model import Usage
from ext_proc.protocols import shapes
from ext_proc.protocols.document import Facts
from ext_proc.protocols.event_kind import kind_of
from ext_proc.protocols.joining import add_in_a_row, add_joined, collect
from ext_proc.protocols.json_text import render
from ext_proc.protocols.tools import Asked

if TYPE_CHECKING:
    from ext_proc.protocols.document import Document
    from ext_proc.protocols.joining import Found
    from ext_proc.protocols.sse import Event

_DELTA_TEXTS: Final = ("text", "thinking")


def answer_facts(body: Any) -> Facts:
    """What one answer says of itself."""
    reason = shapes.text(body, "stop_reason")
    return Facts(
        model_served=shapes.text(body, "model"),
        usage=Usage(shapes.count(body, "usage", "input_tokens"), shapes.count(body, "usage", "output_tokens")),
        finish_reasons=(reason,) if reason else (),
    )


def answer_tools(body: Any) -> list[Asked]:
    """Tool calls of one answer, arguments as compact JSON."""
    return [
        called(block, f"/content/{at}/input") for at, block in enumerate(shapes.items(body, "content")) if calls(block)
    ]


def calls(block: Any) -> bool:
    """Is a content block a tool call: the caller's tools, the provider's, those of MCP servers?"""
    return (shapes.text(block, "type") or "").endswith("tool_use")


def called(block: Any, channel: str) -> Asked:
    """The tool call that a block is, as it stands."""
    name, said = shapes.text(block, "name") or "", render(shapes.at(block, "input"))
    return Asked(name, said, channel, shapes.text(block, "id") or "")


def add_stream(document: Document, events: list[Event]) -> None:
    """Join the deltas of each content block, with what it started with, to channels; blocks of text to one.

    Raises:
        JsonError: an event's name and its type differ.
    """
    found: Found = {}
    for event in events:
        if event.is_done:
            continue
        body = event.data[0]
        kind_of(body, event.name)
        index = shapes.number(body, "index") or 0
        for name in ("content_block", "delta"):
            collect(document, shapes.at(body, name), ("content", index), found)
    texts = sorted(path for path in found if path[2:] == ("text",))
    if len(texts) > 1:
        add_in_a_row(document, [found.pop(path) for path in texts], "/content/*/text", "text")
    add_joined(document, found, whole=_DELTA_TEXTS, as_json=("partial_json",))


def stream_facts(events: list[Event]) -> Facts:
    """What a stream says of itself: ``message_start`` first, ``message_delta`` last."""
    facts = Facts()
    tokens_in: int | None = None
    tokens_out: int | None = None
    for body in (event.data[0] for event in events if not event.is_done):
        facts.model_served = shapes.text(body, "message", "model") or facts.model_served
        for usage in (shapes.at(body, "message", "usage"), shapes.at(body, "usage")):
            seen_in, seen_out = shapes.count(usage, "input_tokens"), shapes.count(usage, "output_tokens")
            tokens_in = tokens_in if seen_in is None else seen_in
            tokens_out = tokens_out if seen_out is None else seen_out
        reason = shapes.text(body, "delta", "stop_reason")
        facts.finish_reasons = (reason,) if reason else facts.finish_reasons
    facts.usage = Usage(tokens_in, tokens_out)
    return facts


def stream_tools(events: list[Event]) -> list[Asked]:
    """Tool calls of a stream, put together."""
    found: dict[int, Asked] = {}
    for body in (event.data[0] for event in events if not event.is_done):
        index = shapes.number(body, "index") or 0
        block = shapes.at(body, "content_block")
        if calls(block):
            whole = called(block, f"/content/{index}/partial_json")
            found[index] = whole if shapes.at(block, "input") else whole._replace(arguments="")
        if index in found:
            more = shapes.text(body, "delta", "partial_json") or ""
            found[index] = found[index]._replace(arguments=found[index].arguments + more)
    return list(found.values())
