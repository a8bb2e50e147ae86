"""Of what somebody does again and again there is a leaf now and then, and it says how often it was since.

What is written to a locked log cannot be taken out again: nobody may fill it by asking the same thing in a loop.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Final

from ext_proc.errors import AuditUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

QUIET: Final = timedelta(minutes=10)
KEPT_MAX: Final = 10_000
"""Of what is remembered, about 300 bytes each. Beyond, the oldest is forgotten, and could be a leaf once more."""


@dataclass(slots=True)
class _Last:
    at: datetime
    since: int = 0
    """How often it was again, and is in no leaf yet."""


class Quiet:
    """What was put on record last. For threads.

    Args:
        clock: aware UTC.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = Lock()  # guards what was noted last; never held while the disk is waited for
        self._last: OrderedDict[tuple[str, ...], _Last] = OrderedDict()

    def note(self, what: tuple[str, ...], write: Callable[[int], object]) -> None:
        """Have it written, unless the same was a short while ago.

        Args:
            what: who did what to what.
            write: is told how often it was since the last time it wrote. What it raises, this raises.
        """
        before = self._begun(what)
        if before is None:
            return
        try:
            write(before.since)
        except AuditUnavailable:
            self._undone(what, before)
            raise

    def _begun(self, what: tuple[str, ...]) -> _Last | None:
        """What was counted until now, and from now on anew; None: it is too soon for another leaf."""
        now = self._clock()
        with self._lock:
            last = self._last.get(what)
            if last is not None and last.at <= now < last.at + QUIET:
                last.since += 1
                return None
            self._last[what] = _Last(now)
            self._last.move_to_end(what)
            if len(self._last) > KEPT_MAX:
                self._last.popitem(last=False)
            return last or _Last(now - QUIET)

    def _undone(self, what: tuple[str, ...], before: _Last) -> None:
        """The next one tries again, and counts this one too."""
        with self._lock:
            now = self._last.get(what)
            self._last[what] = _Last(before.at, before.since + 1 + (now.since if now is not None else 0))
