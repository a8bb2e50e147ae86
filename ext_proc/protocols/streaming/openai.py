"""OpenAI's streams: chat completions and completions (API reference, "Chat Completions, Streaming"). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.model import Usage
from ext_proc.protocols import shapes
from ext_proc.protocols.streaming.dialect import Dialect, Treatment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ext_proc.protocols.streaming.channels import Place

_CHOICE: Final = "choices/*/"
_SHAPES: Final = {
    _CHOICE + "text": Treatment.TEXT,
    _CHOICE + "delta/content": Treatment.TEXT,
    _CHOICE + "delta/reasoning": Treatment.TEXT,
    _CHOICE + "delta/reasoning_content": Treatment.TEXT,
    _CHOICE + "delta/refusal": Treatment.TEXT,
    _CHOICE + "delta/audio/transcript": Treatment.TEXT,
    _CHOICE + "delta/audio/data": Treatment.OPAQUE,
    _CHOICE + "delta/tool_calls/*/custom/input": Treatment.TEXT,
    _CHOICE + "delta/tool_calls/*/function/arguments": Treatment.ARGUMENTS,
    _CHOICE + "delta/function_call/arguments": Treatment.ARGUMENTS,
    "error": Treatment.WHOLE,
}
_WHOLE: Final = ("error/", "usage/", _CHOICE + "delta/annotations/", "prompt_filter_results/")

_REASONS_MAX: Final = 16
"""More are not on record either; a stream may say one in each of a million events."""


class OpenAi(Dialect):
    """Chat completions and completions."""

    is_json = True

    def enter(self, body: Any) -> None:
        """See `Dialect.enter`."""
        facts = self.facts
        facts.model_served = shapes.text(body, "model") or facts.model_served
        facts.model_fingerprint = shapes.text(body, "system_fingerprint") or facts.model_fingerprint
        if shapes.at(body, "usage"):
            usage = Usage(
                shapes.count(body, "usage", "prompt_tokens"), shapes.count(body, "usage", "completion_tokens")
            )
            facts.usage = facts.usage if usage == Usage() else usage
        for position, choice in enumerate(shapes.items(body, "choices")):
            index = _index(choice, position)
            reason = shapes.text(choice, "finish_reason")
            if reason and len(facts.finish_reasons) < _REASONS_MAX:
                facts.finish_reasons = (*facts.finish_reasons, reason)
            for at, call in enumerate(shapes.items(choice, "delta", "tool_calls")):
                name = shapes.text(call, "function", "name") or shapes.text(call, "custom", "name")
                if name:
                    kind = ("function", "arguments") if shapes.at(call, "function") else ("custom", "input")
                    self._named(("choices", index, "delta", "tool_calls", _index(call, at), *kind), name)
            name = shapes.text(choice, "delta", "function_call", "name")
            if name:
                self._named(("choices", index, "delta", "function_call", "arguments"), name)

    def _named(self, place: Place, name: str) -> None:
        self.tools[place] = (self.tools.get(place, "") + name)[:256]  # some send names in pieces

    def treatment(self, shape: str) -> Treatment:
        """See `Dialect.treatment`."""
        found = _SHAPES.get(shape)
        if found is None:
            return Treatment.WHOLE if shape.startswith(_WHOLE) else Treatment.UNKNOWN
        return found

    def whole(self, body: Any) -> Mapping[Place, Place]:
        """See `Dialect.whole`."""
        indexes = [_index(choice, position) for position, choice in enumerate(shapes.items(body, "choices"))]
        return {("choices", index, "delta"): ("choices", index, "message") for index in indexes}

    def closing(self, body: Any) -> Sequence[Place]:
        """See `Dialect.closing`."""
        return [
            ("choices", _index(choice, position))
            for position, choice in enumerate(shapes.items(body, "choices"))
            if shapes.text(choice, "finish_reason")
        ]


def _index(item: Any, position: int) -> int:
    index = shapes.number(item, "index")
    return position if index is None else index
