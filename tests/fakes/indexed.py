"""An index over a bucket in memory, for tests of what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ext_proc.audit.record import instant
from ext_proc.evidence.index import Index
from ext_proc.evidence.index_file import IndexFile
from ext_proc.evidence.indexing import Indexer
from tests.fakes.recorded import NOON

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.evidence.versions import VersionedStore
    from tests.fakes.recorded import Log


@dataclass
class Clock:
    """Stands until it is moved."""

    now: datetime = NOON + timedelta(hours=1)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Indexed:
    """Builds when it is told to."""

    store: VersionedStore
    folder: Path
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.file = IndexFile(self.folder, self.store.name)
        self.index = Index(self.file)
        self.indexer = Indexer(self.store, self.file, self.clock)

    def round(self) -> bool:
        return self.indexer.round()


def exchange_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def told(log: Log, number: int, at: datetime, *, has_intent: bool = True, **changes: Any) -> str:
    """An exchange as the leaves of a real one have it, without bodies. ``changes``: see the names below."""
    name: str = changes.get("name", exchange_id(number))
    subject = changes.get("subject", f"hmac-sha256:{number:064x}")
    tenant = changes.get("tenant")
    actor = {"subject_ref": subject, "issuer": "https://idp.example", "method": "oidc"}
    entity = changes.get("entity", "EMAIL")
    removed = [{"entity": entity, "action": "mask", "rule": "r", "version": "1", "count": 2}] if entity else []
    common = {
        "exchange_id": name, "payloads": [], "source": None,
        "actor": actor | ({"tenant_ref": tenant} if tenant else {}),
        "request": {
            "connection": changes.get("connection", "models"), "operation": "chat", "protocol": "openai.chat",
            "method": "POST", "path": "/v1/chat/completions", "model": changes.get("model", "gpt-4o"), "is_stream": False,
            "body_bytes": 9, "findings": {},
        },
        "policy": {
            "allow": changes.get("allow", True), "reasons": [], "decision_id": "d", "approval_required": False,
            "bundle_revision": changes.get("revision", "r1"), "bundle_digest": changes.get("digest", "b" * 64),
        },
    }  # fmt: skip
    if "approval" in changes:
        common["approval"] = changes["approval"]
    redaction = {"removed": removed, "spans": [], "spans_unlisted": 0, "blocked": changes.get("blocked", [])}
    time = {"received": instant(at), "decided": instant(at), "recorded": instant(at + timedelta(milliseconds=4))}
    intent = None
    if has_intent:
        fields = {**common, "request_redaction": redaction, "time": time}
        intent = log.add("inference.intent", at, fields)
    if changes.get("outcome", "completed") is not None:
        ended = at + timedelta(seconds=1)
        outcome = {
            "status": changes.get("outcome", "completed"), "http_status": changes.get("http_status", 200),
            "code": changes.get("code"), "detail": None, "released_bytes": 5, "is_inspected": True,
        }  # fmt: skip
        later = {
            **time,
            "forwarded": instant(at + timedelta(milliseconds=5)),
            "answered": instant(at + timedelta(milliseconds=900)),
            "recorded": instant(at + timedelta(milliseconds=905)),
        }
        fields = {**common, "intent_sequence": intent, "outcome": outcome, "time": later if has_intent else time}
        log.add("inference.outcome", ended, fields)
    return name
