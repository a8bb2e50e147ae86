"""Payloads as people read them: JSON indented, streams as they are, what was taken out marked. Pure.

A payload is anybody's text: nothing in it may move a terminal's cursor.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ext_proc import redaction
from ext_proc.errors import GateError
from ext_proc.evidence.aligning import aligned
from ext_proc.evidence.visible import visible
from ext_proc.model import Edit
from ext_proc.protocols import read_request, read_response
from ext_proc.record_kinds import PayloadRole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ext_proc.evidence.show import Located, Opened
    from ext_proc.protocols import Channel, Document

    Mark = Callable[[str, str, str], str]

_PATH_PART: Final = re.compile(r"[a-z_]{1,32}|[0-9]{1,6}|\+?[a-z]{1,16}")
_PIECE: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^"{}\[\],:\s]+')
_INDENT: Final = "  "
_REDACTION_OF: Final[Mapping[str, str]] = {
    PayloadRole.REQUEST_RAW: "request_redaction",
    PayloadRole.RESPONSE_UPSTREAM: "response_redaction",
}
"""Bodies before masking, and what a record says of their masking."""
_BODY_MAX_BYTES: Final = 256 << 20


def shown(opened: Opened, located: Sequence[Located] = ()) -> tuple[str, int]:
    """The payload as text, and how many recorded spans could not be placed in it.

    Args:
        opened: the payload.
        located: the exchange's leaves: their spans are marked, in what came in, as ``⟦EMAIL mask: …⟧``.
    """
    if opened.body is None:
        return f"[{opened.state}: {opened.why}]", 0
    body, unplaced = _marked(opened, located, _bracketed)
    return _readable(opened, body), unplaced


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of a payload; with ``entity`` and ``action`` it is what a rule hit."""

    text: str
    entity: str | None = None
    action: str | None = None


def pieces(
    opened: Opened, located: Sequence[Located], nonce: str, before: Opened | None = None
) -> tuple[list[Piece], int]:
    """The payload as pieces of text, for those who mark by other means, and how many spans could not be placed.

    Args:
        opened: the payload; its body was read.
        located: the exchange's leaves.
        nonce: letters and digits that nobody can foresee: no text of a caller's passes for a mark of ours.
        before: of what was forwarded or released, the body before masking: what stands instead of its spans is marked.
    """

    def mark(text: str, entity: str, action: str) -> str:
        return f"⟦{nonce} {entity} {action}: {text}{nonce}⟧"

    body, unplaced = opened.body or b"", 0
    with suppress(KeyError, TypeError, AttributeError, ValueError, IndexError):  # a record of no published form
        if before is None:
            body, unplaced = _marked(opened, located, mark)
        else:
            body = _marked_after(opened, before, located, mark)
    marks = re.compile(rf"⟦{nonce} ([^⟦⟧:]*) ([a-z]*): (.*?){nonce}⟧", re.DOTALL)
    made: list[Piece] = []
    text, at = _readable(opened, body), 0
    for found in marks.finditer(text):
        made += [Piece(text[at : found.start()]), Piece(found[3], found[1], found[2])]
        at = found.end()
    made.append(Piece(text[at:]))
    return [one for one in made if one.text], unplaced


def _readable(opened: Opened, body: bytes) -> str:
    text = body.decode(errors="replace")
    if "json" in opened.content_type or text.lstrip()[:1] in ("{", "["):
        text = indented(text)
    return visible(text)


def _bracketed(text: str, entity: str, action: str) -> str:
    return f"⟦{entity} {action}: {text}⟧"


