"""A record between the event loop, which made it, and the thread that writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from ext_proc.model import Receipt


@dataclass(slots=True)
class Waiting:
    """A record on its way: its frame, who waits, and what it means for the open exchanges."""

    frame: bytes
    sequence: int
    kind: str
    exchange_id: str
    done: asyncio.Future[Receipt]
    receipt: Receipt
    claims_release: bool = False
    is_last: bool = False
    part: dict[str, int] | None = None
