"""OpenAI's Responses streams (API reference, "Responses, Streaming events"): deltas, then the whole, thrice. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.protocols import responses, shapes
from ext_proc.protocols.streaming.channels import path_of
from ext_proc.protocols.streaming.dialect import ALL, Dialect, Treatment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ext_proc.protocols.streaming.channels import Place

_PACKED_DELTAS: Final = ("response.audio.delta",)
_PACKED: Final = ("encrypted_content", "partial_image_b64", "result")
_WHOLE: Final = frozenset(
    {
        "text",
        "refusal",
        "code",
        "input",
        "message",
        "response",
        "item",
        "part",
        "annotation",
        "error",
        "param",
        "command",
    }
)
_WHOLE_JSON: Final = ("arguments", "item/arguments", "response/output/*/arguments")
_NAMED: Final = {
    "response.function_call_arguments": "arguments",
    "response.mcp_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
    "response.code_interpreter_call_code": "code",
    "response.refusal": "refusal",
}
"""What the text is called, in a whole answer, that a family of events is about; the others' is ``text``."""
_OF_ITEM: Final = ("arguments", "input", "code")
_OPENING: Final = ("response.created", "response.in_progress", "response.queued")
_BEGUN: Final = ("text", "refusal", "arguments", "input", "code")
_EVENTS_MAX: Final = 10**9
_ENDS: Final = ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "error")

_SAID: Final = "response.output_text"
_PARTS: Final = len(("output", "index", _SAID))
_OF_PART: Final = _PARTS + len(("index", "delta"))
_PARTS_WHOLE: Final = {f"{_SAID}.done": "text", "response.content_part.done": "part/text"}
_HOLDERS: Final = {
    "annotation": ("response.output_text.annotation.",),
    "item": ("response.output_item.",),
    "part": ("response.content_part.", "response.reasoning_summary_part."),
    "response": (*_OPENING, *_ENDS),
}
"""What events hold of which much is alike in the next, and the kinds that do."""


class Responses(Dialect):
    """The Responses API."""

    is_json = True
    repeats = True
    is_named = True

    def __init__(self) -> None:
        super().__init__()
        self._kind = ""
        self._is_json = False
        self._of: Place = ()
        self._added = 0
        self._number = 0
        self._last = -1

    def enter(self, body: Any, kind: str = "") -> None:
        """See `Dialect.enter`."""
        self._kind = kind
        self._is_json = responses.is_json_delta(kind)
        self._of = responses.delta_place(body, kind)
        said = shapes.number(body, "sequence_number")
        if said is not None and 0 <= said < _EVENTS_MAX:  # else it counts nothing, and is looked at like any number
            self._number = said
        answer = shapes.at(body, "response")
        if answer is not None:
            self.facts = responses.merged(self.facts, responses.answer_facts(answer), is_last=self._kind in _ENDS)

    def leave(self, body: Any) -> None:
        """See `Dialect.leave`."""
        if not self._kind.startswith("response.output_item."):
            return
        item, index = shapes.at(body, "item"), int(self._of[1])
        place = responses.arguments_place(shapes.text(item, "type"), index)
        asked = responses.called(item, index, path_of(place)) if place else None
        if place and asked is not None:
            self.tools[place] = asked if asked.name or place not in self.tools else self.tools[place]

    def treatment(self, shape: str) -> Treatment:
        """See `Dialect.treatment`."""
        if shape == "delta":
            if self._kind in _PACKED_DELTAS:
                return Treatment.OPAQUE
            return Treatment.ARGUMENTS if self._is_json else Treatment.TEXT
        if (self._kind in _OPENING or self._kind.endswith(".added")) and _is_begun(shape):
            return Treatment.EMPTY
        if shape in _WHOLE_JSON:
            return Treatment.WHOLE_ARGUMENTS
        if shape.rpartition("/")[2] in _PACKED:
            return Treatment.OPAQUE
        return Treatment.WHOLE if shape.partition("/")[0] in _WHOLE else Treatment.UNKNOWN

    def place(self, shape: str, place: Place) -> Place:
        """Of a delta: the output item, what of it, and which part."""
        return (*self._of, "delta") if shape == "delta" else place

    def reads_on(self, place: Place) -> Place | None:
        """See `Dialect.reads_on`: parts of one message."""
        is_part = place[_PARTS - 1 : _PARTS] == (_SAID,) and len(place) == _OF_PART and type(place[_PARTS]) is int
        return place[:_PARTS] if is_part else None

    def whole_at(self, shape: str, place: Place) -> Place | None:
        """The protocol says a text whole once in each kind of event. Said again there, it is more of it to somebody.

        So are the parts of one message, which these events say one after the other.
        """
        if shape == _PARTS_WHOLE.get(self._kind):
            return (*self._of[:2], *place)
        holder = shape.partition("/")[0]
        if holder != shape and self._kind.startswith(_HOLDERS.get(holder, ())):
            return None
        return (*self._of, *place) if responses.is_known(self._kind) else place

    def whole(self, body: Any) -> Mapping[Place, Place]:
        """See `Dialect.whole`."""
        item = self._of[:2]
        numbers = (shapes.number(body, name) or 0 for name in ("content_index", "summary_index", "annotation_index"))
        content, summary, annotation = numbers
        is_summary = self._kind.startswith("response.reasoning_summary")
        part = (*item, "summary", summary) if is_summary else (*item, "content", content)
        found: dict[Place, Place] = {("response",): (), ("item",): item, ("part",): part}
        name = next((name for family, name in _NAMED.items() if self._kind.startswith(family)), "text")
        of = item if name in _OF_ITEM else part
        found[("delta",)] = found[(name,)] = (*of, name)
        found[("annotation",)] = (*part, "annotations", annotation)
        return found

    def closing(self, body: Any) -> Sequence[Place]:
        """See `Dialect.closing`."""
        del body  # `enter` has read it
        if self._kind in _ENDS:
            return [ALL]
        if self._kind == "response.output_item.done":
            return [self._of[:2]]
        return [self._of] if self._kind.endswith(".done") else []

    def numbered(self, body: Any, *, is_ours: bool) -> None:
        """Our events shift the numbers of those that follow."""
        if shapes.number(body, "sequence_number") is None:
            return
        if is_ours:
            self._added += 1
            self._last += 1
        else:
            self._last = self._number + self._added
        body["sequence_number"] = self._last

    def next_number(self) -> int:
        """See `Dialect.next_number`."""
        return self._last + 1


def _is_begun(shape: str) -> bool:
    """Is it a text of the answer, as far as it is there when it begins: nothing?"""
    return shape.startswith(("part/", "item/", "response/output/")) and shape.rpartition("/")[2] in _BEGUN
