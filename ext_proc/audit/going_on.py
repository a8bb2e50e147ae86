"""What is not over in a log: what the next segment must begin with, so that recovery never needs an earlier one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.audit import frames
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from ext_proc.audit.waiting import Waiting

FRAME: Final = "part frame"
"""Kind of a part that is no leaf. It has no number of its own; its ``sequence`` is the next leaf's."""


class GoingOn:
    """Exchanges with an intent and no outcome, parts of their answers that no leaf tells of yet, and exchanges whose
    outcome tells of an answer that Envoy has not taken whole. The writing thread's own; others may only ask.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._open: dict[str, dict[str, Any]] = {}
        self._unsealed: dict[str, list[bytes]] = {}
        self._untaken: dict[str, dict[str, Any]] = {}

    @property
    def open_count(self) -> int:
        """Exchanges with an intent and no outcome."""
        return len(self._open)

    def is_untaken(self, exchange_id: str) -> bool:
        """Does its outcome tell of an answer, and does it go on?"""
        return exchange_id in self._untaken

    def follow(self, written: Waiting) -> None:
        """What a frame that was written begins, goes on with, or ends."""
        exchange_id = written.exchange_id
        if written.kind == LeafKind.INFERENCE_INTENT:
            self._open[exchange_id] = {"exchange_id": exchange_id, "intent_sequence": written.sequence}
        elif written.kind in (LeafKind.INFERENCE_PART, FRAME):
            self._open.get(exchange_id, {})["part"] = written.part
            unsealed = self._unsealed.setdefault(exchange_id, [])
            if written.kind == FRAME:
                unsealed.append(written.frame)
            else:
                unsealed.clear()
        elif written.kind in (LeafKind.INFERENCE_OUTCOME, LeafKind.INFERENCE_UNDELIVERED):
            self._open.pop(exchange_id, None)
            self._unsealed.pop(exchange_id, None)
            self._untaken.pop(exchange_id, None)
            if written.claims_release:
                self._untaken[exchange_id] = {"exchange_id": exchange_id, "outcome_sequence": written.sequence}

    def take(self, exchange_id: str) -> list[int]:
        """Envoy took the answer: the outcome's number, if its outcome told of one and nobody had said so yet."""
        told = self._untaken.pop(exchange_id, None)
        return [] if told is None else [told["outcome_sequence"]]

    def carry(self, first: int) -> bytes:
        """The frames that a segment whose next leaf has the number ``first`` begins with."""
        carried = [frames.encode_carry(first, self._origin, list(self._open.values()), list(self._untaken.values()))]
        return b"".join([*carried, *(frame for unsealed in self._unsealed.values() for frame in unsealed)])
