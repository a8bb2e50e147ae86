"""Holds in a register, put there and moved on by hand: what channels are told of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.fakes.holds import HERE, TERMS, WITHIN, a_hold, exchange, no, yes

if TYPE_CHECKING:
    from ext_proc.approval.hold import Hold
    from ext_proc.approval.register import Register
    from ext_proc.model import HoldId

FACTS: dict[str, Any] = {
    "exchange_id": str(exchange(1)),
    "connection": "openai",
    "model": "gpt-5",
    "operation": "chat",
    "findings": {"EMAIL": 2},
}


class Clock:
    def __init__(self, now: datetime | None = None) -> None:
        self.now = now or datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


class Asked:
    """A register in which somebody asks, and others answer."""

    def __init__(self, register: Register, clock: Clock) -> None:
        self.register = register
        self.clock = clock
        self._count = 0

    def hold(self, what: str | None = None, **kept: Any) -> Hold:
        self._count += 1
        now = self.clock()
        told = {"facts": FACTS, "expires_at": now + WITHIN, **kept}
        asked = a_hold(what or f"call {self._count}", at=now, **told)
        return self.register.ask(asked, exchange(self._count), HERE, now)

    def again(self, hold: Hold, number: int) -> Hold:
        """The same call, sent again."""
        return self.register.ask(replace(hold, sealed=b"x"), exchange(number), HERE, self.clock())

    def approve(self, hold_id: HoldId, person: str | None = None) -> None:
        said = yes(at=self.clock()) if person is None else yes(person, self.clock())
        assert self.register.resolve(hold_id, said, b"sealed", self.clock())

    def deny(self, hold_id: HoldId) -> None:
        assert self.register.resolve(hold_id, no(at=self.clock()), b"sealed", self.clock())


__all__ = ["FACTS", "TERMS", "Asked", "Clock"]
