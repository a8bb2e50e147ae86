"""Bytes to lines, lines to events (WHATWG HTML, section 9.2), however they are cut. Pure; memory is bounded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ext_proc.protocols.streaming.masking import StreamRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_LF: Final = re.compile(rb"\n")
_BOM: Final = b"\xef\xbb\xbf"
_RETRY: Final = re.compile(rb"[0-9]{1,7}")


@dataclass(slots=True)
class Frame:
    """One event: its fields as they came. A comment has no data: it says nothing but that somebody is there."""

    data: bytes
    name: bytes = b""
    id: bytes = b""
    retry: bytes = b""
    is_comment: bool = False


class Lines:
    """Whole lines out of bytes that are cut anywhere.

    Args:
        limit_bytes: of a line.
        ends_at_cr: does a CR end a line? It does in server-sent events, in NDJSON it is a blank.
    """

    def __init__(self, limit_bytes: int, *, ends_at_cr: bool = True) -> None:
        self._limit_bytes = limit_bytes
        self._end = _LINE_END if ends_at_cr else _LF
        self._ends_at_cr = ends_at_cr
        self._parts: list[bytes] = []
        self._size = 0
        self._had_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in ``data``.

        Raises:
            StreamRefused: a line is too long.
        """
        if self._had_cr and data.startswith(b"\n"):  # the second half of a CRLF
            data = data[1:]
            self._had_cr = False
        if not data:
            return []
        self._had_cr = self._ends_at_cr and data.endswith(b"\r")
        first, *others = self._end.split(data)
        self._size += len(first)
        self._parts.append(first)
        if self._size > self._limit_bytes:
            raise StreamRefused("stream_line_too_long")
        if not others:
            return []
        lines = [b"".join(self._parts), *others]
        rest = lines.pop()
        self._parts, self._size = [rest], len(rest)
        if len(max(others, key=len)) > self._limit_bytes:
            raise StreamRefused("stream_line_too_long")
        return lines

    def rest(self) -> bytes:
        """The line that nobody ended."""
        line = b"".join(self._parts)
        self._parts, self._size = [], 0
        return line


class EventFrames:
    """Server-sent events.

    Args:
        limit_bytes: of a line, and of an event's data.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lines = Lines(limit_bytes)
        self._is_first = True
        self._data: list[bytes] = []
        self._size = 0
        self._frame = Frame(b"")

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The events, and the comments, that end in ``data``.

        Raises:
            StreamRefused: a line or an event is too large.
        """
        for line in self._lines.feed(data):
            frame = self._line(line)
            if frame is not None:
                yield frame

    def finish(self) -> Frame | None:
        """The event that nobody ended: what was sent must be looked at.

        Raises:
            StreamRefused: it is too large.
        """
        rest = self._lines.rest()
        if rest:
            self._line(rest)
        return self._ended()

    def _line(self, line: bytes) -> Frame | None:
        if self._is_first:
            line = line.removeprefix(_BOM)
            self._is_first = False
        if not line:
            return self._ended()
        field, _, value = line.partition(b":")
        if not field:
            return Frame(b"", is_comment=True)
        value = value.removeprefix(b" ")
        if field == b"data":
            self._size += len(value) + 1
            if self._size > self._limit_bytes:
                raise StreamRefused("stream_event_too_large")
            self._data.append(value)
        elif field == b"event":
            self._frame.name = value
        elif field == b"id":
            self._frame.id = value
        elif field == b"retry" and _RETRY.fullmatch(value):
            self._frame.retry = value
        return None

    def _ended(self) -> Frame | None:
        frame, self._frame = self._frame, Frame(b"")
        frame.data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data, self._size = [], 0
        return frame if frame.data else None  # empty data is no event


class LineFrames:
    """One JSON value on each line (NDJSON, JSON lines). An empty line keeps the connection alive.

    Args:
        limit_bytes: of a line.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._lines = Lines(limit_bytes, ends_at_cr=False)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The lines that end in ``data``.

        Raises:
            StreamRefused: a line is too long.
        """
        for line in self._lines.feed(data):
            yield Frame(line, is_comment=not line.strip())

    def finish(self) -> Frame | None:
        """The line that nobody ended."""
        line = self._lines.rest()
        return Frame(line) if line.strip() else None
