"""Questions as callers would have them asked: by others, from other programs, on other days. Pure.

The questions that are made have one id, one subject, one client and one day. A rule that knows these could be strict
with them, and lenient with everybody else. So some are asked again in the guise of ordinary traffic, each guise
another one; nothing that a policy is likely to be about (groups, model, network, weekday, hour) is changed by it.
"""

from __future__ import annotations

import copy
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

    from ext_proc.policy.trial.questions import Question

PARTS: Final = ("exchange_id", "identity.subject", "source.user_agent", "time.now")
BY_CHANCE: Final = "exchange_id"
"""Whoever asks again has another one: no decision may depend on it."""
_MONTHS: Final = 36
_YEARS: Final = (2001, 2015, 2025, *range(2030, 2046))
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_AGENTS: Final = (
    "OpenAI/Python 2.9.0", "Anthropic/Python 0.75.0", "OpenAI/JS 6.10.0", "curl/8.17.0", "langchain/1.1.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", "httpx/0.28.1", "Go-http-client/2.0",
)  # fmt: skip
_NAMES: Final = ("ada.lovelace", "grace_hopper", "k.zuse", "svc-reports", "edsger", "barbara.liskov", "build-agent")


def days() -> list[date]:
    """Days on which a question is asked again: each of some months to come, and some years."""
    return [
        *(date(2026, 12, 1) + timedelta(days=30 * month + month % 7) for month in range(_MONTHS)),
        *(date(year, 1 + year % 12, 1 + year % 28) for year in _YEARS),
    ]


def disguised(question: Question, day: date, chance: Random, parts: Sequence[str] = PARTS) -> Question:
    """The question as somebody else asks it on (or soon after) another day, the same weekday and hour."""
    return _with(question, {part: value for part, value in _guise(question, day, chance).items() if part in parts})


def single(question: Question, other: Question) -> Iterator[tuple[str, Question]]:
    """The question with one part of the guise at a time."""
    for part in PARTS:
        yield part, _with(question, {part: _at(other, part)})


def _guise(question: Question, day: date, chance: Random) -> dict[str, Any]:
    number = chance.getrandbits(128)
    subjects = (
        f"{chance.choice(_NAMES)}@example.com", f"{chance.choice(_NAMES)}{chance.randint(1, 999)}", f"{number:032x}",
        f"auth0|{chance.getrandbits(96):024x}", _uuid(chance.getrandbits(128)),
    )  # fmt: skip
    return {
        "exchange_id": _uuid(number),
        "identity.subject": chance.choice(subjects),
        "source.user_agent": chance.choice(_AGENTS),
        "time.now": _instant(question["time"], day, chance),
    }


def _uuid(number: int) -> str:
    """As Envoy makes them: version 4."""
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[number % 4]}{digits[17:20]}-{digits[20:]}"


def _instant(time: dict[str, Any], day: date, chance: Random) -> str:
    wanted = _WEEKDAYS.index(time["weekday"]) if time["weekday"] in _WEEKDAYS else day.weekday()
    day += timedelta(days=(wanted - day.weekday()) % 7)
    within = f"{chance.randrange(60):02}:{chance.randrange(60):02}.{chance.randrange(1000):03}"
    return f"{day.isoformat()}T{int(time['hour']):02}:{within}Z"


def _with(question: Question, parts: dict[str, Any]) -> Question:
    made = copy.deepcopy(question)
    for part, value in parts.items():
        holder, _, name = part.rpartition(".")
        (made[holder] if holder else made)[name] = value
    return made


def _at(question: Question, part: str) -> Any:
    holder, _, name = part.rpartition(".")
    return (question[holder] if holder else question)[name]
