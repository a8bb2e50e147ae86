"""A small recorded gateway for readers: exchanges with real ciphertexts, leaves, packs, checkpoints, birth records."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import zstandard

from ext_proc.audit import merkle, note, receipt
from ext_proc.audit.keys import KeyRing, create_key_files
from ext_proc.audit.record import build_leaf, instant
from ext_proc.audit.writer import binding_of
from ext_proc.model import Identity, Payload, Receipt
from tests.fakes.signer import FakeSigner
from tests.fakes.versions import FakeVersions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GATEWAY = "demo.example/affidavit"
NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
ADA = Identity("https://idp.example", "ada", "oidc")
GRACE = Identity("https://idp.example", "grace", "oidc")
QUESTION = {
    "model": "gpt-4o",
    "temperature": 0.7,
    "messages": [{"role": "user", "content": "Write to ada@example.com, please"}],
}
MASKED = {**QUESTION, "messages": [{"role": "user", "content": "Write to [EMAIL], please"}]}
ANSWER = {
    "id": "a1",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Done.\nBye"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3},
}
SPAN = {"channel": "/messages/0/content", "start": 9, "end": 24, "entity": "EMAIL", "action": "mask"}
REMOVED = [{"entity": "EMAIL", "action": "mask", "rule": "email", "version": "1", "count": 1}]


def as_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class FakeJournal:
    """`audit.erasure.Journal`: remembers; ``failure`` is raised instead."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, Mapping[str, Any]]] = []
        self.failure: Exception | None = None

    def note(self, kind: str, fields: Mapping[str, Any]) -> Receipt:
        if self.failure is not None:
            raise self.failure
        self.notes.append((kind, fields))
        return Receipt("command", len(self.notes), "")


class LogJournal:
    """`audit.erasure.Journal` whose leaves are in the bucket at once."""

    def __init__(self, recorded: Recorded) -> None:
        self._log = recorded.log("gw-0-command", NOON)

    def note(self, kind: str, fields: Mapping[str, Any]) -> Receipt:
        sequence = self._log.add(kind, NOON, dict(fields))
        self._log.seal()
        return Receipt(self._log.origin, sequence, "")


@dataclass
class Recorded:
    """One gateway. Everything it writes goes to ``store``."""

    keyring: KeyRing
    store: FakeVersions = field(default_factory=FakeVersions)
    signer: FakeSigner = field(default_factory=FakeSigner)

    @classmethod
    def at(cls, folder: Path) -> Recorded:
        names = create_key_files(folder, "kek", "pepper")
        return cls(KeyRing.from_files(*names, folder / "registry.sqlite"))

    def log(self, replica: str = "gw-0-0", at: datetime = NOON, salt: str = "aaaaaaaa") -> Log:
        return Log(self, replica, f"{at:%Y%m%dT%H%M%S%f}-{salt}", at)


