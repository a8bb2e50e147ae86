"""Small policies for tests of what tries policies: written into a folder, whole or with one thing wrong."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from tests.fakes.policy import ROOT

if TYPE_CHECKING:
    from pathlib import Path

CHAT: dict[str, Any] = json.loads((ROOT / "opa" / "samples" / "chat.json").read_text())

ORDINARY = """package inference

default decision := {
	"allow": false,
	"reasons": ["not_permitted"],
	"redact": {"request": [], "response": []},
	"approval": null,
	"record": {"payloads": true},
}

decision := {
	"allow": count(deny) == 0,
	"reasons": sort(deny),
	"redact": {"request": [], "response": []},
	"approval": null,
	"record": {"payloads": true},
}

deny contains "wrong_model" if not input.request.model in {"gpt-small", "gpt-large"}

deny contains "outside_office" if {
	not net.cidr_contains("10.0.0.0/8", input.source.address)
}

deny contains "too_many_tokens" if {
	input.request.parameters.max_tokens > 1000
}

deny contains "at_night" if {
	input.time.hour < 6
}

deny contains "secret" if {
	some entity, _ in input.findings
	startswith(entity, "SECRET_")
}
"""
"""As people write them: whatever is undefined does not deny."""

POSITIVE = """package inference

default decision := {
	"allow": false,
	"reasons": ["not_permitted"],
	"redact": {"request": [], "response": []},
	"approval": null,
	"record": {"payloads": true},
}

decision := {
	"allow": true,
	"reasons": [],
	"redact": {"request": [], "response": []},
	"approval": null,
	"record": {"payloads": true},
} if {
	json.match_schema(input, data.question)[0]
	count(input.time.now) >= 20
	"staff" in input.identity.groups
	input.request.model == "gpt-small"
	input.request.operation == "chat"
}
"""
"""It says what is allowed, of a question that is whole."""


def write(folder: Path, source: str, data: dict[str, Any] | None = None) -> Path:
    """A folder with one file of rules, and data."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.rego").write_text(source)
    (folder / "data.json").write_text(json.dumps(data or {}))
    return folder


def question_schema() -> dict[str, Any]:
    """For a policy that holds its questions against it."""
    schema: dict[str, Any] = json.loads((ROOT / "opa" / "schemas" / "question.json").read_text())
    return {name: value for name, value in schema.items() if name != "$id"}


def chat(**changes: Any) -> dict[str, Any]:
    """The sample, with sections joined to its own."""
    made = copy.deepcopy(CHAT)
    for section, fields in changes.items():
        made[section] = {**made[section], **fields} if section != "findings" else fields
    return made
