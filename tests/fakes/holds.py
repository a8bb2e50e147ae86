"""Holds, people and what they say, for tests."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ext_proc.approval.hold import Hold, Person
from ext_proc.approval.register import Holder
from ext_proc.model import ApprovalTerms, ExchangeId, HoldId, Resolution

NOW: Final = datetime(2026, 11, 25, 12, tzinfo=UTC)
WITHIN: Final = timedelta(minutes=10)
VALID: Final = timedelta(minutes=5)
SECOND: Final = timedelta(seconds=1)
TERMS: Final = ApprovalTerms(("approvers",), 1, 300, 600, "restricted_model", ())
TWO: Final = ApprovalTerms(("approvers", "officers"), 2, 300, 600, "restricted_model", ("officers",))
ADA, BOB, EVE, KIM = (f"hmac-sha256:{letter * 64}" for letter in "abcd")
HERE, THERE = Holder("gw/worker-0/1", 10), Holder("gw/worker-1/1", 70)
APPROVERS: Final = ("approvers",)


def exchange(number: int) -> ExchangeId:
    return ExchangeId(f"00000000-0000-4000-8000-{number:012}")


X, Y, Z = (exchange(number) for number in (1, 2, 3))


def a_hold(what: str = "a", hold_id: str | None = None, at: datetime = NOW, **kept: Any) -> Hold:
    """Somebody (Ada) asks for ``what``; the same ``what`` is the same binding."""
    digest = hashlib.sha256(what.encode()).hexdigest()
    told: dict[str, Any] = {
        "hold_id": HoldId(hold_id or hashlib.sha256(f"{what} {at}".encode()).hexdigest()[:32]),
        "binding_sha256": digest,
        "caller_ref": ADA,
        "tenant": None,
        "terms": TERMS,
        "facts": {"model": "demo-restricted", "findings": {"EMAIL": 2}, "reasons": ["a", "b"]},
        "sealed": b"sealed " + what.encode(),
        "sealed_clear": None,
        "asked_at": at,
        "expires_at": at + WITHIN,
    }
    return Hold(**{**told, **kept})


def yes(person: str = BOB, at: datetime = NOW, sequence: int = 7) -> Resolution:
    return Resolution(True, person, at, "gw/console/1", sequence)


def no(person: str = BOB, at: datetime = NOW, sequence: int = 8) -> Resolution:
    return Resolution(False, person, at, "gw/console/1", sequence)


def person(ref: str = BOB, *groups: str, tenant: str | None = None) -> Person:
    return Person(ref, tenant, groups or APPROVERS)
