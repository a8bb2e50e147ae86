"""The texts of one stream: each has its masker; what is said whole, or again and again, is looked at too. Pure.

A *channel* is a text in pieces, over events. A *label* is a name or an id of the protocol's: short, of a bounded form,
clean by itself and together with what stood in its place before. Everything else is text.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ext_proc.protocols.document import pointer
from ext_proc.protocols.frame_names import is_frame_name
from ext_proc.protocols.packed import is_packed
from ext_proc.protocols.streaming.masking import StreamRefused, fed, finished, flushed
from ext_proc.protocols.streaming.pieces import JsonPieces
from ext_proc.protocols.streaming.reading_on import GoesOn, ReadOn
from ext_proc.protocols.streaming.strings import unsaid

if TYPE_CHECKING:
    from collections.abc import Callable

    from ext_proc.protocols.streaming.fielding import EventFields
    from ext_proc.protocols.streaming.maskers import Maskers
    from ext_proc.protocols.streaming.masking import Limits, Masker

Place = tuple[str | int, ...]
"""Keys and indexes that lead to a text."""

WITHHELD: Final = "[WITHHELD]"
"""Instead of what is clean by itself, but not together with what stood in its place before."""

SHORT: Final = 3
"""Texts up to this are shorter than any rule's, unless their key says what they are (``password``)."""
_KNOWN_MAX: Final = 64
_PARTS: Final = re.compile(r"[._-]")
_KNOWN: Final = frozenset(
    {
        "added", "annotation", "api", "args", "arguments", "assistant", "audio", "block", "call", "calls", "chat",
        "chunk", "citation", "citations", "code", "completed", "completion", "content", "created", "data", "delta",
        "developer", "done", "end", "error", "event", "failed", "file", "filter", "final", "finish", "function",
        "image", "in", "incomplete", "input", "interpreter", "item", "json", "length", "list", "max", "mcp",
        "message", "model", "none", "object", "output", "page", "part", "partial", "pause", "ping", "progress",
        "queue", "queued", "reason", "reasoning", "redacted", "refusal", "response", "result", "role", "search",
        "searching", "server", "signature", "start", "status", "stop", "sequence", "success", "summary", "system",
        "text", "thinking", "thought", "tokens", "tool", "transcript", "turn", "usage", "use", "user", "web",
    }
)  # fmt: skip
"""Words of the protocols: a name that is made of nothing else needs no look."""
_LABEL: Final = re.compile(r"(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9._:/+-]{0,127}")
_LABEL_KEPT: Final = 160
_WHOLE_KEPT: Final = 256
_GROUP_MAX: Final = 8
"""Of a number that is said in groups, two may be alike; what is longer, and said again, is only that."""
_SAID_AGAIN: Final = frozenset({"arguments", "code", "delta", "input", "refusal", "text", "transcript"})
"""Keys under which a text stands a second time. Under another one (``ssn``) it may be more than it was."""
_TIME: Final = re.compile(
    r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](?:\.[0-9]{1,9})?(?:Z|[+-][0-2][0-9]:[0-5][0-9])"
)
_END_KEPT: Final = 160
"""Longer values than most; what is open-ended needs only its beginning."""
_CLEAN_MAX: Final = 1024
_CLEAN_MAX_CHARACTERS: Final = 256


@dataclass(slots=True)
class Channel:
    """One text in pieces.

    ``where`` is the place of its last piece in the event ``event`` (named ``name``): a tail goes out in one like it.
    ``is_fielded``: its masker is a strict field rule's. ``ahead`` is what went out of what its masker was told before
    its first piece: labels that stood there. ``end`` is the end of an unknown text so far, with the numbers that stood
    in its place; ``is_mixed``: there were some. ``reading``: see `Dialect.reads_on`; ``place`` is its own.
    """

    path: str
    masker: Masker
    kind: str
    is_closed: bool = False
    scanned_bytes: int = 0
    released_bytes: int = 0
    name: str = ""
    event: Any = None
    where: Place = ()
    is_fielded: bool = False
    said: Any = None
    released: Any = None
    ahead: str = ""
    end: str = ""
    is_mixed: bool = False
    reading: ReadOn | None = None
    place: Place = ()
    kept: list[str] = field(default_factory=list)


