"""Anthropic's streams (API reference, "Streaming messages"): blocks, each begun, continued and stopped. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.model import Usage
from ext_proc.protocols import shapes
from ext_proc.protocols.anthropic import called, calls
from ext_proc.protocols.streaming.channels import path_of
from ext_proc.protocols.streaming.dialect import ALL, Dialect, Treatment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ext_proc.protocols.streaming.channels import Place

_SHAPES: Final = {
    "content_block/text": Treatment.TEXT,
    "content_block/thinking": Treatment.TEXT,
    "content_block/signature": Treatment.OPAQUE,
    "content_block/data": Treatment.OPAQUE,
    "delta/text": Treatment.TEXT,
    "delta/thinking": Treatment.TEXT,
    "delta/partial_json": Treatment.ARGUMENTS,
    "delta/signature": Treatment.OPAQUE,
    "delta/stop_sequence": Treatment.WHOLE,
}
_WHOLE: Final = (
    "error/",
    "usage/",
    "content_block/",
    "delta/citation/",
    "delta/container/",
    "delta/stop_details/",
)
_BEGIN: Final = "message/"
"""Whole in the event that begins the stream; anywhere else nobody says that it is."""
_BEGUN: Final = ("message/content/*/text", "message/content/*/thinking")
_PACKED: Final = "encrypted_content"
_DELTAS: Final = {"text": "text_delta", "thinking": "thinking_delta", "partial_json": "input_json_delta"}
_TEXTS: Final = ("content", "text")
_BLOCK_PLACE: Final = len(("content", "index", "field"))
_ENDS: Final = ("message_stop", "error")


class Anthropic(Dialect):
    """Messages."""

    is_json = True
    is_named = True

    def __init__(self) -> None:
        super().__init__()
        self._kind = ""
        self._index = 0
        self._begins = 0
        self._is_begin = False

    def enter(self, body: Any, kind: str = "") -> None:
        """See `Dialect.enter`."""
        self._index = shapes.number(body, "index") or 0
        self._kind = kind
        self._is_begin = kind == "message_start"
        if self._begins or self._is_begin:
            self._begins += 1
        if kind in ("message_start", "message_delta"):
            self._learn(body)

    def leave(self, body: Any) -> None:
        """See `Dialect.leave`."""
        block = shapes.at(body, "content_block")
        if calls(block):
            place = ("content", self._index, "partial_json")
            whole = called(block, path_of(place))
            self.tools[place] = whole if shapes.at(block, "input") else whole._replace(arguments="")

    def _learn(self, body: Any) -> None:
        facts = self.facts
        facts.model_served = shapes.text(body, "message", "model") or facts.model_served
        tokens_in, tokens_out = facts.usage.input_tokens, facts.usage.output_tokens
        for usage in (shapes.at(body, "message", "usage"), shapes.at(body, "usage")):
            seen_in, seen_out = shapes.count(usage, "input_tokens"), shapes.count(usage, "output_tokens")
            tokens_in = tokens_in if seen_in is None else seen_in
            tokens_out = tokens_out if seen_out is None else seen_out
        facts.usage = Usage(tokens_in, tokens_out)
        reason = shapes.text(body, "delta", "stop_reason")
        facts.finish_reasons = (reason,) if reason else facts.finish_reasons

    def treatment(self, shape: str) -> Treatment:
        """See `Dialect.treatment`."""
        found = _SHAPES.get(shape)
        if found is not None:
            return found
        if shape.endswith(_PACKED):
            return Treatment.OPAQUE
        if self._is_begin and shape.startswith(_BEGUN):
            return Treatment.EMPTY
        if shape.startswith(_BEGIN) and self._begins == 1:
            return Treatment.WHOLE
        return Treatment.WHOLE if shape.startswith(_WHOLE) else Treatment.UNKNOWN

    def place(self, shape: str, place: Place) -> Place:
        """A block begins with its first piece: that and the deltas are one text."""
        if shape.startswith(("delta/", "content_block/")):
            return ("content", self._index, *place[1:])
        return place

    def reads_on(self, place: Place) -> Place | None:
        """See `Dialect.reads_on`: with citations, a sentence is many blocks."""
        is_block = place[:1] == _TEXTS[:1] and place[2:] == _TEXTS[1:] and type(place[1]) is int
        return _TEXTS if is_block else None

    def whole(self, body: Any) -> Mapping[Place, Place]:
        """See `Dialect.whole`."""
        del body  # `enter` has read it
        if self._kind == "message_delta":
            return {("delta",): ()}
        block = ("content", self._index)
        return {
            ("message",): (),
            ("content_block",): block,
            ("delta",): block,
            ("delta", "partial_json"): (*block, "input"),
            ("delta", "citation"): (*block, "citations", 0),
        }

    def closing(self, body: Any) -> Sequence[Place]:
        """See `Dialect.closing`."""
        kind = self._kind  # `enter` has read it
        if kind == "content_block_stop":
            return [("content", self._index)]
        if shapes.text(body, "delta", "type") == "signature_delta":  # of a thought that is complete
            return [("content", self._index, "thinking")]
        return [ALL] if kind in _ENDS else []

    def carrier(self, place: Place, tail: str) -> tuple[str, Any] | None:
        """A delta: the block may have had no piece but its first."""
        if place[:1] != ("content",) or len(place) != _BLOCK_PLACE:
            return None
        field = str(place[2])
        kind = _DELTAS.get(field)
        if kind is None:
            return None
        delta = {"type": kind, field: tail}
        return "content_block_delta", {"type": "content_block_delta", "index": place[1], "delta": delta}
