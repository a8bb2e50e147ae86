"""Answers that are streamed: read, masked and written again event by event. Pure.

`stream_reader` makes the reader of one answer: ``feed`` bytes, ``finish``, and ask what was ``learnt``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ext_proc.errors import UpstreamError
from ext_proc.protocols.streaming.anthropic import Anthropic
from ext_proc.protocols.streaming.dialect import Dialect
from ext_proc.protocols.streaming.fielding import EventFields, MaskTree
from ext_proc.protocols.streaming.learnt import ChannelSeen, Learnt
from ext_proc.protocols.streaming.maskers import Maskers
from ext_proc.protocols.streaming.masking import TEXTS, Limits, MakeMasker, Masked, Masker, MaskWhole
from ext_proc.protocols.streaming.openai import OpenAi
from ext_proc.protocols.streaming.reader import Released, StreamReader
from ext_proc.protocols.streaming.refusals import refusal_event
from ext_proc.protocols.streaming.responses import Responses
from ext_proc.protocols.streaming.wires import EventWire, LineWire, TextWire

if TYPE_CHECKING:
    from collections.abc import Callable

    from ext_proc.protocols.fielded import Fields
    from ext_proc.protocols.streaming.wires import Wire

_DIALECTS: Final = {
    "openai.chat": OpenAi,
    "openai.completions": OpenAi,
    "openai.responses": Responses,
    "anthropic.messages": Anthropic,
}
_LINES: Final = ("application/x-ndjson", "application/jsonl")
STREAMED: Final = ("text/event-stream", *_LINES)
"""Media types of answers that are read as they come."""


def stream_reader(  # noqa: PLR0913, PLR0917 - all that the reading of an answer depends on
    protocol: str,
    media_type: str,
    make: MakeMasker,
    limits: Limits | None = None,
    mask_whole: MaskWhole | None = None,
    offered: frozenset[str] = frozenset(),
    fields: tuple[Fields, MaskTree] | None = None,
    restore: Callable[[str], str] | None = None,
) -> StreamReader:
    """The reader of one answer.

    Args:
        protocol: the operation's.
        media_type: of the answer, in lower case and without parameters; its content coding is undone already.
        make: makes the maskers.
        limits: what the answer may cost.
        mask_whole: masks texts that are not in pieces; without it ``make`` must.
        offered: names of the tools that the caller offered.
        fields: field rules, and what masks JSON that they lead into.
        restore: puts the caller's own values back in what ``mask_whole`` made; ``make`` sees to its maskers' itself.

    Raises:
        UpstreamError: no media type of a stream.
    """
    limits = limits or Limits()
    wire: Wire
    if media_type == "text/event-stream":
        wire = EventWire(limits.event_bytes)
    elif media_type in _LINES:
        wire = LineWire(limits.event_bytes)
    elif media_type == "text/plain":
        wire = TextWire()
    else:
        raise UpstreamError("content_type")
    maskers = Maskers(make, mask_whole, restore)
    about = EventFields(fields[0], maskers, fields[1]) if fields is not None else None
    return StreamReader(protocol, _DIALECTS.get(protocol, Dialect)(), wire, maskers, limits, offered, about)


__all__ = [
    "STREAMED",
    "TEXTS",
    "ChannelSeen",
    "Learnt",
    "Limits",
    "MakeMasker",
    "MaskTree",
    "MaskWhole",
    "Masked",
    "Masker",
    "Released",
    "StreamReader",
    "refusal_event",
    "stream_reader",
]