class Channels:
    """Every text of one stream.

    Args:
        maskers: makes the maskers.
        limits: see `Limits`.
        repeats: does the protocol say texts a second time? Then what was released is kept, to be said again.
        reads_on: see `Dialect.reads_on`.
        fields: field rules, if there are any.
    """

    def __init__(
        self,
        maskers: Maskers,
        limits: Limits,
        *,
        repeats: bool = False,
        reads_on: Callable[[Place], Place | None] = lambda _: None,
        fields: EventFields | None = None,
    ) -> None:
        self._maskers = maskers
        self._fields = fields
        self._limits = limits
        self._repeats = repeats
        self._reads_on = reads_on
        self._read: dict[Place, ReadOn] = {}  # texts that are read as one
        self._open: dict[Place, Channel] = {}
        self._again: dict[bytes, str] = {}
        self._clean: set[tuple[str, str, bool]] = set()
        self._labels: dict[Place, tuple[str, str]] = {}  # the last one, and the end of all of them
        self._wholes: dict[Place, tuple[str, str]] = {}  # the same of all that was said whole there
        self._has_excluded: set[Place] = set()
        self._numbers: dict[Place, str] = {}  # those that stood where no text was yet
        self.scanned_bytes = 0
        self.structure_bytes = 0
        self.excluded_bytes = 0

    def items(self) -> list[tuple[Place, Channel]]:
        """Every channel there was, in order."""
        return list(self._open.items())

    def known(self, place: Place) -> Channel | None:
        """The channel at ``place``, if there is one."""
        return self._open.get(place)

    # In pieces -----------------------------------------------------------------------------------------------------

    def channel(self, place: Place, context: str, *, kind: str, about: Place | None = None) -> Channel:
        """The channel at ``place``; a new one if there is none. ``about``: its place as field rules planned it.

        Raises:
            StreamRefused: there are too many.
        """
        found = self._open.get(place)
        if found is not None:
            return found
        if len(self._open) >= self._limits.channels:
            raise StreamRefused("stream_too_many_channels")
        path = path_of(place)
        reading = self._reading(place, about)
        label = self._labels[place][1] if place in self._labels else ""
        if reading is not None:
            reading.begin(place)
        is_json = kind == "arguments"
        masker = self._masker(place, context, kind, about, reading, len(label))
        is_fielded = self._fields is not None and self._fields.is_strict(about)
        made = Channel(path, masker, kind, is_fielded=is_fielded, reading=reading, place=place)
        if is_json or self._repeats:
            made.said, made.released = hashlib.sha256(), hashlib.sha256()
        if kind == "unknown" and self._numbers:
            made.end = self._numbers.pop(place, "")
            made.is_mixed = bool(made.end)
        if label:
            made.ahead = label
            self._released(made, made.masker.feed(label))
        self._open[place] = made
        return made

    def _reading(self, place: Place, about: Place | None) -> ReadOn | None:
        """The texts that the one at ``place`` is read as one with; None if there are none, or rules are about it."""
        plan = self._fields.known(about) if self._fields is not None and about is not None else None
        together = self._reads_on(place) if plan is None or plan.rule is None else None
        return None if together is None else self._read.setdefault(together, ReadOn())

    def _masker(
        self, place: Place, context: str, kind: str, about: Place | None, reading: ReadOn | None, begins_at: int
    ) -> Masker:
        path = path_of(place)
        before = reading.before if reading is not None and not begins_at else ""

        def usual() -> Masker:
            if kind == "arguments":
                return JsonPieces(self._maskers, path, context)
            made = self._maskers.piecewise(path, context, begins_at=begins_at or len(before))
            if reading is not None:
                reading.watch(place, made)
            return GoesOn(made, before, self._maskers.as_a_piece(path, context, before)) if before else made

        def excluded(size: int) -> None:
            self.exclude(size)
            if size:
                self._has_excluded.add(place)
            if place in self._open:
                self._open[place].scanned_bytes -= size

        if self._fields is None:
            return usual()
        return self._fields.masker(about, path, usual, excluded, is_plain=kind == "plain")

    def exclude(self, size: int) -> None:
        """So many bytes that were counted were not scanned: a field rule says so."""
        self.excluded_bytes += size
        self.scanned_bytes -= size

    def feed(self, channel: Channel, text: str) -> str:
        """The next piece in, what may pass out.

        Raises:
            StreamRefused: the channel is at its end already, or a rule blocks.
        """
        if channel.is_closed:
            if text:
                raise StreamRefused("stream_text_after_end")
            return ""
        if channel.said is not None:
            channel.said.update(text.encode())
        if channel.kind == "unknown":
            channel.end = (channel.end + text)[-_END_KEPT:]
        if channel.reading is not None:
            channel.reading.say(channel.place, text)
        size = size_of(text)
        channel.scanned_bytes += size
        self.scanned_bytes += size
        out = fed(channel.masker, text)
        return self._released(channel, out)

    def is_begun_before(self, channel: Channel, context: str, text: str) -> bool:
        """Is what is found at the beginning of the next piece part of a value that began in the pieces before?"""
        if not channel.end:
            return False
        apart = self._maskers.as_it_goes_out(channel.path, context, channel.end)
        return not self._maskers.as_it_goes_out(channel.path, context, channel.end + text).startswith(apart)

    def is_more_in(self, channel: Channel, context: str, text: str) -> bool:
        """Is what comes next, a number or after one, part of a value that began before it?"""
        if not channel.end:
            return False
        together = self._maskers.as_it_goes_out(channel.path, context, channel.end + text)
        return together != self._maskers.as_it_goes_out(channel.path, context, channel.end) + text

    def number(self, place: Place, context: str, text: str) -> bool:
        """A number, as JSON writes it: may it stand where it does, after the text that stood there before?

        Raises:
            StreamRefused: there are too many places.
        """
        channel = self._open.get(place)
        if channel is None:
            if place not in self._numbers and len(self._numbers) >= self._limits.values:
                raise StreamRefused("stream_too_many_channels")
            self._numbers[place] = (self._numbers.get(place, "") + text)[-_END_KEPT:]
            return True
        if channel.kind != "unknown":
            return True
        is_more = self.is_more_in(channel, context, text)
        channel.end, channel.is_mixed = (channel.end + text)[-_END_KEPT:], True
        return not is_more

    def close(self, place: Place, channel: Channel) -> str:
        """What was held, masked; nothing may come after it.

        Raises:
            StreamRefused: a rule blocks.
        """
        if channel.is_closed:
            return ""
        channel.is_closed = True
        out = self._released(channel, finished(channel.masker))
        if self._repeats and channel.said is not None:
            if place not in self._has_excluded:  # what one place may say unseen is none of another's
                self._keep_said(channel.said.digest(), channel.released.digest(), "".join(channel.kept))
            channel.kept.clear()
        return out

    def _keep_said(self, said: bytes, released: bytes, text: str) -> None:
        """To be said again. Of two texts that are alike, one may have lost what the other has: that one is said."""
        if said != released or said not in self._again:
            self._again[said] = text

    def flush(self, channel: Channel) -> str:
        """What was held for long enough, as withheld; the text goes on.

        Raises:
            StreamRefused: a rule blocks.
        """
        return "" if channel.is_closed else self._released(channel, flushed(channel.masker))

    def _released(self, channel: Channel, out: str) -> str:
        if channel.ahead:
            channel.ahead, out = unsaid(channel.ahead, out)
        channel.released_bytes += size_of(out)
        if channel.released is not None:
            channel.released.update(out.encode())
        if self._repeats and out:
            channel.kept.append(out)
        return out

    # Whole ---------------------------------------------------------------------------------------------------------

    def whole(self, place: Place, context: str, text: str, *, is_json: bool = False, restores: bool = True) -> str:
        """A text that is not in pieces; what was said in pieces before is said again as it was released.

        ``restores``: with the caller's own values in it. Not in what is looked at once more, or names a place.

        Raises:
            StreamRefused: a rule blocks.
        """
        self.scanned_bytes += size_of(text)
        if (not context and len(text) <= SHORT) or (context, text, restores) in self._clean:
            return text
        if self._again and restores and context in _SAID_AGAIN:
            again = self._again.get(hashlib.sha256(text.encode()).digest())
            if again is not None:
                return again
        path = path_of(place)
        if is_json:
            pieces = JsonPieces(self._maskers, path, context)
            out = pieces.feed(text) + pieces.finish()
        else:
            out = self._maskers.whole(path, context, text, restores=restores and not is_frame_name(path))
        if self._maskers.settled_count > self._limits.removals:  # an event may hold more than a whole answer may
            raise StreamRefused("stream_too_many_removals")
        if out == text and len(text) <= _CLEAN_MAX_CHARACTERS:
            if len(self._clean) >= _CLEAN_MAX:
                self._clean.clear()
            self._clean.add((context, text, restores))
        return out

    def restored(self, place: Place, text: str) -> str:
        """A text that was masked, with the caller's own values in it; none in a name."""
        return text if is_frame_name(path_of(place)) else self._maskers.restored(text)

    def is_clean(self, place: Place, context: str, text: str) -> bool:
        """Does a text, put together for this question, hold nothing to be taken out?"""
        return len(text) <= SHORT or self._maskers.is_clean(path_of(place), context, text)

    def label(self, place: Place, text: str) -> str | None:
        """A name or an id as it may pass; None if it does not look like one, or something else stood there before.

        Raises:
            StreamRefused: a rule blocks.
        """
        if place in self._open:
            return None
        last, before = self._labels.get(place, ("", ""))
        if text == last:
            self.structure_bytes += len(text)
            return text
        if _is_known(text) or _TIME.fullmatch(text):
            self.structure_bytes += len(text)
            out = text
        elif _LABEL.fullmatch(text):
            out = self._joined(place, before, text)
        else:
            return None
        if out == text:
            self._keep(place, before, text)
        return out

    def _keep(self, place: Place, before: str, text: str) -> None:
        if place not in self._labels and len(self._labels) >= self._limits.values:
            raise StreamRefused("stream_too_many_channels")
        self._labels[place] = (text, (before + text)[-_LABEL_KEPT:])

    def _joined(self, place: Place, before: str, text: str) -> str:
        """A label that took another's place: together they may be what neither is."""
        out = self.whole(place, "", text, restores=False)
        return WITHHELD if out == text and self._is_more(place, before, text) else out

    def _is_more(self, place: Place, before: str, text: str) -> bool:
        """Is there something in both together?"""
        return bool(before) and not self.is_clean(place, "", before + text[:_LABEL_KEPT])

    def goes_on(self, place: Place, text: str) -> bool:
        """Was something said whole there before, and do both together hold a value that goes from one to the other?

        Raises:
            StreamRefused: there are too many places.
        """
        if place not in self._wholes and len(self._wholes) >= self._limits.values:
            raise StreamRefused("stream_too_many_channels")
        last, before = self._wholes.get(place, ("", ""))
        self._wholes[place] = (text, (before + text)[-_WHOLE_KEPT:])
        is_again = text == last and len(text) > _GROUP_MAX
        if not before or is_again or self.is_clean(place, "", before + text):
            return False
        apart = self._maskers.as_it_goes_out(path_of(place), "", before)
        return self._maskers.as_it_goes_out(path_of(place), "", before + text) != apart + text

    def packed(self, place: Place, text: str) -> str | None:
        """Packed bytes that are no text (a signature, an image), as they may pass: nobody can scan those.

        None if it does not look like some, or something else stood there before: then it is text as well.

        Raises:
            StreamRefused: there are too many places.
        """
        if not text:
            return text  # a block begins so: this is no text yet that packed bytes would go on with
        if place in self._open or not is_packed(text) or not self.is_clean(place, "", text):
            return None
        self.structure_bytes += len(text)
        before = self._labels.get(place, ("", ""))[1]
        if self._is_more(place, before, text):
            return WITHHELD
        self._keep(place, before, text)
        return text

    def ends_packed(self, place: Place, text: str) -> bool:
        """Does a text end what packed bytes began, so that it may not pass?"""
        return self._is_more(place, self._labels.get(place, ("", ""))[1], text)


def _is_known(text: str) -> bool:
    return len(text) <= _KNOWN_MAX and all(part in _KNOWN for part in _PARTS.split(text))


def size_of(text: str) -> int:
    """Bytes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def path_of(place: Place) -> str:
    """A place as a channel's path."""
    return "".join(f"/{pointer(part) if isinstance(part, str) else part}" for part in place)
