"""The people's desk over a real register and outbox, with holds of Ada's to answer, and what signs answers."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from standardwebhooks import Webhook as Signer

from ext_proc.app.approval.approvals import Approvals
from ext_proc.app.approval.channels import HookDesk
from ext_proc.app.approval.holds import SHOWN, scope_of
from ext_proc.approval.channels.answers import Sender, SlackAnswers, WebhookAnswers, Workspace
from ext_proc.approval.channels.channel import Undelivered
from ext_proc.approval.channels.incoming import Named
from ext_proc.approval.channels.outbox_sql import SqlOutbox
from ext_proc.approval.register_sql import SqlRegister
from ext_proc.audit import kinds
from ext_proc.audit.keys import KeyRing
from ext_proc.audit.vault import Sealer
from ext_proc.errors import AuditUnavailable
from ext_proc.model import HoldId, Identity, Receipt
from tests.fakes.asked_holds import FACTS, Asked, Clock
from tests.fakes.holds import TERMS, a_hold
from tests.fakes.receivers import OLDER, SECRET
from tests.fakes.registry import FakeRegistry

if TYPE_CHECKING:
    from datetime import datetime

    from ext_proc.approval.hold import Hold
    from ext_proc.model import Entry

ISSUER: Final = "https://idp.example.com"
ADA: Final = Identity(ISSUER, "ada", "oidc", ("analysts", "approvers"))
BOB: Final = {"issuer": ISSUER, "subject": "bob", "tenant": None, "groups": ["approvers"]}
SLACK_SECRET: Final = b"slack-signing-secret-0123"


class Log:
    """Keeps what was recorded, each held to its published schema. ``is_down``: it cannot be written."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.is_down = False

    def record(self, entry: Entry) -> Receipt:
        if self.is_down:
            raise AuditUnavailable("full")
        assert entry.kind in kinds.KINDS and entry.facts["channel"] in kinds.CHANNELS
        self.entries.append(entry)
        return Receipt("demo/gw-command/1", len(self.entries), "00")

    def told(self) -> list[tuple[str, str | None, str | None]]:
        """Kind, who, and code or action."""
        return [
            (one.kind, one.identity and one.identity.subject, one.facts.get("code") or one.facts.get("action"))
            for one in self.entries
        ]


class Voice:
    """`answers.Whisperer`."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str]] = []
        self.is_away = False

    async def whisper(self, channel: str, user: str, text: str) -> None:
        if self.is_away:
            raise Undelivered("no_connection")
        self.said.append((channel, user, text))


class Answering:
    """Everything that a signed answer goes through."""

    def __init__(self, url: str, clock: Any = None, secret: bytes = SECRET) -> None:
        self.clock = clock or Clock()
        self.register, self.outbox = SqlRegister.from_url(url), SqlOutbox.from_url(url)
        self.other = SqlOutbox.from_url(url)
        self.keyring = KeyRing(b"k" * 32, b"p" * 32, FakeRegistry(), lambda: 100.0)
        self.log, self.voice = Log(), Voice()
        self.desk = Approvals(self.keyring, self.register, self.log, self.clock)
        self.asked = Asked(self.register, self.clock)
        self.senders = [
            Sender(
                "ci", lambda: [secret], frozenset({ISSUER}), frozenset({None, "acme"}), frozenset({"approvers", "x"})
            )
        ]
        self.people = {
            "U1": Named(ISSUER, "bob", None, ("approvers",)),
            "U2": Named(ISSUER, "ada", None, ("approvers",)),
        }
        self.webhooks = self.webhooks_at(self.outbox)
        workspace = Workspace("team", lambda: [SLACK_SECRET], lambda: self.people, self.voice)
        self.slack = SlackAnswers([workspace], self.outbox, HookDesk(self.desk), self.clock)

    def close(self) -> None:
        for one in (self.register, self.outbox, self.other):
            one.close()

    def webhooks_at(self, outbox: SqlOutbox) -> WebhookAnswers:
        """Another console's."""
        return WebhookAnswers(self.senders, outbox, HookDesk(self.desk), self.clock)

    def hold(self, text: str = "mail [EMAIL] now", **kept: Any) -> Hold:
        """A hold with ``text``, as the worker seals it, for approvers to read."""
        hold_id = kept.get("hold_id") or HoldId(uuid.uuid4().hex)
        told = {
            "hold_id": hold_id, "what": hold_id, "caller_ref": self.keyring.subject_reference(ADA), "facts": FACTS,
            "terms": replace(TERMS, valid_seconds=900), "sealed": self._sealed(hold_id, text), **kept,
        }  # fmt: skip
        return self.asked.hold(**told)

    def _sealed(self, hold_id: HoldId, text: str) -> bytes:
        scope = scope_of(hold_id, a_hold(hold_id).binding_sha256)
        sealer = Sealer(self.keyring.token_key(self.keyring.subject_reference(ADA)), scope)
        return sealer.seal(SHOWN, json.dumps({"text": text}))

    def state(self, hold: Hold) -> str:
        found = self.register.find(hold.hold_id, self.clock())
        assert found is not None
        return found.state.value

    def said(self, hold: Hold, answer: str = "approve", **changed: Any) -> dict[str, Any]:
        return {"hold_id": hold.hold_id, "answer": answer, "justification": "case 7 of 2026", "person": BOB, **changed}

    def signed(
        self, said: Any, message_id: str = "msg_1", *, secret: bytes = SECRET, at: datetime | None = None
    ) -> tuple[dict[str, str], bytes]:
        """By a third party's library."""
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        when = at or self.clock()
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(when.timestamp())),
            "webhook-signature": Signer(secret).sign(message_id, when, body.decode(errors="replace")),
        }
        return headers, body

    def pressed(
        self, hold: Hold, action: str = "approve", user: str = "U1", *, why: str | None = "case 7 of 2026",
        secret: bytes = SLACK_SECRET, ago: float = 0, **changed: Any,
    ) -> tuple[dict[str, str], bytes]:  # fmt: skip
        """As Slack sends it."""
        payload = {
            "type": "block_actions",
            "user": {"id": user},
            "channel": {"id": "C1"},
            "actions": [{"action_id": action, "value": hold.hold_id}],
            "state": {"values": {"why": {"justification": {"type": "plain_text_input", "value": why}}}},
            **changed,
        }
        body = urlencode({"payload": json.dumps(payload)}).encode()
        stamp = str(int((self.clock() - timedelta(seconds=ago)).timestamp()))
        mac = hmac.new(secret, b"v0:" + stamp.encode() + b":" + body, hashlib.sha256)
        return {"x-slack-request-timestamp": stamp, "x-slack-signature": f"v0={mac.hexdigest()}"}, body


__all__ = ["ADA", "BOB", "ISSUER", "OLDER", "SECRET", "SLACK_SECRET", "Answering", "Log", "Voice"]
