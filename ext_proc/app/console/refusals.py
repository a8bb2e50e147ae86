"""Who asked the console for what is for others, on record: `console.ports.Refusals`.

A leaf says who (by reference), which page (its name in the list of routes) and why not; nothing that they wrote. Nobody
fills the log so: of one person and page there is a leaf in ten minutes, and the next one says how often it was since.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ext_proc.app.quiet import Quiet
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ext_proc.audit.erasure import Journal
    from ext_proc.audit.keys import KeyRing
    from ext_proc.console.people import Viewer


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
        self._quiet = Quiet(clock)

    async def note(self, viewer: Viewer, page: str, code: str, *, is_api: bool) -> None:
        """See `ports.Refusals.note`."""
        await asyncio.to_thread(self._note, viewer, page, code, "api" if is_api else "console")

    def _note(self, viewer: Viewer, page: str, code: str, channel: str) -> None:
        who = self._keyring.subject_reference(viewer.identity)
        told = {"by": who, "page": page, "channel": channel, "code": code}
        self._quiet.note(
            (who, page), lambda repeated: self._journal.note(LeafKind.ACCESS_REFUSED, {**told, "repeated": repeated})
        )
