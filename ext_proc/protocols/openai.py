"""OpenAI's chat completions, completions, embeddings and models (its API reference)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final

from ext_proc.model import Usage
from ext_proc.protocols import shapes
from ext_proc.protocols.document import Facts

if TYPE_CHECKING:
    from ext_proc.protocols.document import Document
    from ext_proc.protocols.sse import Event

PARAMETERS: Final = (
    "temperature",
    "top_p",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "stream",
    "dimensions",
    "encoding_format",
    "reasoning_effort",
    "store",
)
_MEDIA: Final = ("image_url", "input_audio", "file")
_EMBEDDING: Final = re.compile(r"/data/\d+/embedding")
_DELTA_TEXTS: Final = ("content", "reasoning_content", "reasoning", "refusal")


def count_media(body: Any) -> int:
    """Parts of messages that are not text."""
    parts = [part for message in shapes.items(body, "messages") for part in shapes.items(message, "content")]
    return sum(1 for part in parts if shapes.text(part, "type") in _MEDIA)


def is_structure(path: str, value: Any) -> bool:
    """An embedding sent as base64 of 32-bit floats (the official client asks for it)."""
    if not _EMBEDDING.fullmatch(path) or not isinstance(value, str):
        return False
    try:
        raw = base64.b64decode(value, validate=True)
    except binascii.Error:
        return False
    return len(raw) % 4 == 0 and len(raw) >= 256


def answer_facts(body: Any) -> Facts:
    """What one answer says of itself."""
    return Facts(
        model_served=shapes.text(body, "model"),
        model_fingerprint=shapes.text(body, "system_fingerprint"),
        usage=_usage(body),
        finish_reasons=tuple(
            reason for choice in shapes.items(body, "choices") if (reason := shapes.text(choice, "finish_reason"))
        ),
    )


def answer_tools(body: Any) -> list[tuple[str, str]]:
    """Tool calls of one answer: name, arguments."""
    return [
        (shapes.text(call, "function", "name") or "", shapes.text(call, "function", "arguments") or "")
        for choice in shapes.items(body, "choices")
        for call in shapes.items(choice, "message", "tool_calls")
    ]


def add_stream(document: Document, events: list[Event]) -> None:
    """Join the deltas of each choice to channels, so that a value split over events is one text."""
    texts: dict[tuple[int, str], list[tuple[Any, Any]]] = {}
    arguments: dict[tuple[int, int], list[tuple[Any, Any]]] = {}
    for body in (event.data[0] for event in events if not event.is_done):
        for choice in shapes.items(body, "choices"):
            index = shapes.number(choice, "index") or 0
            if shapes.text(choice, "text") is not None:
                texts.setdefault((index, "text"), []).append((choice, "text"))
            delta = shapes.at(choice, "delta")
            for name in _DELTA_TEXTS:
                if shapes.text(delta, name) is not None:
                    texts.setdefault((index, name), []).append((delta, name))
            for position, call in enumerate(shapes.items(delta, "tool_calls")):
                if shapes.text(call, "function", "arguments") is not None:
                    key = (index, _call_index(call, position))
                    arguments.setdefault(key, []).append((call["function"], "arguments"))
    for (index, name), fragments in texts.items():
        document.add_fragments(fragments, f"/choices/{index}/delta/{name}", name, is_json=False)
    for (index, call_index), fragments in arguments.items():
        path = f"/choices/{index}/delta/tool_calls/{call_index}/function/arguments"
        document.add_fragments(fragments, path, "arguments", is_json=True)


def stream_facts(events: list[Event]) -> Facts:
    """What a stream says of itself: the last word counts."""
    bodies = [event.data[0] for event in events if not event.is_done]
    facts = Facts()
    reasons: list[str] = []
    for body in bodies:
        said = answer_facts(body)
        facts.model_served = said.model_served or facts.model_served
        facts.model_fingerprint = said.model_fingerprint or facts.model_fingerprint
        reasons += said.finish_reasons
        if said.usage != Usage():
            facts.usage = said.usage
    facts.finish_reasons = tuple(reasons)
    return facts


def stream_tools(events: list[Event]) -> list[tuple[str, str]]:
    """Tool calls of a stream, put together."""
    names: dict[tuple[int, int], str] = {}
    said: dict[tuple[int, int], str] = {}
    for body in (event.data[0] for event in events if not event.is_done):
        for choice in shapes.items(body, "choices"):
            for position, call in enumerate(shapes.items(choice, "delta", "tool_calls")):
                key = (shapes.number(choice, "index") or 0, _call_index(call, position))
                names[key] = names.get(key, "") + (shapes.text(call, "function", "name") or "")
                said[key] = said.get(key, "") + (shapes.text(call, "function", "arguments") or "")
    return [(names[key], said[key]) for key in names]


def _call_index(call: Any, position: int) -> int:
    index = shapes.number(call, "index")
    return position if index is None else index


def _usage(body: Any) -> Usage:
    return Usage(shapes.number(body, "usage", "prompt_tokens"), shapes.number(body, "usage", "completion_tokens"))
