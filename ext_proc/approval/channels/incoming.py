"""What comes in, read strictly: a webhook's answer, a button of Slack's, the file of Slack's people. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from ext_proc.model import HoldId

APPROVE, DENY, OPEN = "approve", "deny", "open"
"""Answers, and the ids of Slack's buttons; the last says nothing."""
WHY_BLOCK, WHY = "why", "justification"
"""Where Slack has what was typed."""
_HOLD_ID: Final = re.compile(r"[0-9a-f]{32}")
_WORD_MAX: Final = 512
_GROUPS_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Named:
    """Somebody who speaks, as their sender or our own file names them."""

    issuer: str
    subject: str
    tenant: str | None
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody said."""

    hold_id: HoldId
    is_yes: bool
    justification: str

    @property
    def action(self) -> str:
        """As records have it."""
        return APPROVE if self.is_yes else DENY


def read_people(text: str) -> dict[str, Named]:
    """Slack's users, and whom they are: ``{"U0123": {"issuer": …, "subject": …, "tenant": null, "groups": […]}}``.

    Raises:
        ValueError: it says something else.
    """
    told = _strict(text)
    if not isinstance(told, dict):
        raise ValueError("an object is wanted")  # noqa: TRY004 - as the docstring says
    found = {user: _person(one) for user, one in told.items()}
    for user, one in found.items():
        if one is None:
            raise ValueError(f"{user[:64]}: issuer, subject, tenant (or null) and a list of groups are wanted")
    return {user: one for user, one in found.items() if one is not None}


@dataclass(frozen=True, slots=True)
class Pressed:
    """A button, who pressed it and where. ``said``: None if it was one that says nothing.

    ``user`` and ``channel`` are ids of Slack's.
    """

    user: str
    channel: str
    said: Said | None


def read_answer(body: bytes) -> tuple[Said, Named] | None:
    """What a webhook says, exactly; None: something else."""
    try:
        told = _strict(body.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.keys() != {"hold_id", "answer", "justification", "person"}:
        return None
    said, person = _said(told["hold_id"], told["answer"], told["justification"]), _person(told["person"])
    return None if said is None or person is None else (said, person)


def _said(hold_id: Any, answer: Any, justification: Any) -> Said | None:
    is_known = isinstance(hold_id, str) and _HOLD_ID.fullmatch(hold_id) and isinstance(justification, str)
    if not is_known or not isinstance(answer, str) or answer not in {APPROVE, DENY}:
        return None
    return Said(HoldId(hold_id), answer == APPROVE, justification)


def _person(told: Any) -> Named | None:
    if not isinstance(told, dict) or told.keys() != {"issuer", "subject", "tenant", "groups"}:
        return None
    issuer, subject, tenant, groups = told["issuer"], told["subject"], told["tenant"], told["groups"]
    if not _is_word(issuer) or not _is_word(subject) or not (tenant is None or _is_word(tenant)):
        return None
    if not isinstance(groups, list) or len(groups) > _GROUPS_MAX or not all(_is_word(one) for one in groups):
        return None
    return Named(issuer, subject, tenant, tuple(sorted(set(groups))))


def _is_word(value: Any) -> bool:
    """A text that has an UTF-8 form, and no characters that nobody sees."""
    return isinstance(value, str) and 0 < len(value) <= _WORD_MAX and value.isprintable()


def read_pressed(body: bytes) -> Pressed | None:
    """What Slack says of a button that somebody pressed; None: something else."""
    try:
        form = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=10, errors="strict")
        [payload] = [value for name, value in form if name == "payload"]
        told = _strict(payload)
        if told["type"] != "block_actions":
            return None
        [action] = told["actions"]
        user, channel = told["user"]["id"], told["channel"]["id"]
        if not isinstance(user, str) or not isinstance(channel, str):
            return None
        if action["action_id"] not in {APPROVE, DENY}:
            return Pressed(user, channel, None)
        typed = told["state"]["values"][WHY_BLOCK][WHY]["value"]
        said = _said(action["value"], action["action_id"], "" if typed is None else typed)
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return None if said is None else Pressed(user, channel, said)


def _strict(text: str) -> Any:
    """JSON in which no key stands twice: which of the two would have been meant?"""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands twice")
        return found

    return json.loads(text, object_pairs_hook=once)
