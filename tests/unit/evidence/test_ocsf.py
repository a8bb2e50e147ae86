"""`evidence.ocsf`, against OCSF's own schema: every kind of leaf that becomes an event, and what must never be in one."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from ext_proc.evidence import ocsf
from tests.fakes.recorded import NOON, Recorded

REPOSITORY = Path(__file__).resolve().parents[3]
REF = "hmac-sha256:" + "ab" * 32
LEAF: dict[str, Any] = {
    "schema": "affidavit/v1", "origin": "gw.example/gw-0-0/20261125T120000000000-aaaaaaaa", "sequence": 7,
    "at": "2026-11-25T12:00:00.123456Z",
}  # fmt: skip
ACTOR = {
    "subject_ref": REF, "issuer": "https://idp.example", "method": "oidc", "client": REF, "groups_ref": REF,
    "token_ref": None, "tenant_ref": REF,
}  # fmt: skip


@cache
def validator() -> Draft202012Validator:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=ocsf.VERSION))
    return Draft202012Validator(schema.get_class_schema(class_name="api_activity", profiles=list(ocsf.PROFILES)))


def checked(leaf: dict[str, Any]) -> dict[str, Any]:
    event = ocsf.event_of(leaf)
    assert event is not None
    problems = [f"{'/'.join(map(str, one.path))}: {one.message[:200]}" for one in validator().iter_errors(event)]
    assert problems == []
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
    json.dumps(event, allow_nan=False)
    return event


def test_the_schema_finds_what_is_wrong() -> None:
    event = checked({**LEAF, "kind": "config.changed"})
    for broken in (
        {**event, "severity_id": 77},
        {**event, "colour": 1},
        {k: v for k, v in event.items() if k != "api"},
    ):
        assert list(validator().iter_errors(broken))


@pytest.mark.parametrize("kind", sorted(ocsf.KINDS))
def test_each_kind_bare_and_with_an_actor(kind: str) -> None:
    bare = checked({**LEAF, "kind": kind})
    assert bare["metadata"]["event_code"] == kind
    assert bare["metadata"]["uid"] == f"{LEAF['origin']}#7"
    assert bare["time"] == 1795608000123
    full = checked({**LEAF, "kind": kind, "exchange_id": "e1", "actor": ACTOR, "source": {"address_ref": REF}})
    assert full["actor"]["user"]["uid"] == REF
    assert full["metadata"]["correlation_uid"] == "e1"
    assert full["src_endpoint"]["uid"] == REF


def test_kinds_are_kinds() -> None:
    known = {path.stem for path in (REPOSITORY / "docs" / "schemas" / "leaf").glob("*.json")}
    assert set(ocsf.KINDS) <= known
    bookkeeping = known - set(ocsf.KINDS)
    assert bookkeeping == {
        "access.shipped", "digest.made", "epoch.born", "epoch.ended", "heartbeat", "inference.intent", "inference.part",
        "log.close", "log.open", "policy.kept", "policy.shadow_differed", "rollup.made",
    }  # fmt: skip
    assert all(ocsf.event_of({**LEAF, "kind": kind}) is None for kind in bookkeeping)


def _outcome(status: str, **said: Any) -> dict[str, Any]:
    outcome = {
        "status": status,
        "http_status": 200,
        "code": None,
        "detail": None,
        "released_bytes": 9,
        "is_inspected": True,
    }
    return {
        **LEAF, "kind": "inference.outcome", "exchange_id": "e1", "actor": ACTOR, "source": {"address_ref": REF},
        "intent_sequence": 6, "outcome": outcome | said,
        "request": {
            "connection": "models", "method": "POST", "path": "/v1/chat/completions", "protocol": "openai.chat",
            "operation": "chat", "model": "gpt-4o", "body_bytes": 99, "findings": {"EMAIL": 1},
        },
        "policy": {"allow": True, "reasons": [], "bundle_digest": "b" * 64, "bundle_revision": "r1", "decision_id": "d"},
        "model": {"served": "gpt-4o-2024-08-06", "input_tokens": 9, "output_tokens": 3},
        "payloads": [{"role": "request.raw", "wrapped_data_key": "c2VjcmV0"}],
    }  # fmt: skip


def test_an_exchange_that_passed() -> None:
    event = checked(_outcome("completed"))
    assert (event["status_id"], event["disposition_id"], event["action_id"], event["severity_id"]) == (1, 1, 1, 1)
    assert event["message"] == "completed: chat of gpt-4o"
    assert event["api"] == {
        "operation": "chat", "service": {"name": "models"}, "request": {"uid": "e1"}, "response": {"code": 200},
    }  # fmt: skip
    assert event["http_request"] == {
        "http_method": "POST", "url": {"path": "/v1/chat/completions"}, "body_length": 99,
    }  # fmt: skip
    assert event["http_response"] == {"code": 200, "body_length": 9}
    assert event["ai_model"] == {"name": "gpt-4o-2024-08-06", "ai_provider": "models"}
    assert event["message_context"]["total_tokens"] == 12
    assert event["policy"] == {"uid": "b" * 64, "version": "r1", "name": "affidavit"}
    assert event["actor"] == {
        "user": {"uid": REF, "groups": [{"uid": REF}], "org": {"uid": REF}},
        "session": {"issuer": "https://idp.example"}, "app_uid": REF,
    }  # fmt: skip
    assert event["unmapped"]["outcome"]["released_bytes"] == 9
    assert "c2VjcmV0" not in json.dumps(event)  # no payload, nor what opens one


@pytest.mark.parametrize(
    ("status", "ids"),
    [
        ("denied", (2, 2, 3)), ("refused", (2, 2, 2)), ("held", (2, 2, 1)), ("unrecorded", (2, 2, 4)),
        ("error", (2, None, 2)), ("local_reply", (2, None, 2)), ("abandoned", (0, None, 1)), ("interrupted", (0, None, 3)),
    ],
)  # fmt: skip
def test_exchanges_that_did_not(status: str, ids: tuple[int, int | None, int]) -> None:
    event = checked(_outcome(status, code="some_code", http_status=403))
    assert (event["status_id"], event.get("disposition_id"), event["severity_id"]) == ids
    assert event["status_code"] == "some_code"
    assert event["api"]["response"] == {"code": 403, "error": "some_code"}
    assert event["message"].startswith(f"{status} (some_code)")


def test_every_status_of_an_outcome_is_known() -> None:
    told = json.loads((REPOSITORY / "docs" / "schemas" / "leaf" / "inference.outcome.json").read_text())
    assert set(told["properties"]["outcome"]["properties"]["status"]["enum"]) == set(ocsf._OUTCOMES)


def test_canary_that_found_a_hole_is_critical() -> None:
    assert checked({**LEAF, "kind": "worm.canary", "ok": True})["severity_id"] == ocsf.INFORMATIONAL
    found = checked({**LEAF, "kind": "worm.canary", "ok": False, "checks": [{"name": "shorten", "ok": False}]})
    assert (found["severity_id"], found["status_id"]) == (ocsf.CRITICAL, 2)
    assert found["unmapped"]["checks"]


def test_glass_that_was_broken_is_high() -> None:
    event = checked({**_outcome("completed"), "kind": "approval.break_glass"})
    assert (event["severity_id"], event["disposition_id"]) == (ocsf.HIGH, 1)


def test_leaves_as_the_gate_writes_them(tmp_path: Path) -> None:
    log = Recorded.at(tmp_path).log()
    log.exchange("one", NOON)
    log.refused("two", NOON)
    log.tool_call("one", NOON, "call-1")
    events = [event for event in map(ocsf.event_of, map(json.loads, log.leaves)) if event is not None]
    assert [event["metadata"]["event_code"] for event in events] == [
        "inference.outcome", "inference.outcome", "effect.tool_call",
    ]  # fmt: skip
    for leaf in map(json.loads, log.leaves):
        if ocsf.event_of(leaf) is not None:
            checked(leaf)
    assert "example.com" not in json.dumps(events)  # what they wrote, and what the answer says
