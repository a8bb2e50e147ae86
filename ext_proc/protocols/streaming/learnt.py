"""What a stream told beside its text: as a whole answer tells it, and how much of each text was looked at. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ext_proc.model import Coverage, Removal, ToolCall
    from ext_proc.protocols.document import Facts


@dataclass(frozen=True, slots=True)
class ChannelSeen:
    """How much of one text came in and was scanned, and how much went out, in UTF-8 bytes."""

    path: str
    scanned_bytes: int
    released_bytes: int


@dataclass(frozen=True, slots=True)
class Learnt:
    """What is known so far. ``coverage`` counts everything; ``channels`` are the texts in pieces one by one."""

    facts: Facts
    tool_calls: tuple[ToolCall, ...]
    removals: tuple[Removal, ...]
    blocked: tuple[str, ...]
    coverage: Coverage
    channels: tuple[ChannelSeen, ...]
    received_bytes: int
