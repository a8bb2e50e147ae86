"""`ports.TokenDesk` that has one token for every value. ``error``: raised instead; ``wanted``: what it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ext_proc.model import Tokens

if TYPE_CHECKING:
    from datetime import datetime

    from ext_proc.model import Call, Decision, Wanted


class FakeTokenDesk:
    """See the module."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.wanted: list[Wanted] = []

    async def open(self, call: Call, decision: Decision, wanted: Wanted, now: datetime) -> Tokens:
        """See `ports.TokenDesk.open`."""
        del call, decision, now
        self.wanted.append(wanted)
        if self.error is not None:
            raise self.error
        return Tokens({one: f"{one[0]}_QWRTZB" for one in wanted.values}, {})
