"""OpenAI's chat completions, completions, embeddings and models (its API reference)."""

from __future__ import annotations

import base64
import binascii
import re
from array import array
from typing import TYPE_CHECKING, Any, Final

from ext_proc.model import Usage
from ext_proc.protocols import shapes
from ext_proc.protocols.document import Facts
from ext_proc.protocols.joining import add_joined, collect
from ext_proc.protocols.packed import is_printed, is_text
from ext_proc.protocols.tools import Asked, said_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ext_proc.protocols.document import Document, Place
    from ext_proc.protocols.joining import Found
    from ext_proc.protocols.sse import Event

_COMPONENT_MIN: Final = 1e-12
_COMPONENT_MAX: Final = 1e3
_FLOATS_MIN_BYTES: Final = 256
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9+/]")
_URL_SAFE: Final = str.maketrans("-_", "+/")
_PRINTED: Final = re.compile(rb"[\t\r\n -~]{11,}")
"""By chance one embedding in five has such a row; hardly an address or a number is shorter."""
_EMBEDDING: Final = re.compile(r"/data/\d+/embedding")
_FUNCTION: Final = ("function", "arguments")
_DELTA_TEXTS: Final = ("content", "reasoning_content", "reasoning", "refusal", "text")


def is_structure(path: str, value: Any) -> bool:
    """An embedding sent as base64 of 32-bit floats (the official client asks for it)."""
    raw = _floats(value) if _EMBEDDING.fullmatch(path) else None
    if raw is None or _is_text(raw, _others(raw)):
        return False
    return all(number == 0 or _COMPONENT_MIN < abs(number) < _COMPONENT_MAX for number in array("f", raw))


def disguised(body: Any) -> Iterator[tuple[Any, int, str]]:
    """What is text, in the place of an embedding: the item, its number, and what the text says."""
    for position, item in enumerate(shapes.items(body, "data")):
        raw = _undone(shapes.at(item, "embedding"))
        said = None if raw is None else _disguise(raw)
        if said is not None:
            yield item, position, said


def _floats(value: Any) -> bytes | None:
    if not isinstance(value, str):
        return None
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):  # ValueError: letters that are not ASCII
        return None
    return raw if len(raw) >= _FLOATS_MIN_BYTES and len(raw) % 4 == 0 else None


