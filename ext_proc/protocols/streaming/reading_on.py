"""Texts that a reader reads as one, each begun after the other: what the next one goes on from. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ext_proc.protocols.streaming.masking import StreamRefused, Within, fed, finished, flushed
from ext_proc.protocols.streaming.strings import unsaid

if TYPE_CHECKING:
    from ext_proc.protocols.streaming.channels import Place
    from ext_proc.protocols.streaming.masking import Masker

_KEPT: Final = 256
"""A value, with words that announce it; longer than most."""
_HEAD: Final = 4 * _KEPT
"""Of a value that is longer (a private key): the beginning says what it is, what is between that and its end is left
out. It is also there when the value began right behind what its text went on from."""
_ANNOUNCED: Final = 64
_WORD_MAX: Final = 64
"""Where no blank is that near to where a text is cut, it is cut within a word: the next blank may be one in a value."""
_BLANK: Final = re.compile(r"\s")
_SAID_MAX: Final = 32 * 1024


class ReadOn:
    """The texts that one reader reads as one."""

    __slots__ = ("_before", "_count", "_masker", "_place", "_said", "_size")

    def __init__(self) -> None:
        self._place: Place = ()
        self._masker: Masker | None = None
        self._before = ""
        self._said: list[str] = []
        self._size = 0
        self._count = 0  # characters of the last text, also of those that are not kept

    def _end(self) -> str:
        """What a text that begins now goes on from."""
        if not self._count:  # an empty text: what it would have gone on from, this one does
            return self._before
        text = self._before + "".join(self._said)
        removals = self._masker.removals if self._masker is not None else ()
        last = removals[-1] if removals else None
        if last is None or last.end < self._count:
            return _end_of(text)
        if last.start:  # else it may have begun in what stands before
            begin = len(text) - (self._count - last.start) - _ANNOUNCED
            text = _end_of(text) if begin >= len(text) - _KEPT else text[max(begin, 0) :]
        return text if len(text) <= _HEAD + _KEPT else text[:_HEAD] + text[-_KEPT:]

    def begin(self, place: Place) -> None:
        """A text begins.

        Raises:
            StreamRefused: it stands before another one that has begun. Where a reader puts it in, nobody looked.
        """
        if place < self._place:
            raise StreamRefused("stream_text_out_of_place")
        self._before = self._end()
        self._place, self._masker = place, None
        self._said, self._size, self._count = [], 0, 0

    @property
    def before(self) -> str:
        """What the text that began last goes on from."""
        return self._before

    def watch(self, place: Place, masker: Masker) -> None:
        """``masker`` masks the text at ``place``: it knows whether that ends within a value."""
        if place == self._place:
            self._masker = masker

    def say(self, place: Place, text: str) -> None:
        """The next piece of the text at ``place``.

        Raises:
            StreamRefused: another one has begun since.
        """
        if not text:
            return
        if place != self._place:
            raise StreamRefused("stream_text_out_of_place")
        self._said.append(text)
        self._size += len(text)
        self._count += len(text)
        if self._size > 2 * _SAID_MAX:
            self._said = ["".join(self._said)[-_SAID_MAX:]]
            self._size = _SAID_MAX


class GoesOn(Within):
    """A masker that is told first what its text goes on from, and does not say that again.

    Args:
        masker: masks.
        before: what it is told.
        ahead: what of that went out.
    """

    def __init__(self, masker: Masker, before: str, ahead: str) -> None:
        self._masker = masker
        self._ahead = ahead
        self._new(masker.feed(before))  # what it makes of it went out

    def feed(self, text: str) -> str:
        """See `Masker.feed`.

        Raises:
            StreamRefused: a rule blocks.
        """
        return self._new(fed(self._masker, text))

    def finish(self) -> str:
        """See `Masker.finish`.

        Raises:
            StreamRefused: a rule blocks.
        """
        return self._new(finished(self._masker))

    def flush_masked(self) -> str:
        """See `Masker.flush_masked`.

        Raises:
            StreamRefused: a rule blocks.
        """
        return self._new(flushed(self._masker))

    def _new(self, out: str) -> str:
        if self._ahead:
            self._ahead, out = unsaid(self._ahead, out)
        return out


def _end_of(text: str) -> str:
    """What is kept of it: whole words, or a value could seem to begin in the midst of one."""
    if len(text) <= 2 * _KEPT:
        return text
    end = text[-_KEPT:]
    blank = _BLANK.search(end, 0, _WORD_MAX)
    return end[blank.end() :] if blank else end
