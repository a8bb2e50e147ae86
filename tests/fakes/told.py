"""What a channel tells, for tests, with the worst that others can have written into it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ext_proc.approval.channels.message import Event, Message, Told
from ext_proc.model import HoldId, HoldState

AT: Final = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOLD: Final = HoldId("3f6f9f8c8f0b4b1e9a560c8f4e6b7a10")
NASTY: Final = '<!channel> <script>alert(1)</script> *b* <https://evil.example|click> "x" & y'


def told(number: int = 1, state: HoldState = HoldState.PENDING, **changed: Any) -> Told:
    values: dict[str, Any] = {
        "hold_id": HOLD,
        "number": number,
        "state": state,
        "connection": "openai",
        "model": NASTY,
        "operation": "chat",
        "findings": {"EMAIL": 2, "IBAN": 1},
        "reason": "Two people for this model.",
        "groups": ("approvers", "officers"),
        "needed": 2,
        "given": 1,
        "asked_at": AT,
        "expires_at": AT + timedelta(minutes=10),
        "url": f"https://desk.example.com/holds/{HOLD}",
    }
    return Told(**{**values, **changed})


def message(event: Event = Event.PENDING, count: int = 1, reference: str | None = None, **changed: Any) -> Message:
    if event is Event.TEST:
        return Message("msg_test", event, AT)
    if event is Event.RESOLVED:
        changed.setdefault("state", HoldState.APPROVED)
    holds = tuple(told(hold_id=HoldId(f"{number:032x}") if count > 1 else HOLD, **changed) for number in range(count))
    return Message("msg_desk_1", event, AT, holds, reference)
