"""How events stand on the wire: server-sent events, a JSON value on each line, or plain text. Pure."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from ext_proc.protocols.json_text import render
from ext_proc.protocols.streaming.framing import EventFrames, Frame, LineFrames
from ext_proc.protocols.streaming.masking import StreamRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE_END: Final = re.compile(r"\r\n|\n|\r")


class Wire(Protocol):
    """One way to carry events."""

    kind: str
    is_text: bool
    """Is every frame a piece of one text, never an event?"""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """What ends in ``data``.

        Raises:
            StreamRefused: something is too large, or not UTF-8.
        """
        ...

    def finish(self) -> Frame | None:
        """What nobody ended.

        Raises:
            StreamRefused: as above.
        """
        ...

    def event(self, body: Any, name: str = "", more: str = "") -> bytes:
        """An event: JSON, with its name and its other fields."""
        ...

    def text(self, text: str, name: str = "", more: str = "") -> bytes:
        """A piece of text that is no JSON."""
        ...

    def alive(self) -> bytes:
        """A sign of life: nothing of what the upstream's said."""
        ...


class EventWire(EventFrames):
    """Server-sent events."""

    kind = "sse"
    is_text = False

    def event(self, body: Any, name: str = "", more: str = "") -> bytes:
        """See `Wire.event`."""
        head = _head(name, more)
        return b"%sdata: %s\n\n" % (head.encode(), _json(body))

    def text(self, text: str, name: str = "", more: str = "") -> bytes:
        """See `Wire.text`. Every line of it has its own field."""
        if not text:
            return b""
        head = _head(name, more)
        lines = "".join(f"data: {line}\n" for line in _LINE_END.split(text))
        return f"{head}{lines}\n".encode()

    def alive(self) -> bytes:
        """A comment. The upstream's may hold anything, and nobody reads it: ours says nothing."""
        return b":\n\n"


def _head(name: str, more: str) -> str:
    """An event's fields but its data. A line end in its name would begin another field, or end the event."""
    if _LINE_END.search(name):
        raise StreamRefused("stream_not_json")
    return f"{more}event: {name}\n" if name else more


class LineWire(LineFrames):
    """A JSON value on each line."""

    kind = "lines"
    is_text = False

    def event(self, body: Any, name: str = "", more: str = "") -> bytes:
        """See `Wire.event`."""
        del name, more
        return _json(body) + b"\n"

    def text(self, text: str, name: str = "", more: str = "") -> bytes:
        """There is none: every line is JSON.

        Raises:
            StreamRefused: always.
        """
        del text, name, more
        raise StreamRefused("stream_not_json")

    def alive(self) -> bytes:
        """An empty line."""
        return b"\n"


class TextWire:
    """Plain text: every frame is a piece of one text."""

    kind = "text"
    is_text = True

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """See `Wire.feed`: as much as is whole characters.

        Raises:
            StreamRefused: not UTF-8.
        """
        try:
            text = self._decoder.decode(data)
        except UnicodeDecodeError:
            raise StreamRefused("stream_not_utf8") from None
        if text:
            yield Frame(text.encode())

    def finish(self) -> Frame | None:
        """See `Wire.finish`.

        Raises:
            StreamRefused: it ends within a character.
        """
        try:
            self._decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise StreamRefused("stream_truncated") from None
        return None

    def event(self, body: Any, name: str = "", more: str = "") -> bytes:
        """There is none.

        Raises:
            StreamRefused: always.
        """
        del body, name, more
        raise StreamRefused("stream_not_json")

    def text(self, text: str, name: str = "", more: str = "") -> bytes:
        """See `Wire.text`."""
        del name, more
        return text.encode()

    def alive(self) -> bytes:
        """Nothing can be told from the text."""
        return b""


def _json(body: Any) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # a number of more than 64 bits
        return render(body).encode()
