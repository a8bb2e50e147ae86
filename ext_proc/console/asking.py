"""What somebody asks of a page, read strictly: a form's fields or a query's words become values, or a clear complaint.

Nothing here is trusted to be of one kind: browsers, programs and people with tools write it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, cast

from ext_proc.console.seen import Filters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ext_proc.console.people import Viewer
    from ext_proc.console.ports import Channel

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 200
WORD_MAX: Final = 200
PURPOSE_MAX: Final = 200
"""Characters; as `affidavit show --purpose` takes."""
HOURS_MAX: Final = 24 * 31
_WORD: Final = re.compile(r"[^\x00-\x1f\x7f]*")
_DECISIONS: Final = ("allow", "deny", "none")


class BadAsk(Exception):
    """What was asked cannot be meant: ``field`` and what is wanted of it, safe to show."""

    def __init__(self, name: str, wanted: str) -> None:
        super().__init__(f"{name}: {wanted}")
        self.name = name
        self.wanted = wanted


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a page or its twin. ``told`` is a form's fields or a JSON object's, ``query`` the address's."""

    viewer: Viewer
    now: datetime
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, object] = field(default_factory=dict)
    is_api: bool = False

    @property
    def limit(self) -> int:
        """How many lines."""
        return _whole(self.query.get("limit"), "limit", LIMIT_DEFAULT, LIMIT_MAX)

    @property
    def after(self) -> str | None:
        """The place in a list from which to go on, as the last answer gave it."""
        return self.word("after")

    @property
    def filters(self) -> Filters:
        """Which exchanges."""
        decision = self.word("decision")
        if decision is not None and decision not in _DECISIONS:
            raise BadAsk("decision", "must be allow, deny or none")
        return Filters(
            query=self.word("query"),
            since=self.instant("since"),
            until=self.instant("until"),
            connection=self.word("connection"),
            model=self.word("model"),
            decision=cast("Literal['allow', 'deny', 'none'] | None", decision),
            outcome=self.word("outcome"),
            entity=self.word("entity"),
            code=self.word("code"),
        )

    @property
    def since(self) -> datetime:
        """From when on charts are drawn: so many whole hours ago."""
        hours = _whole(self.query.get("hours"), "hours", 24, HOURS_MAX)
        return self.now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours - 1)

    @property
    def is_yes(self) -> bool:
        """Approve or deny?"""
        answer = self.told.get("answer")
        if not isinstance(answer, str) or answer not in {"approve", "deny"}:
            raise BadAsk("answer", "must be approve or deny")
        return answer == "approve"

    @property
    def justification(self) -> str:
        """Why; whether it will do is for the rules of approval to say."""
        return self._text("justification")

    @property
    def purpose(self) -> str:
        """Why somebody reads payloads."""
        purpose = self._text("purpose").strip()
        if not 0 < len(purpose) <= PURPOSE_MAX or not purpose.isprintable():
            raise BadAsk(
                "purpose", f"say why, on one line of 1 to {PURPOSE_MAX} characters: it is kept with the record"
            )
        return purpose

    @property
    def channel(self) -> Channel:
        """By which way this came. A program says which of them it is; a browser cannot."""
        if not self.is_api:
            return "console"
        channel = self.told.get("channel", "api")
        if not isinstance(channel, str) or channel not in {"api", "cli"}:
            raise BadAsk("channel", "must be api or cli")
        return cast("Channel", channel)

    def word(self, name: str) -> str | None:
        """A word of the query; None if it is empty."""
        told = self.query.get(name, "").strip()
        if len(told) > WORD_MAX or not _WORD.fullmatch(told):
            raise BadAsk(name, f"must be text on one line, of {WORD_MAX} characters at most")
        return told or None

    def instant(self, name: str) -> datetime | None:
        """A time of the query, or a day's beginning; in UTC where no zone is named."""
        told = self.word(name)
        if told is None:
            return None
        try:
            found = datetime.fromisoformat(told)
        except ValueError:
            raise BadAsk(name, "must be a time, for example 2027-01-31T09:30") from None
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found

    def _text(self, name: str) -> str:
        told = self.told.get(name, "")
        if not isinstance(told, str):
            raise BadAsk(name, "must be text")
        try:
            told.encode()
        except UnicodeEncodeError:
            raise BadAsk(name, "must be text that can be written down") from None
        return told


def _whole(told: str | None, name: str, default: int, largest: int) -> int:
    if told is None or not told.strip():
        return default
    # Not `int`: it takes 1_000, +1 and other scripts' digits.
    if not re.fullmatch(r"[0-9]{1,6}", told) or not 1 <= int(told) <= largest:
        raise BadAsk(name, f"must be a whole number from 1 to {largest}")
    return int(told)
