"""Parts of streamed answers that no leaf tells of yet.

Each part is durable before it is released, but a leaf for each would be hundreds an answer. So a part goes to the disk
as a frame that is no leaf, and every few seconds one leaf takes all since the last: that one is what auditors see.
Kept here until then is what those frames hold, so that the leaf's payloads are whole. Not safe for concurrent use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ext_proc.model import Payload
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ext_proc.model import Entry

LEAF_AFTER: Final = timedelta(seconds=4)
LEAF_BYTES: Final = 16 * 1024
"""So much of one answer at most is only in frames: it is written again where a new segment begins."""


@dataclass(slots=True)
class _Since:
    """One answer since its last leaf."""

    leaf_at: datetime
    payloads: list[Payload] = field(default_factory=list)
    size_bytes: int = 0


class Parts:
    """Of all answers that are streaming."""

    def __init__(self) -> None:
        self._since: dict[str, _Since] = {}

    def is_leaf(self, entry: Entry, now: datetime) -> bool:
        """Must this part be a leaf? The first one of an answer, and one in a while."""
        since = self._since.get(entry.exchange_id)
        if since is None:
            return True
        size_bytes = since.size_bytes + sum(len(payload.body) for payload in entry.payloads)
        return now - since.leaf_at >= LEAF_AFTER or size_bytes > LEAF_BYTES

    def keep(self, entry: Entry) -> None:
        """The part became a frame: the next leaf must hold it too."""
        since = self._since.get(entry.exchange_id)
        if since is None:
            return
        since.payloads += entry.payloads
        since.size_bytes += sum(len(payload.body) for payload in entry.payloads)

    def whole(self, entry: Entry) -> Sequence[Payload]:
        """The payloads of a leaf: what is kept, and its own."""
        since = self._since.get(entry.exchange_id)
        if since is None or not since.payloads:
            return entry.payloads
        bodies: dict[str, list[bytes]] = {}
        every = [*since.payloads, *entry.payloads]
        for payload in every:
            bodies.setdefault(payload.role, []).append(payload.body)
        return [Payload(role, b"".join(pieces), every[0].content_type) for role, pieces in bodies.items()]

    def told(self, entry: Entry, now: datetime) -> None:
        """A leaf tells of everything until now."""
        if entry.kind == LeafKind.INFERENCE_PART:
            self._since[entry.exchange_id] = _Since(now)
        else:
            self._since.pop(entry.exchange_id, None)
