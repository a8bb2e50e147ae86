"""OpenAI's streams: chat completions and completions (API reference, "Chat Completions, Streaming"). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.model import Usage
from ext_proc.protocols import shapes
from ext_proc.protocols.openai import called_as
from ext_proc.protocols.streaming.channels import path_of
from ext_proc.protocols.streaming.dialect import ALL, Dialect, Treatment
from ext_proc.protocols.streaming.masking import StreamRefused
from ext_proc.protocols.tools import Asked, said_in

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
_WHOLE: Final = (
    "error/",
    "usage/",
    _CHOICE + "delta/annotations/",
    "prompt_filter_results/",
    *(f"{shape}/" for shape, treatment in _SHAPES.items() if treatment is Treatment.ARGUMENTS),  # an object, no text
)

_NAME_MAX: Final = 256
_REASONS_MAX: Final = 16
"""More are not on record either; a stream may say one in each of a million events."""


class OpenAi(Dialect):
    """Chat completions and completions."""

    is_json = True

    def __init__(self) -> None:
        super().__init__()
        self._begun: set[Place] = set()  # arguments that are texts, so far
        self._whole: set[Place] = set()  # those that are none

    def enter(self, body: Any, kind: str = "") -> None:
        """See `Dialect.enter`."""
        del kind  # these have none
        facts = self.facts
        facts.model_served = shapes.text(body, "model") or facts.model_served
        facts.model_fingerprint = shapes.text(body, "system_fingerprint") or facts.model_fingerprint
        if shapes.at(body, "usage"):
            usage = Usage(
                shapes.count(body, "usage", "prompt_tokens"), shapes.count(body, "usage", "completion_tokens")
            )
            facts.usage = facts.usage if usage == Usage() else usage
        for choice in shapes.items(body, "choices"):
            reason = shapes.text(choice, "finish_reason")
            if reason and len(facts.finish_reasons) < _REASONS_MAX:
                facts.finish_reasons = (*facts.finish_reasons, reason)

    def leave(self, body: Any) -> None:
        """See `Dialect.leave`."""
        for position, choice in enumerate(shapes.items(body, "choices")):
            place: Place = ("choices", _index(choice, position), "delta")
            for at, call in enumerate(shapes.items(choice, "delta", "tool_calls")):
                kind = called_as(call)
                here = (*place, "tool_calls", _index(call, at), *kind)
                self._asked(here, shapes.text(call, kind[0], "name"), shapes.text(call, "id"))
                self._say(here, shapes.at(call, *kind))
            old = shapes.at(choice, "delta", "function_call")
            if isinstance(old, dict):
                here = (*place, "function_call", "arguments")
                if old.get("name") or not isinstance(old.get("arguments"), str | None):
                    self._asked(here, shapes.text(old, "name"), None)
                self._say(here, old.get("arguments"))

    def _asked(self, place: Place, name: str | None, call_id: str | None) -> None:
        known = self.tools.get(place)
        if known is None:
            self.tools[place] = Asked((name or "")[:_NAME_MAX], "", path_of(place), call_id or "")
        elif name:  # some send names in pieces
            self.tools[place] = known._replace(name=(known.name + name)[:_NAME_MAX])

    def _say(self, place: Place, said: Any) -> None:
        """Arguments that are no text are whole: the digest is of those, and no text may go on with them.

        Raises:
            StreamRefused: there is both, or there are two.
        """
        if said is None:
            return
        is_text = isinstance(said, str)  # an empty one too: more of it may be held
        if place in self._whole or (not is_text and place in self._begun):
            raise StreamRefused("stream_not_json")
        if is_text:
            self._begun.add(place)
        else:
            self._whole.add(place)
            self.tools[place] = self.tools[place]._replace(arguments=said_in(said))

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
        """See `Dialect.closing`. An error ends all: clients raise at it, and hear of nothing that comes later."""
        if shapes.at(body, "error"):
            return [ALL]
        return [
            ("choices", _index(choice, position))
            for position, choice in enumerate(shapes.items(body, "choices"))
            if shapes.text(choice, "finish_reason")
        ]


def _index(item: Any, position: int) -> int:
    index = shapes.number(item, "index")
    return position if index is None else index
