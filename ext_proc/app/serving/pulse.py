"""Is a process that lives still there? One that hangs serves nobody, and keeps the replica from being ready: it is
ended, and started again like one that died. Pure.
"""

from __future__ import annotations

from typing import Final

LOOK_SECONDS: Final = 5.0
WORKER_SECONDS: Final = 60.0
"""A worker says something every second; it may be busy, and its machine, too."""
SHIPPER_SECONDS: Final = 900.0
"""The shipper says something after each round; one with a store that hangs takes minutes."""


class Pulse:
    """Call `is_gone` every `LOOK_SECONDS`. Looks are counted, not time: where the whole machine stood still, or its
    clock was set, nobody is to blame.

    Args:
        patience_seconds: for so long it may say the same.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._looks = max(1, round(patience_seconds / LOOK_SECONDS))
        self._said_at: float | None = None
        self._same = 0

    def is_gone(self, said_at: float | None) -> bool:
        """Has it said nothing new for too long?

        Args:
            said_at: when it last said something, by its own clock; None: it has not yet, and may be waiting.
        """
        self._same = self._same + 1 if said_at is not None and said_at == self._said_at else 0
        self._said_at = said_at
        return self._same >= self._looks
