"""A streamed answer: bytes in as they come, bytes out as soon as they may pass. Pure.

Each event is read, every text in it goes through its masker, and it is written again at once: with less text than it
came with where some is held, which comes in a later event of the same text. When a text ends, what was held goes out
before the event that ends it, in an event of ours like the last one of that text.

A text ends where its protocol says that nothing more of it can come, not where another begins: a tool call in the
midst of an answer does not cut a value in two.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from ext_proc.model import Coverage
from ext_proc.protocols.answer_keys import refuse_ambiguous_answer
from ext_proc.protocols.document import NUMBER_MIN
from ext_proc.protocols.event_kind import kind_of
from ext_proc.protocols.json_text import JsonError, parse_bytes
from ext_proc.protocols.sse import DONE
from ext_proc.protocols.streaming.channels import WITHHELD, Channels
from ext_proc.protocols.streaming.dialect import ALL
from ext_proc.protocols.streaming.learnt import ChannelSeen, Learnt
from ext_proc.protocols.streaming.masking import TEXTS, Limits, StreamRefused
from ext_proc.protocols.streaming.refusals import refusal_event
from ext_proc.protocols.streaming.tails import tail_of
from ext_proc.protocols.streaming.walking import Walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.model import ToolCall
    from ext_proc.protocols.streaming.channels import Channel, Place
    from ext_proc.protocols.streaming.dialect import Dialect
    from ext_proc.protocols.streaming.fielding import EventFields
    from ext_proc.protocols.streaming.framing import Frame
    from ext_proc.protocols.streaming.maskers import Maskers
    from ext_proc.protocols.streaming.wires import Wire
    from ext_proc.protocols.tools import Asked

_BIG: Final = re.compile(rb"[0-9]{19}")
"""More digits than the fast parser keeps."""
_DONE: Final = DONE.encode()
_NAME_MAX: Final = 128
_COUNTER: Final = re.compile(rb"[0-9]{1,9}")
_TEXT: Final[Place] = ("",)
"""The text that is no JSON: all such data of a stream is one."""


@dataclass(frozen=True, slots=True)
class Released:
    """What may go out now. ``refused``: the stream ends here, and why (`TEXTS`); `StreamReader.farewell` tells it."""

    data: bytes
    refused: str | None = None


class StreamReader:
    """One streamed answer. Not safe for concurrent use.

    Args:
        protocol: the operation's.
        dialect: what its events mean.
        wire: how they are written.
        maskers: makes the maskers.
        limits: see `Limits`.
        offered: names of the tools that the caller offered: those the model may name.
        fields: field rules, if there are any.
    """

    def __init__(
        self,
        protocol: str,
        dialect: Dialect,
        wire: Wire,
        maskers: Maskers,
        limits: Limits,
        offered: frozenset[str] = frozenset(),
        fields: EventFields | None = None,
    ) -> None:
        self._protocol = protocol
        self._dialect = dialect
        self._wire = wire
        self._limits = limits
        self._maskers = maskers
        self._channels = Channels(maskers, limits, repeats=dialect.repeats, reads_on=dialect.reads_on, fields=fields)
        self._walk = Walk(self._channels, dialect, limits, offered, fields)
        self._received_bytes = 0
        self._released_bytes = 0
        self._blocked: tuple[str, ...] = ()
        self._last_id = -1
        self.is_over = False

    # In and out ----------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> Released:
        """The next bytes of the answer, its content coding undone. After the end nothing more comes out."""
        if self.is_over:
            return Released(b"")
        out: list[bytes] = []
        try:
            self._received_bytes += len(data)
            if self._received_bytes > self._limits.total_bytes:
                raise StreamRefused("stream_too_large")
            for frame in self._wire.feed(data):
                self._frame(frame, out)
            if self._maskers.removal_count > self._limits.removals:
                raise StreamRefused("stream_too_many_removals")
        except StreamRefused as refused:
            return self._refuse(refused.code, out)
        return self._released(out)

    def finish(self) -> Released:
        """The answer is over, or its upstream is gone: what was held comes out, masked."""
        if self.is_over:
            return Released(b"")
        out: list[bytes] = []
        try:
            frame = self._wire.finish()
            if frame is not None:
                self._frame(frame, out)
            self._tails([ALL], out)
        except StreamRefused as refused:
            is_cut = refused.code in ("stream_not_json", "stream_not_utf8")
            return self._refuse("stream_truncated" if is_cut else refused.code, out)
        self.is_over = True
        return self._released(out)

    def flush_held(self) -> Released:
        """Nothing came for long: let out what is held, as withheld, each text's in an event of ours. Texts go on."""
        if self.is_over:
            return Released(b"")
        out: list[bytes] = []
        try:
            for place, channel in self._channels.items():
                said = self._channels.flush(channel)
                if said:
                    out.append(self._tail(place, channel, said))
        except StreamRefused as refused:
            return self._refuse(refused.code, out)
        return self._released(out)

    def farewell(self, code: str, text: str = "") -> bytes:
        """The event by which the protocol tells its client that the stream ends in an error; nothing may follow it."""
        self.is_over = True
        words = text or TEXTS.get(code, code)
        data = refusal_event(self._protocol, code, words, kind=self._wire.kind, number=self._dialect.next_number())
        self._released_bytes += len(data)
        return data

    def _released(self, out: list[bytes], refused: str | None = None) -> Released:
        data = b"".join(out)
        self._released_bytes += len(data)
        return Released(data, refused)

    def _refuse(self, code: str, out: list[bytes]) -> Released:
        self.is_over = True
        self._blocked = self._maskers.blocked
        if not self._blocked:
            self._last_words(out)
        return self._released(out, code)

    def _last_words(self, out: list[bytes]) -> None:
        """What was held of the texts until now, masked; a rule may block even here, and then that is why."""
        try:
            self._tails([ALL], out)
        except StreamRefused:
            self._blocked = self._maskers.blocked

    # One event -----------------------------------------------------------------------------------------------------

    def _frame(self, frame: Frame, out: list[bytes]) -> None:
        if frame.is_comment:
            out.append(self._wire.alive())
            return
        name, more = self._fields(frame)
        if self._wire.is_text:
            self._text(frame.data, name, more, out)
        elif frame.data == _DONE:
            self._tails([ALL], out)
            out.append(self._wire.text(DONE, name, more))
        else:
            holder = self._read(frame.data)
            if holder is None:
                self._text(frame.data, name, more, out)
            else:
                self._dialect.enter(holder[0], self._kind(holder[0], frame))
                self._event(holder, name, more, out)

    def _kind(self, body: Any, frame: Frame) -> str:
        """The event's kind, of one that says the same to every reader."""
        try:
            refuse_ambiguous_answer(self._protocol, body)
            return kind_of(body, _decoded(frame.name)) if self._dialect.is_named else ""
        except JsonError:
            raise StreamRefused("stream_not_json") from None

    def _event(self, holder: list[Any], name: str, more: str, out: list[bytes]) -> None:
        dialect = self._dialect
        closing = dialect.closing(holder[0])
        if closing and dialect.repeats:  # what is said again is said as it was released: to the end
            self._tails(closing, out)
        touched = self._walk.event(holder, closing)
        body = holder[0]
        dialect.leave(body)
        for channel, where in touched:
            channel.name, channel.event, channel.where = name, body, where
        if closing:
            self._tails(closing, out)
        if isinstance(body, dict):
            dialect.numbered(body, is_ours=False)
        out.append(self._wire.event(body, name, more))

    def _text(self, data: bytes, name: str, more: str, out: list[bytes]) -> None:
        channel = self._channels.channel(_TEXT, "", kind="plain")
        channel.name = name
        out.append(self._wire.text(self._channels.feed(channel, _decoded(data)), name, more))

    def _fields(self, frame: Frame) -> tuple[str, str]:
        """The event's name, and its other fields as they may be written."""
        more = ""
        name = ""
        if frame.name:
            name = _decoded(frame.name)
            if len(name) > _NAME_MAX:
                raise StreamRefused("stream_line_too_long")
            said = self._channels.label(("event:",), name)
            name = self._event_name(name) if said is None else said
        if frame.id and self._may_say(frame.id):
            more = f"id: {frame.id.decode()}\n"
        if frame.retry:
            more += f"retry: {frame.retry.decode()}\n"
        return name, more

    def _event_name(self, name: str) -> str:
        """A name that is no label."""
        place: Place = ("event:",)
        said = self._channels.whole(place, "", name, restores=False)
        return WITHHELD if said == name and self._channels.goes_on(place, name) else said

    def _may_say(self, event_id: bytes) -> bool:
        """Is an event's id a number that counts, or a label? Others are left out."""
        if _COUNTER.fullmatch(event_id):
            count, last = int(event_id), self._last_id
            self._last_id = count
            return count == last + 1 or (last < 0 and count < NUMBER_MIN)
        return self._channels.label(("id:",), text := _decoded(event_id)) == text

    def _read(self, data: bytes) -> list[Any] | None:
        """The event's JSON, in a list of one; None where it is none, and need not be."""
        try:
            said = parse_bytes(data) if _BIG.search(data) else orjson.loads(data)
        except (JsonError, orjson.JSONDecodeError):
            text = _decoded(data)
        else:
            # Of raw text, token by token, one may happen to be a number: text like the others.
            return [said] if self._dialect.is_json or isinstance(said, dict | list | str) else None
        if self._dialect.is_json or _is_loose_json(text):
            raise StreamRefused("stream_not_json")
        return None

    # What was held -------------------------------------------------------------------------------------------------

    def _tails(self, closing: Sequence[Place], out: list[bytes]) -> None:
        """End every text in ``closing``; what was held goes out in an event of ours."""
        for place, channel in self._channels.items():
            if channel.is_closed or not any(place[: len(scope)] == scope for scope in closing):
                continue
            if channel.kind == "unknown" and ALL not in closing:
                continue
            tail = self._channels.close(place, channel)
            if tail:
                out.append(self._tail(place, channel, tail))
            channel.event = None

    def _tail(self, place: Place, channel: Channel, tail: str) -> bytes:
        if channel.kind == "plain":
            return self._wire.text(tail, channel.name)
        name, body = self._dialect.carrier(place, tail) or (channel.name, tail_of(channel.event, channel.where, tail))
        if isinstance(body, dict):
            self._dialect.numbered(body, is_ours=True)
        return self._wire.event(body, name)

    # What was learnt -----------------------------------------------------------------------------------------------

    def learnt(self) -> Learnt:
        """What is known so far: ask before anything is released, or at the end."""
        channels = self._channels
        seen = channels.items()
        return Learnt(
            facts=self._dialect.facts,
            tool_calls=tuple(self._tool(asked, place) for place, asked in self._dialect.tools.items()),
            removals=tuple(self._maskers.removals),
            blocked=self._blocked,
            coverage=Coverage(
                channel_count=len(seen),
                scanned_bytes=channels.scanned_bytes,
                structure_bytes=channels.structure_bytes,
                forwarded_bytes=self._released_bytes,
                excluded_bytes=channels.excluded_bytes,
            ),
            channels=tuple(ChannelSeen(one.path, one.scanned_bytes, one.released_bytes) for _, one in seen),
            received_bytes=self._received_bytes,
        )

    def _tool(self, asked: Asked, place: Place) -> ToolCall:
        """With the digest of its pieces as they were released, or of what one event said whole."""
        told, channel = asked.told(), self._channels.known(place)
        if channel is None or channel.released is None:
            return told
        return replace(told, arguments_sha256=channel.released.hexdigest())


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise StreamRefused("stream_not_utf8") from None


def _is_loose_json(text: str) -> bool:
    """Would a careless reader take it for JSON? Then it is no text either."""
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return False
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True
