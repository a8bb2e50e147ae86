"""Sessions, kept in this process: a restart signs everybody out, and nothing on a disk signs anybody in."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ext_proc.console.ports import Session

if TYPE_CHECKING:
    from datetime import datetime

    from ext_proc.model import Identity

SESSIONS_MAX: Final = 10_000
"""About 2 KB each. Beyond, the one that was used longest ago ends: only whom the issuer vouched for can begin one."""
_ID_BYTES: Final = 32


class MemorySessions:
    """`ports.Sessions` in memory.

    Args:
        idle: a session that is not used ends after this.
        longest: every session ends after this.
    """

    def __init__(self, idle: timedelta = timedelta(minutes=30), longest: timedelta = timedelta(hours=8)) -> None:
        self._idle = idle
        self._longest = longest
        self._kept: OrderedDict[bytes, Session] = OrderedDict()

    async def begin(self, identity: Identity, now: datetime) -> str:
        """See `ports.Sessions.begin`."""
        session_id = secrets.token_urlsafe(_ID_BYTES)
        ends_at = now + self._longest
        if identity.expires_at is not None:
            ends_at = min(ends_at, identity.expires_at)
        self._kept[_digest(session_id)] = Session(secrets.token_urlsafe(_ID_BYTES), identity, now, now, ends_at)
        while len(self._kept) > SESSIONS_MAX:
            self._kept.popitem(last=False)
        return session_id

    async def find(self, session_id: str, now: datetime, *, is_use: bool = True) -> Session | None:
        """See `ports.Sessions.find`."""
        digest = _digest(session_id)
        found = self._kept.get(digest)
        if found is None:
            return None
        if now >= found.ends_at or now - found.used_at >= self._idle:
            del self._kept[digest]
            return None
        if not is_use:
            return found
        used = replace(found, used_at=now)
        self._kept[digest] = used
        self._kept.move_to_end(digest)
        return used

    async def end(self, session_id: str) -> None:
        """See `ports.Sessions.end`."""
        self._kept.pop(_digest(session_id), None)


def _digest(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode(errors="replace")).digest()
