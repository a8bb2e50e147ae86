"""OpenAI's Responses API, whole answers (API reference, "Responses"); streams: `streaming.responses`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.model import Usage
from ext_proc.protocols import shapes
from ext_proc.protocols.document import Facts
from ext_proc.protocols.event_kind import kind_of
from ext_proc.protocols.joining import add_in_a_row, add_joined
from ext_proc.protocols.openai import add_token
from ext_proc.protocols.tools import Asked, said_in

if TYPE_CHECKING:
    from ext_proc.protocols.document import Document, Place
    from ext_proc.protocols.joining import Found
    from ext_proc.protocols.sse import Event

_CALLS: Final = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "mcp_call": ("arguments", "response.mcp_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
}
_INDEXES: Final = (
    ("response.reasoning_summary", ("summary_index",)),
    ("response.reasoning", ("content_index",)),
    ("response.output_text", ("content_index",)),
    ("response.refusal", ("content_index",)),
    ("response.content_part", ("content_index",)),
    ("response.shell_call_", ("command_index",)),
    ("response.function_call_arguments", ()),
    ("response.mcp_call_arguments", ()),
    ("response.custom_tool_call_input", ()),
    ("response.code_interpreter_call_code", ()),
    ("response.output_item", ()),
    ("response.audio", ()),
)
"""Beside the output item's, the indexes that families of events have, by how their names begin. An event may hold
others as well: no client goes by those, and they must not keep apart what clients put together."""
_ALL_INDEXES: Final = ("content_index", "summary_index", "command_index")
"""Of a family that nobody knows yet."""
_PARTS_OF: Final = "response.output_text"
_JSON_DELTAS: Final = ("response.function_call_arguments", "response.mcp_call_arguments")
_PENDING: Final = ("in_progress", "queued")


def conversation(body: Any) -> str:
    """What a request calls the conversation that it goes on with; "" where it names none.

    ``previous_response_id`` is no such name: it is another one at each turn.
    """
    return shapes.text(body, "conversation") or shapes.text(body, "conversation", "id") or ""


def answer_facts(body: Any) -> Facts:
    """What one answer says of itself. An incomplete one says why, the others how they stand."""
    status = shapes.text(body, "status")
    reason = shapes.text(body, "incomplete_details", "reason") or (None if status in _PENDING else status)
    return Facts(
        model_served=shapes.text(body, "model"),
        model_fingerprint=shapes.text(body, "system_fingerprint"),
        usage=Usage(shapes.count(body, "usage", "input_tokens"), shapes.count(body, "usage", "output_tokens")),
        finish_reasons=(reason,) if reason else (),
    )


def merged(known: Facts, said: Facts, *, is_last: bool) -> Facts:
    """What a stream says of itself: the last word counts; it is over when it says so."""
    return Facts(
        model_served=said.model_served or known.model_served,
        model_fingerprint=said.model_fingerprint or known.model_fingerprint,
        usage=known.usage if said.usage == Usage() else said.usage,
        finish_reasons=said.finish_reasons if is_last else known.finish_reasons,
    )


def answer_tools(body: Any) -> list[Asked]:
    """Tool calls of one answer."""
    return [
        asked for at, item in enumerate(shapes.items(body, "output")) if (asked := called(item, at, "")) is not None
    ]


def called(item: Any, output_index: int, channel: str) -> Asked | None:
    """The tool call that an output item is, as it stands; None for another one.

    Args:
        item: the output item.
        output_index: its place.
        channel: where its arguments are, if not in the item.
    """
    kind = shapes.text(item, "type")
    if kind not in _CALLS:
        return None
    said = _CALLS[kind][0]
    path = channel or f"/output/{output_index}/{said}"
    name, call_id = shapes.text(item, "name") or "", shapes.text(item, "call_id") or shapes.text(item, "id") or ""
    return Asked(name, said_in(shapes.at(item, said)), path, call_id)


def arguments_place(kind: str | None, output_index: int) -> tuple[str | int, ...] | None:
    """Where the pieces of a tool call's arguments go in a stream; None for an item that calls nothing."""
    if kind not in _CALLS:
        return None
    return ("output", output_index, _CALLS[kind][1], "delta")


def add_logprobs(document: Document, body: Any) -> None:
    """Join the tokens of each part: they spell the answer a second time, their bytes a third."""
    for position, item in enumerate(shapes.items(body, "output")):
        for at, part in enumerate(shapes.items(item, "content")):
            told: list[Place] = []
            for entry in shapes.items(part, "logprobs"):
                add_token(document, entry, told)
            if told:
                document.add_fragments(told, f"/output/{position}/content/{at}/logprobs", "logprobs")


def delta_place(body: Any, kind: str) -> tuple[str | int, ...]:
    """Which text an event of this kind is about: output item, family of events, part. Without an index, the first."""
    family = kind.removesuffix(".delta").removesuffix(".done")
    names = _indexes_of(kind)
    return (
        "output",
        shapes.number(body, "output_index") or 0,
        family,
        *(shapes.number(body, name) or 0 for name in (_ALL_INDEXES if names is None else names)),
    )


def is_known(kind: str) -> bool:
    """Is it of a family of which it is known how its texts are told apart?"""
    return _indexes_of(kind) is not None


def _indexes_of(kind: str) -> tuple[str, ...] | None:
    return next((names for begins, names in _INDEXES if kind.startswith(begins)), None)


def is_json_delta(kind: str) -> bool:
    """Is the delta of such an event a piece of a JSON text?"""
    return kind.removesuffix(".delta") in _JSON_DELTAS


def add_stream(document: Document, events: list[Event]) -> None:
    """Join the deltas of each text of a stream that was read whole, and the parts of each message.

    Raises:
        JsonError: an event's name and its type differ.
    """
    found: Found = {}
    told: dict[tuple[str | int, ...], list[Place]] = {}
    for event in events:
        if event.is_done:
            continue
        body = event.data[0]
        kind = kind_of(body, event.name)
        place = delta_place(body, kind)
        if shapes.text(body, "delta") is not None:
            name = "arguments" if is_json_delta(kind) else "delta"
            found.setdefault((*place, name), []).append((body, "delta", ()))
        for entry in shapes.items(body, "logprobs"):
            add_token(document, entry, told.setdefault(place, []))
        add_logprobs(document, shapes.at(body, "response"))
    for place, fragments in told.items():
        document.add_fragments(fragments, f"/output/{place[1]}/logprobs", "logprobs")
    for index in sorted({path[1] for path in found if path[2] == _PARTS_OF}):
        parts = sorted(path for path in found if path[1:3] == (index, _PARTS_OF))
        if len(parts) > 1:
            add_in_a_row(document, [found.pop(path) for path in parts], f"/output/{index}/content/*/text", "delta")
    add_joined(document, found, whole=("delta",), as_json=("arguments",))


def stream_facts(events: list[Event]) -> Facts:
    """What a stream says of itself."""
    facts = Facts()
    for body in (event.data[0] for event in events if not event.is_done):
        answer = shapes.at(body, "response")
        if answer is not None:
            facts = merged(facts, answer_facts(answer), is_last=True)
    return facts


def stream_tools(events: list[Event]) -> list[Asked]:
    """Tool calls of a stream: items that are done say them whole."""
    found: dict[int, Asked | None] = {}
    for body in (event.data[0] for event in events if not event.is_done):
        if (shapes.text(body, "type") or "").startswith("response.output_item."):
            index = shapes.number(body, "output_index") or 0
            found[index] = called(shapes.at(body, "item"), index, "")
    return [call for call in found.values() if call is not None]