@dataclass
class Log:
    """One epoch. Leaves wait until `seal` makes an object of them."""

    of: Recorded
    replica: str
    epoch: str
    born: datetime
    leaves: list[bytes] = field(default_factory=list)
    waiting: list[tuple[datetime, bytes, list[bytes]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        told = {
            "schema": "affidavit/roster/v1", "origin": self.origin, "at": instant(self.born), "role": "worker",
            "log_key": note.base64.b64encode(self.of.signer.public_key).decode(), "receipt_key": None,
            "config_sha256": "0" * 64,
        }  # fmt: skip
        body = note.sign_json(told, self.origin, self.of.signer)
        self.of.store.put(f"v1/roster/dt={self.born:%Y-%m-%d}/{self.replica}.{self.epoch}.note", body)
        self.add("log.open", self.born, {"previous": None})

    @property
    def origin(self) -> str:
        return f"{GATEWAY}/{self.replica}/{self.epoch}"

    def add(self, kind: str, at: datetime, fields: dict[str, Any], ciphertexts: list[bytes] | None = None) -> int:
        leaf = build_leaf(kind, origin=self.origin, sequence=len(self.leaves), at=at, fields=fields)
        self.leaves.append(leaf)
        self.waiting.append((at, leaf, ciphertexts or []))
        return len(self.leaves) - 1

    def tool_call(self, name: str, at: datetime, call_id: str, tool: str = "send_mail") -> None:
        """An answer of the exchange asks for a tool."""
        told = {
            "number": 0, "name": tool, "channel": "/choices/0/message/tool_calls/0/function/arguments",
            "arguments_ref": self.of.keyring.reference("arguments", "a" * 64), "call_ref": self.of.keyring.reference("tool-call", call_id),
        }  # fmt: skip
        self.add("effect.tool_call", at, {"exchange_id": name, "intent_sequence": None, "tool_call": told})

    def exchange(self, name: str, at: datetime, who: Identity = ADA, *, outcome: bool = True, **changes: Any) -> None:
        intent, said = self.intent_fields(name, who, **changes)
        sequence = self.add("inference.intent", at, intent, said)
        if outcome:
            self.outcome(name, at + timedelta(seconds=1), sequence, who, **changes)

    def intent_fields(self, name: str, who: Identity = ADA, **changes: Any) -> tuple[dict[str, Any], list[bytes]]:
        payloads = [
            Payload("request.raw", changes.get("raw", as_json(QUESTION)), "application/json"),
            Payload("request.forwarded", changes.get("forwarded", as_json(MASKED)), "application/json"),
        ]
        subject = self.of.keyring.subject_reference(who)
        told, sealed = self.of.keyring.encrypt(subject, payloads, binding_of(self.origin, name))
        fields = {
            "exchange_id": name,
            "actor": self._actor(who),
            "request": {
                "connection": changes.get("connection", "models"), "method": "POST", "path": "/v1/chat/completions",
                "protocol": "openai.chat", "operation": "chat", "model": changes.get("model", "gpt-4o"),
                "is_stream": False, "body_bytes": 99, "text_bytes": 20, "parameters": {}, "findings": {"EMAIL": 1},
            },
            "policy": {
                "allow": True, "reasons": [], "decision_id": "d", "bundle_revision": "r1", "bundle_digest": "b" * 64,
                "approval_required": False,
            },
            "request_redaction": {"removed": REMOVED, "spans": [SPAN], "spans_unlisted": 0, "blocked": []},
            "payloads": told,
        }  # fmt: skip
        if "results" in changes:
            fields["tool_results"] = [self.of.keyring.reference("tool-call", one) for one in changes["results"]]
        return fields, sealed

    def _actor(self, who: Identity) -> dict[str, Any]:
        keyring = self.of.keyring
        told = {"subject_ref": keyring.subject_reference(who), "issuer": who.issuer, "method": who.method}
        return told | ({"tenant_ref": keyring.reference("tenant", who.tenant)} if who.tenant else {})

    def outcome(self, name: str, at: datetime, intent: int | None, who: Identity = ADA, **changes: Any) -> None:
        kind = changes.get("answer_type", "application/json")
        body = changes.get("answer", as_json(ANSWER))
        payloads = [Payload("response.upstream", body, kind), Payload("response.released", body, kind)]
        subject = self.of.keyring.subject_reference(who)
        told, sealed = self.of.keyring.encrypt(subject, payloads, binding_of(self.origin, name))
        fields = {
            "exchange_id": name,
            "intent_sequence": intent,
            "actor": self._actor(who),
            "outcome": {
                "status": changes.get("status", "completed"), "http_status": 200, "code": None, "detail": None,
                "released_bytes": changes.get("released", len(body)), "is_inspected": True,
            },
            "upstream": {"status": 200},
            "model": {
                "requested": "gpt-4o", "served": "gpt-4o-2024-08-06", "fingerprint": None, "input_tokens": 9,
                "output_tokens": 3, "finish_reasons": ["stop"], "tool_calls": [],
            },
            "payloads": told,
        }  # fmt: skip
        self.add("inference.outcome", at, fields, sealed)

    def refused(self, name: str, at: datetime, code: str = "policy_denied") -> None:
        """Never let on: an outcome without intent."""
        fields = {
            "exchange_id": name, "intent_sequence": None, "actor": None, "payloads": [],
            "request": {"connection": "models", "model": "gpt-4o", "findings": {}},
            "policy": {"allow": False, "reasons": ["not_in_group"]},
            "outcome": {"status": "refused", "http_status": 403, "code": code, "released_bytes": 0},
        }  # fmt: skip
        self.add("inference.outcome", at, fields)

    def seal(self, *, checkpoint: bool = True) -> str:
        """Make objects of what waits; returns the key of the events object."""
        at = self.waiting[0][0]
        first, last = len(self.leaves) - len(self.waiting), len(self.leaves) - 1
        place = f"dt={at:%Y-%m-%d}/hour={at:%H}/replica={self.replica}/epoch={self.epoch}/{first:016d}-{last:016d}"
        sealed = [one for _, _, ciphertexts in self.waiting for one in ciphertexts]
        if sealed:
            entries = [struct.pack(">32sQ", hashlib.sha256(one).digest(), len(one)) + one for one in sealed]
            self._put(f"v1/payload/{place}", b"AFP1" + b"".join(entries), "pack")
        lines = b"".join(leaf + b"\n" for _, leaf, _ in self.waiting)
        key = self._put(f"v1/events/{place}", zstandard.ZstdCompressor().compress(lines), "jsonl.zst")
        self.waiting = []
        if checkpoint:
            self.checkpoint()
        return key

    def checkpoint(self, *cosigners: FakeSigner) -> str:
        root = merkle.root_of([merkle.hash_leaf(one) for one in self.leaves])
        text = note.checkpoint_text(self.origin, len(self.leaves), root)
        body = note.sign(text, self.origin, self.of.signer)
        kind = "checkpoint"
        for one in cosigners:
            kind = "cosigned"
            body += note.sign(text, "witness", one).rpartition("\n\n")[2]
        return self._put(f"v1/log/{self.replica}/{self.epoch}/{kind}/{len(self.leaves):016d}", body.encode(), "note")

    def receipt(self, sequence: int) -> str:
        digest = merkle.hash_leaf(self.leaves[sequence]).hex()
        return receipt.issue(self.origin, sequence, digest, FakeSigner("receipts"))

    def _put(self, name: str, body: bytes, suffix: str) -> str:
        key = f"{name}-{hashlib.sha256(body).hexdigest()[:16]}.{suffix}"
        self.of.store.put(key, body)
        return key
