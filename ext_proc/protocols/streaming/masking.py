"""What this room asks of the one that masks, and how a stream that may not go on is refused. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.model import Removal


class Masker(Protocol):
    """One channel's text in, what of it may pass out. Whatever the pieces, the sum of what comes out is the same."""

    @property
    def blocked(self) -> Sequence[str]:
        """Entities whose rule says that nothing may pass; once there is one, nothing more comes out."""
        ...

    @property
    def removals(self) -> Sequence[Removal]:
        """What was taken out so far."""
        ...

    @property
    def removal_count(self) -> int:
        """How many those are, at most."""
        ...

    def feed(self, text: str) -> str:
        """Take the next piece; give what may pass now (perhaps nothing, perhaps what was held before)."""
        ...

    def finish(self) -> str:
        """The text is over: give what was held, masked."""
        ...

    def flush_masked(self) -> str:
        """It was waited for long enough: give what is held as withheld; the text goes on."""
        ...


class MakeMasker(Protocol):
    """Makes the masker of one channel."""

    def __call__(self, path: str, context: str) -> Masker:
        """See the class. ``context`` is the nearest key: ``password`` says a lot."""
        ...


class Within:
    """What a masker says of itself that leaves all masking to maskers within: `Maskers` knows, and asks, those."""

    @property
    def blocked(self) -> Sequence[str]:
        """Nothing: the maskers within are asked at every piece."""
        return ()

    @property
    def removals(self) -> Sequence[Removal]:
        """Nothing of its own."""
        return ()

    @property
    def removal_count(self) -> int:
        """None of its own."""
        return 0


@dataclass(frozen=True, slots=True)
class Masked:
    """A whole text made fit to pass; ``blocked`` as in `Masker`."""

    text: str
    removals: Sequence[Removal] = ()
    blocked: Sequence[str] = ()


class MaskWhole(Protocol):
    """Masks a text that is not in pieces, faster than a `Masker`, and to the same result."""

    def __call__(self, path: str, context: str, text: str) -> Masked:
        """See the class."""
        ...


TEXTS: Final = {
    "content_blocked": "The answer holds data that may not be released, so it ends here.",
    "stream_not_utf8": "The model's answer is not UTF-8, so it ends here.",
    "stream_not_json": "The model's answer cannot be read as this operation's events, so it ends here.",
    "stream_too_deep": "The model's answer is nested too deeply, so it ends here.",
    "stream_line_too_long": "The model's answer has a line without end, so it ends here.",
    "stream_event_too_large": "The model's answer has an event that is too large, so it ends here.",
    "stream_too_large": "The model's answer is larger than this connection accepts, so it ends here.",
    "stream_too_many_channels": "The model's answer says too many things at once, so it ends here.",
    "stream_too_many_values": "The model's answer has an event with too many values, so it ends here.",
    "stream_too_many_removals": "The model's answer holds too much that may not be released, so it ends here.",
    "stream_text_after_end": "The model's answer goes on after its end, so it ends here.",
    "stream_text_out_of_place": "The model's answer says text where its events only begin one, so it ends here.",
    "stream_json_too_large": "The model's answer holds JSON that is too large to be looked into, so it ends here.",
    "stream_truncated": "The model's answer was cut short.",
}
"""Every code that a stream can be refused with, and what its reader is told."""


class StreamRefused(Exception):
    """The stream must not go on: ``code`` is one of `TEXTS`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Limits:
    """What one stream may cost. Each has its own code.

    Args:
        total_bytes: of the whole answer.
        event_bytes: of a line, and of an event. Final events of the Responses API repeat the whole answer.
        channels: texts that are open or were; each keeps a masker.
        values: strings, keys and numbers in one event.
        removals: values taken out of the whole answer; each is kept until it is on record.
    """

    total_bytes: int = 64 * 1024 * 1024
    event_bytes: int = 1024 * 1024
    channels: int = 512
    values: int = 20_000
    removals: int = 50_000


def fed(masker: Masker, text: str) -> str:
    """`Masker.feed`.

    Raises:
        StreamRefused: a rule of the decision blocks.
    """
    return _unless_blocked(masker, masker.feed(text))


def finished(masker: Masker) -> str:
    """`Masker.finish`.

    Raises:
        StreamRefused: a rule of the decision blocks.
    """
    return _unless_blocked(masker, masker.finish())


def flushed(masker: Masker) -> str:
    """`Masker.flush_masked`.

    Raises:
        StreamRefused: a rule of the decision blocks.
    """
    return _unless_blocked(masker, masker.flush_masked())


def _unless_blocked(masker: Masker, said: str) -> str:
    if masker.blocked:
        raise StreamRefused("content_blocked")
    return said
