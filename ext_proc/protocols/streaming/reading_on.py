"""Texts that a reader reads as one, each begun after the other: what the next one goes on from. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ext_proc.protocols.streaming.masking import StreamRefused

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

    def before(self, place: Place) -> str:
        """What a text at ``place`` goes on from.

        Raises:
            StreamRefused: it stands before another one that has begun. Where a reader puts it in, nobody looked.
        """
        if place < self._place:
            raise StreamRefused("stream_text_out_of_place")
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

    def begin(self, place: Place, masker: Masker, before: str) -> None:
        """A text began that goes on from ``before``; ``masker`` is its own."""
        self._place, self._masker, self._before = place, masker, before
        self._said, self._size, self._count = [], 0, 0

    def say(self, masker: Masker, text: str) -> None:
        """The next piece of a text, whose masker this is.

        Raises:
            StreamRefused: another one has begun since.
        """
        if not text:
            return
        if masker is not self._masker:
            raise StreamRefused("stream_text_out_of_place")
        self._said.append(text)
        self._size += len(text)
        self._count += len(text)
        if self._size > 2 * _SAID_MAX:
            self._said = ["".join(self._said)[-_SAID_MAX:]]
            self._size = _SAID_MAX


def _end_of(text: str) -> str:
    """What is kept of it: whole words, or a value could seem to begin in the midst of one."""
    if len(text) <= 2 * _KEPT:
        return text
    end = text[-_KEPT:]
    blank = _BLANK.search(end, 0, _WORD_MAX)
    return end[blank.end() :] if blank else end