def _undone(value: Any) -> bytes | None:
    """What the most lenient of clients makes of it: whatever is not of the alphabet is passed over."""
    if not isinstance(value, str):
        return None
    plain = _FOREIGN.sub("", value.translate(_URL_SAFE))
    return base64.b64decode(plain[: len(plain) // 4 * 4]) or None


def _others(raw: bytes) -> bytes:
    """Without one in four: that one says how large a component is, the others are by chance, or none."""
    others = bytearray(raw)
    del others[3::4]
    return bytes(others)


def _is_text(*several: bytes) -> bool:
    return any(is_printed(said) or (0 not in said and is_text(said)) for said in several)


def _disguise(raw: bytes) -> str | None:
    """Text in disguise: components of an embedding are small; letters read as floats are not, but where one in four
    is chosen to be. All of it if most is text, else what can be printed in a row.
    """
    others = _others(raw)
    if _is_text(raw, others):
        return f"{others.decode(errors='replace')}\n{raw.decode(errors='replace')}"
    return b"\n".join(row for said in (others, raw) for row in _PRINTED.findall(said)).decode() or None


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


def answer_tools(body: Any) -> list[Asked]:
    """Tool calls of one answer."""
    return [
        asked
        for position, choice in enumerate(shapes.items(body, "choices"))
        for asked in _message_tools(shapes.at(choice, "message"), f"/choices/{position}/message")
    ]


def _message_tools(message: Any, path: str) -> Iterator[Asked]:
    for at, call in enumerate(shapes.items(message, "tool_calls")):
        kind, said = called_as(call)
        name, text = shapes.text(call, kind, "name") or "", said_in(shapes.at(call, kind, said))
        yield Asked(name, text, f"{path}/tool_calls/{at}/{kind}/{said}", shapes.text(call, "id") or "")
    old = shapes.at(message, "function_call")  # before there were several, and ids
    if isinstance(old, dict):
        text = said_in(shapes.at(old, "arguments"))
        yield Asked(shapes.text(old, "name") or "", text, f"{path}/function_call/arguments", "")


def called_as(call: Any) -> tuple[str, str]:
    """Where a tool call says what it calls, and under which key with what."""
    return ("custom", "input") if shapes.at(call, "custom") and not shapes.at(call, "function") else _FUNCTION


def add_stream(document: Document, events: list[Event]) -> None:
    """Join the deltas of each choice to channels, so that a value split over events is one text."""
    found: Found = {}
    for body in (event.data[0] for event in events if not event.is_done):
        for position, choice in enumerate(shapes.items(body, "choices")):
            index = shapes.number(choice, "index")
            collect(document, choice, ("choices", position if index is None else index), found)
    add_joined(document, found, whole=_DELTA_TEXTS, as_json=("arguments",))


def add_logprobs(document: Document, bodies: list[Any]) -> None:
    """Join the tokens of each choice to channels: they spell the answer a second time, their bytes a third.

    Where a token is edited, its bytes and its alternatives go. Bytes that do not say what the token says go at once.
    """
    told: dict[tuple[int, str], list[Place]] = {}
    for body in bodies:
        for position, choice in enumerate(shapes.items(body, "choices")):
            index = shapes.number(choice, "index")
            key = position if index is None else index
            for name in ("content", "refusal"):
                for entry in shapes.items(choice, "logprobs", name):
                    add_token(document, entry, told.setdefault((key, name), []))
            tokens, others = (
                shapes.items(choice, "logprobs", "tokens"),
                shapes.items(choice, "logprobs", "top_logprobs"),
            )
            for at, token in enumerate(tokens):
                if isinstance(token, str):
                    also = ((others, at, None),) if at < len(others) else ()
                    told.setdefault((key, "tokens"), []).append((tokens, at, also))
    for (index, name), fragments in told.items():
        if fragments:
            document.add_fragments(fragments, f"/choices/{index}/logprobs/{name}", "logprobs")


def add_token(document: Document, entry: Any, told: list[Place]) -> None:
    """Add a token to those of its text, ``told``; what says the same in another way goes where it is edited."""
    if not isinstance(entry, dict):
        return
    also: list[tuple[Any, Any, Any]] = []
    for one in (entry, *shapes.items(entry, "top_logprobs")):
        if isinstance(one, dict) and "bytes" in one and not _is_same(one.get("token"), one["bytes"]):
            one["bytes"] = None
    if "bytes" in entry:
        also.append((entry, "bytes", None))
    if "top_logprobs" in entry:
        also.append((entry, "top_logprobs", []))
    if isinstance(entry.get("token"), str):
        told.append((entry, "token", tuple(also)))
    for other in shapes.items(entry, "top_logprobs"):
        if shapes.text(other, "token") is not None:
            document.add_fragments([(other, "token", ())], "/choices/*/logprobs/top_logprobs/token", "")


def _is_same(token: Any, said: Any) -> bool:
    """Do a token's bytes say what it says? Those of a part of a character have no ASCII in them."""
    if said is None:
        return True
    if not isinstance(said, list) or not all(isinstance(one, int) and 0 <= one < 256 for one in said):
        return False
    return isinstance(token, str) and (bytes(said) == token.encode() or (bool(said) and min(said) >= 0x80))


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


def stream_tools(events: list[Event]) -> list[Asked]:
    """Tool calls of a stream, put together."""
    found: dict[tuple[int, int], Asked] = {}
    for body in (event.data[0] for event in events if not event.is_done):
        for choice in shapes.items(body, "choices"):
            for position, call in enumerate(shapes.items(choice, "delta", "tool_calls")):
                key = (shapes.number(choice, "index") or 0, _call_index(call, position))
                kind, said = called_as(call)
                path = f"/choices/{key[0]}/delta/tool_calls/{key[1]}/{kind}/{said}"
                one = found.get(key, Asked("", "", path, ""))
                found[key] = Asked(
                    one.name + (shapes.text(call, kind, "name") or ""),
                    one.arguments + said_in(shapes.at(call, kind, said)),
                    one.channel,
                    one.call_id or shapes.text(call, "id") or "",
                )
    return list(found.values())


def _call_index(call: Any, position: int) -> int:
    index = shapes.number(call, "index")
    return position if index is None else index


def _usage(body: Any) -> Usage:
    return Usage(shapes.count(body, "usage", "prompt_tokens"), shapes.count(body, "usage", "completion_tokens"))
