"""What the gate's desk and the people's need in tests: a log in memory, and a call that people are asked about."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ext_proc.errors import AuditUnavailable
from ext_proc.model import (
    ApprovalTerms,
    Asking,
    Call,
    Connection,
    Decision,
    Inspection,
    PolicyVersion,
    Receipt,
    Redaction,
    Source,
)

if TYPE_CHECKING:
    from ext_proc.model import Entry, ExchangeId, Identity

NOW: Final = datetime(2026, 11, 25, 12, tzinfo=UTC)
TERMS: Final = ApprovalTerms(("approvers",), 1, 900, 600, "risky")
DECISION: Final = Decision(
    True, (), (), (), TERMS, record_payloads=True, decision_id="d-1", policy=PolicyVersion("r-1", "0" * 64)
)
BODY: Final = b'{"ask":"ada@example.com"}'
MASKED: Final = b'{"ask":"[EMAIL]"}'


@dataclass
class FakeLog:
    """`app.approval.approvals.Journal` that keeps what was recorded. ``is_down``: it cannot be written."""

    entries: list[Entry] = field(default_factory=list)
    is_down: bool = False

    def record(self, entry: Entry) -> Receipt:
        """See `approvals.Journal.record`."""
        if self.is_down:
            raise AuditUnavailable("full")
        self.entries.append(entry)
        return Receipt("demo/gw-command/1", len(self.entries), "00")

    @property
    def kinds(self) -> list[str]:
        """In order."""
        return [entry.kind for entry in self.entries]


def an_asking(exchange_id: ExchangeId, who: Identity, body: bytes = BODY, **terms: Any) -> Asking:
    """A call of somebody's that people are asked about."""
    inspection = Inspection(
        "openai.chat", "chat", "demo", is_stream=False, parameters={}, findings={"EMAIL": 1}, text_bytes=9
    )
    demo = Connection("demo", (), None, 1000, 1000)
    source = Source("10.0.0.1", "test/1")
    call = Call(exchange_id, demo, who, "POST", "/v1/chat", len(body), inspection, source, NOW)
    wanted = replace(TERMS, **terms)
    return Asking(call, replace(DECISION, approval=wanted), wanted, body, Redaction(MASKED, body))
