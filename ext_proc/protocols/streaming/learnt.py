"""What a stream told beside its text: as a whole answer tells it, and how much of each text was looked at. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ext_proc.model import ToolCall

if TYPE_CHECKING:
    from ext_proc.model import Coverage, Removal
    from ext_proc.protocols.document import Facts


@dataclass(frozen=True, slots=True)
class ToolSeen:
    """A tool call as it came (``arguments_sha256``) and as it went out (``released_sha256``)."""

    name: str
    channel: str
    arguments_sha256: str
    released_sha256: str

    def as_released(self) -> ToolCall:
        """As a whole answer tells it."""
        return ToolCall(self.name, self.released_sha256)


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
    tool_calls: tuple[ToolSeen, ...]
    removals: tuple[Removal, ...]
    blocked: tuple[str, ...]
    coverage: Coverage
    channels: tuple[ChannelSeen, ...]
    received_bytes: int