def indented(text: str) -> str:
    """JSON with indentation, every token as it was sent: numbers, escapes and repeated keys too. Else as it is."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    parts: list[str] = []
    depth = 0
    pieces = _PIECE.findall(text)
    for number, piece in enumerate(pieces):
        following = pieces[number + 1] if number + 1 < len(pieces) else ""
        if piece in ("{", "["):
            depth += 1
            is_empty = following in ("}", "]")
            parts.append(piece if is_empty else f"{piece}\n{_INDENT * depth}")
        elif piece in ("}", "]"):
            depth -= 1
            is_empty = number > 0 and pieces[number - 1] in ("{", "[")
            parts.append(piece if is_empty else f"\n{_INDENT * depth}{piece}")
        elif piece == ",":
            parts.append(f",\n{_INDENT * depth}")
        else:
            parts.append(": " if piece == ":" else piece)
    return "".join(parts)


def _marked(opened: Opened, located: Sequence[Located], mark: Mark) -> tuple[bytes, int]:
    body = opened.body or b""
    part = _REDACTION_OF.get(opened.role)
    told = [one.leaf[part] for one in located if isinstance(one.leaf.get(part), dict)] if part else []
    if not told or not told[0].get("spans"):
        return body, sum(one.get("spans_unlisted", 0) for one in told[:1])
    document = _document(opened, body, _protocol(located))
    if document is None:
        return body, len(told[0]["spans"]) + told[0].get("spans_unlisted", 0)
    try:
        edits, unplaced = _edits(document.channels, told[0]["spans"], mark)
    except (KeyError, TypeError, AttributeError):  # spans that are not of the published form
        return body, len(told[0]["spans"])
    return document.rewritten(edits), unplaced + told[0].get("spans_unlisted", 0)


def _marked_after(opened: Opened, before: Opened, located: Sequence[Located], mark: Mark) -> bytes:
    """What a masked body has instead of the spans of the body before, where that can be said."""
    body, part = opened.body or b"", _REDACTION_OF[before.role]
    told = [one.leaf[part] for one in located if isinstance(one.leaf.get(part), dict)]
    old = _document(before, before.body or b"", _protocol(located))
    new = _document(opened, body, _protocol(located))
    if not told or not told[0].get("spans") or old is None or new is None:
        return body
    found: dict[int, list[Edit]] = {}
    spans, _ = _edits(old.channels, told[0]["spans"], lambda _, entity, action: f"{entity} {action}")
    places = {channel.path: index for index, channel in enumerate(new.channels)}
    for index, edits in spans.items():
        there = places.get(old.channels[index].path)
        if there is None:
            continue
        text = new.channels[there].text
        ends = aligned(old.channels[index].text, [(one.start, one.end) for one in edits], text)
        for edit, place in zip(edits, ends, strict=True):
            if place is not None and place[0] < place[1]:
                entity, _, action = edit.replacement.partition(" ")
                found.setdefault(there, []).append(Edit(*place, mark(text[slice(*place)], entity, action)))
    return new.rewritten(found)


def _protocol(located: Sequence[Located]) -> str:
    found = (one.leaf["request"].get("protocol") for one in located if isinstance(one.leaf.get("request"), dict))
    return next((str(one) for one in found if one), "generic")


def _document(opened: Opened, body: bytes, protocol: str) -> Document | None:
    headers = (("content-type", opened.content_type.encode()),)
    try:
        if opened.role.startswith("request."):
            return read_request(protocol, headers, body)
        nothing = read_request("generic", (("content-type", b"application/json"),), b"{}")
        return read_response(protocol, nothing, 200, headers, body, _BODY_MAX_BYTES)
    except GateError:
        return None


def _edits(
    channels: Sequence[Channel], spans: Sequence[dict[str, Any]], mark: Mark
) -> tuple[dict[int, list[Edit]], int]:
    """Where the spans are. A record names a channel by what may be public of its path; others may have the same."""
    places: dict[str, list[int]] = {}
    for index, channel in enumerate(channels):
        places.setdefault(_public(channel.path), []).append(index)
    made: dict[int, list[Edit]] = {}
    unplaced = 0
    for span in spans:
        fitting = _fitting(channels, places.get(span["channel"], []), span)
        unplaced += not fitting
        for index in fitting:
            text = channels[index].text[span["start"] : span["end"]]
            edit = Edit(span["start"], span["end"], mark(text, span["entity"], span["action"]))
            if edit not in made.setdefault(index, []):
                made[index].append(edit)
    return {index: _apart(edits) for index, edits in made.items()}, unplaced


def _apart(edits: list[Edit]) -> list[Edit]:
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda one: (one.start, -one.end)):
        if not kept or edit.start >= kept[-1].end:
            kept.append(edit)
    return kept


def _fitting(channels: Sequence[Channel], candidates: Sequence[int], span: dict[str, Any]) -> list[int]:
    found = [index for index in candidates if span["end"] <= len(channels[index].text)]
    if len(found) <= 1:
        return found
    wanted = (span["start"], span["end"], span["entity"])
    return [
        index for index in found if any((hit.start, hit.end, hit.entity) == wanted for hit in _scan(channels[index]))
    ]


def _scan(channel: Channel) -> Sequence[Any]:
    return redaction.scan(channel.text, channel.context)


def _public(path: str) -> str:
    """As records name channels: parts that could be a caller's own words are ``*``."""
    return "/".join(part if not part or _PATH_PART.fullmatch(part) else "*" for part in path.split("/"))
