"""Recorded decisions with their questions, made by a real bundle: what re-runs and back-tests read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ext_proc.audit.writer import binding_of
from ext_proc.model import ExchangeId, Identity, Payload
from ext_proc.policy import bundle
from ext_proc.policy.again import Asker
from ext_proc.policy.question import question, write_asked
from tests.fakes.policy import a_call, opa_program
from tests.fakes.recorded import NOON, Recorded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ext_proc.model import Call, PolicyVersion

POLICY = """package inference

decision := {
	"allow": count(reasons) == 0,
	"reasons": sort(reasons),
	"redact": {
		"request": [{"entity": "*", "action": "mask"}],
		"response": [{"entity": "*", "action": "mask"}],
	},
	"approval": approval,
	"record": {"payloads": true},
}

reasons contains "not_permitted" if not "analysts" in input.identity.groups

reasons contains "too_large" if input.request.body_bytes > 1000

default approval := null

approval := {
	"groups": ["approvers"], "count": 1, "valid_seconds": 60, "within_seconds": 60, "reason": "restricted", "clear_to": [],
} if {
	input.request.model == "restricted"
	count(reasons) == 0
}
"""


def write_policy(folder: Path, text: str = POLICY) -> Path:
    """Sources of a policy."""
    (folder / "inference").mkdir(parents=True)
    (folder / "inference" / "decision.rego").write_text(text)
    return folder


def build(folder: Path, text: str = POLICY) -> tuple[Path, PolicyVersion]:
    """Its bundle."""
    file = folder.with_suffix(".tar.gz")
    return file, bundle.build(opa_program(), write_policy(folder, text), file)


@dataclass
class AskedGateway:
    """A gateway whose records have questions, and whose bundles are archived."""

    folder: Path
    recorded: Recorded = field(init=False)

    def __post_init__(self) -> None:
        self.recorded = Recorded.at(self.folder)

    @property
    def store(self) -> Any:
        return self.recorded.store

    def archive(self, file: Path, digest: str | None = None) -> str:
        """Put a bundle into the bucket; ``digest``: under another's name."""
        raw = file.read_bytes()
        named = digest or hashlib.sha256(raw).hexdigest()
        self.store.put(f"v1/policy/{named}.tar.gz", raw)
        return named

    def record(
        self, file: Path, version: PolicyVersion, calls: Sequence[Call], *, sealed: int = 2000, changes: Any = None
    ) -> None:
        """One log with what the bundle says to each call, a second apart. ``changes`` may falsify an answer."""
        log = self.recorded.log()
        texts = [json.dumps(question(call), separators=(",", ":")) for call in calls]
        with Asker(opa_program(), file, "inference.decision") as asker:
            answers = asker.ask_all(texts)
        for number, (call, text, answer) in enumerate(zip(calls, texts, answers, strict=True)):
            kept = changes(number, answer) if changes else answer
            self._add(log, number, call, write_asked(text, kept), answer, version)
            if len(log.waiting) >= sealed:
                log.seal(checkpoint=False)
        if log.waiting:
            log.seal(checkpoint=False)

    def _add(self, log: Any, number: int, call: Call, body: bytes, answer: Any, version: PolicyVersion) -> None:
        keyring = self.recorded.keyring
        told, sealed = keyring.encrypt(
            keyring.subject_reference(call.identity),
            [Payload("policy.question", body, "application/json")],
            binding_of(log.origin, call.exchange_id),
        )
        policy = {
            "allow": answer["allow"], "reasons": answer["reasons"], "decision_id": f"d-{number}",
            "bundle_revision": version.revision, "bundle_digest": version.digest,
            "approval_required": answer["approval"] is not None,
        }  # fmt: skip
        fields = {
            "exchange_id": call.exchange_id, "policy": policy, "payloads": told,
            "request": {"connection": call.connection.name, "model": call.inspection.model},
        }  # fmt: skip
        at = NOON + timedelta(seconds=number % 3600)
        if answer["allow"] and answer["approval"] is None:
            log.add("inference.intent", at, fields, sealed)
        elif answer["allow"]:
            log.add("approval.requested", at, fields, sealed)
        else:
            log.add("inference.outcome", at, {**fields, "intent_sequence": None}, sealed)


def calls(count: int) -> list[Call]:
    """Different calls: one in ten by somebody who may not, one in ten too large, one in ten to a model that is restricted."""
    made = []
    for number in range(count):
        one = a_call(groups=("guests",) if number % 10 == 1 else ("analysts",), findings={"EMAIL": number % 3})
        model = "restricted" if number % 10 == 3 else "demo"
        made.append(
            replace(
                one,
                exchange_id=ExchangeId(f"exchange-{number:06d}"),
                identity=replace(one.identity, subject=f"person-{number % 50}"),
                body_bytes=2000 if number % 10 == 2 else 10,
                inspection=replace(one.inspection, model=model),
            )
        )
    return made


ADA = Identity("https://idp.example.com", "person-0", "oidc", ("analysts",))
