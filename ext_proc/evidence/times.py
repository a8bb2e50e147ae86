"""Times as people write them. Pure: the present is an argument."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from ext_proc.evidence.versions import EvidenceError

_AGO: Final = re.compile(r"-?(\d{1,6}) ?([smhdw])(?: ago)?")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_FIRST: Final = datetime(1970, 1, 2, tzinfo=UTC)
"""Nothing is older; and what is a little before a time must be one, too."""


def parse_time(text: str, now: datetime, *, is_end: bool = False) -> datetime:
    """An instant in UTC.

    Args:
        text: ``2026-11-25``, ``2026-11-25T10:30``, ``2026-11-25T10:30:00+01:00`` (UTC where no zone is written),
            ``2h`` or ``-2h`` (s, m, h, d, w: so long ago), ``now``, ``today``, ``yesterday``.
        now: the present.
        is_end: of a span: a day then means its end.

    Raises:
        EvidenceError: it is none of these.
    """
    try:
        at = _parsed(text.strip().lower(), now.astimezone(UTC), is_end=is_end)
        if at >= _FIRST:
            return at
    except (ValueError, OverflowError):
        pass
    raise EvidenceError(f"{text!r} is no time: write 2026-11-25, 2026-11-25T10:30 or 2h (two hours ago)") from None


def _parsed(said: str, now: datetime, *, is_end: bool) -> datetime:
    ago = _AGO.fullmatch(said)
    if ago is not None:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    if said == "now":
        return now
    day: datetime | None = None
    if said in ("today", "yesterday"):
        day = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=said == "yesterday")
    elif _DAY.fullmatch(said):
        day = datetime.fromisoformat(said).replace(tzinfo=UTC)
    if day is not None:
        return day + timedelta(days=1) - timedelta(microseconds=1) if is_end else day
    at = datetime.fromisoformat(said.upper())
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
