"""Who asked the console for what is for others, on record: `console.ports.Refusals`.

A leaf says who (by reference), which page (its name in the list of routes) and why not; nothing that they wrote. Nobody
fills the log so: of one person and page there is a leaf in ten minutes, and the next one says how often it was since.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Final

from ext_proc.errors import AuditUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ext_proc.audit.erasure import Journal
    from ext_proc.audit.keys import KeyRing
    from ext_proc.console.people import Viewer

KIND: Final = "access.refused"
QUIET: Final = timedelta(minutes=10)
KEPT_MAX: Final = 10_000
"""Persons and pages, about 300 bytes each. Beyond, the oldest is forgotten, and could be a leaf once more."""


@dataclass(slots=True)
class _Last:
    at: datetime
    since: int = 0
    """How often it was again, and is in no leaf yet."""


class NotedRefusals:
    """`console.ports.Refusals`.

    Args:
        keyring: makes references.
        journal: the console's own log.
        clock: aware UTC.
    """

    def __init__(self, keyring: KeyRing, journal: Journal, clock: Callable[[], datetime]) -> None:
        self._keyring = keyring
        self._journal = journal
        self._clock = clock
        self._lock = Lock()  # guards what was noted last; never held while the disk is waited for
        self._last: OrderedDict[tuple[str, str], _Last] = OrderedDict()

    async def note(self, viewer: Viewer, page: str, code: str, *, is_api: bool) -> None:
        """See `ports.Refusals.note`."""
        await asyncio.to_thread(self._note, viewer, page, code, "api" if is_api else "console")

    def _note(self, viewer: Viewer, page: str, code: str, channel: str) -> None:
        who = self._keyring.subject_reference(viewer.identity)
        before = self._begun((who, page))
        if before is None:
            return
        told = {"by": who, "page": page, "channel": channel, "code": code, "repeated": before.since}
        try:
            self._journal.note(KIND, told)
        except AuditUnavailable:
            self._undone((who, page), before)
            raise

    def _begun(self, place: tuple[str, str]) -> _Last | None:
        """What was counted until now, and from now on anew; None: it is too soon for another leaf."""
        now = self._clock()
        with self._lock:
            last = self._last.get(place)
            if last is not None and last.at <= now < last.at + QUIET:
                last.since += 1
                return None
            self._last[place] = _Last(now)
            self._last.move_to_end(place)
            if len(self._last) > KEPT_MAX:
                self._last.popitem(last=False)
            return last or _Last(now - QUIET)

    def _undone(self, place: tuple[str, str], before: _Last) -> None:
        """The next one tries again, and counts this one too."""
        with self._lock:
            now = self._last.get(place)
            self._last[place] = _Last(before.at, before.since + 1 + (now.since if now is not None else 0))
