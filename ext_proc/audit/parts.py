"""Parts of streamed answers that no leaf tells of yet.

Each part is durable before it is released, but a leaf for each would be hundreds an answer. So a part goes to the disk
as a frame that is no leaf, and every few seconds one leaf takes all since the last: that one is what auditors see.
Kept here until then is what those frames hold, so that the leaf's payloads are whole. Not safe for concurrent use.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ext_proc.model import Payload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ext_proc.model import Entry

PART: Final = "inference.part"
LEAF_AFTER: Final = timedelta(seconds=4)
LEAF_BYTES: Final = 16 * 1024
"""So much of one answer at most is only in frames: it is written again where a new segment begins."""


@dataclass(slots=True)
class _Since:
    """One answer since its last leaf."""

    leaf_at: datetime
    payloads: list[Payload] = field(default_factory=list)
    size_bytes: int = 0
    last: Entry | None = None
    is_settling: bool = False
    """A leaf with all that is kept is on its way. What comes behind it is durable only if it is."""


class Parts:
    """Of all answers that are streaming."""

    def __init__(self) -> None:
        self._since: dict[str, _Since] = {}

    def is_leaf(self, entry: Entry, now: datetime) -> bool:
        """Must this part be a leaf? The first one of an answer, and one in a while."""
        since = self._since.get(entry.exchange_id)
        if since is None:
            return True
        if since.is_settling:
            return False
        size_bytes = since.size_bytes + sum(len(payload.body) for payload in entry.payloads)
        return now - since.leaf_at >= LEAF_AFTER or size_bytes > LEAF_BYTES

    def keep(self, entry: Entry) -> None:
        """The part became a frame: the next leaf must hold it too."""
        since = self._since.get(entry.exchange_id)
        if since is None:
            return
        since.last = entry
        since.payloads += entry.payloads
        since.size_bytes += sum(len(payload.body) for payload in entry.payloads)

    def whole(self, entry: Entry) -> Sequence[Payload]:
        """The payloads of a leaf: what is kept, and its own."""
        since = self._since.get(entry.exchange_id)
        if since is None or not since.payloads or since.is_settling:
            return entry.payloads
        return _joined([*since.payloads, *entry.payloads])

    def overdue(self, now: datetime) -> Iterator[Entry]:
        """Of each answer that has stood still for a while, a leaf with what is kept: its last part's, said once more.

        Say `told` or `untold` of each.
        """
        for since in self._since.values():
            if since.last is not None and not since.is_settling and now - since.leaf_at >= LEAF_AFTER:
                since.is_settling = True
                yield replace(since.last, payloads=_joined(since.payloads))

    def untold(self, entry: Entry) -> None:
        """The leaf was given back: all of it is still kept."""
        since = self._since.get(entry.exchange_id)
        if since is not None:
            since.is_settling = False

    def told(self, entry: Entry, now: datetime) -> None:
        """A leaf tells of everything until now."""
        if entry.kind == PART:
            self._since[entry.exchange_id] = _Since(now)
        else:
            self._since.pop(entry.exchange_id, None)


def _joined(payloads: Sequence[Payload]) -> tuple[Payload, ...]:
    bodies: dict[str, list[bytes]] = {}
    for payload in payloads:
        bodies.setdefault(payload.role, []).append(payload.body)
    return tuple(Payload(role, b"".join(pieces), payloads[0].content_type) for role, pieces in bodies.items())
