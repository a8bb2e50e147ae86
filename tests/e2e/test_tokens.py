"""Tokens through real Envoy: the model reads a token, the caller who may gets the value back, the record tells of it."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest
from jsonschema import Draft202012Validator

from ext_proc.audit import kinds
from ext_proc.demo import servers
from ext_proc.demo.programs import tool
from ext_proc.policy import bundle
from tests.e2e.conftest import CHAT, Gateway, running_gateway
from tests.e2e.test_streaming import ended, said, split, sse
from tests.e2e.upstream import Upstream, plain

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.harness import Reply
    from tests.e2e.upstream import Answer, Received

ADDRESS: Final = "ada.lovelace@example.net"
PHONE: Final = "+44 20 7946 0958"
SECRET: Final = "AKIA" + "IOSFODNN7EXAMPLE"
OTHERS: Final = "charles.babbage@example.org"
"""What the model says itself."""
TEXT: Final = f'write to {ADDRESS} or "{PHONE}", key {SECRET}'
TOKEN: Final = re.compile(r"<(EMAIL|PHONE)_[A-Z]{6}>")
POLICY: Final = {
    "request": {"*": "mask", "EMAIL": "tokenise", "PHONE": "tokenise"},
    "response": {"*": "mask"},
    "restore": {"support": ["*"], "mail": ["EMAIL"]},
}


class Echo(Upstream):
    """Says what it was told, as text and in a tool's arguments, and an address of its own."""

    async def _answer(self, request: Received, writer: asyncio.StreamWriter) -> bool:
        asked = json.loads(request.body)
        self.answers = {CHAT: echo(asked["messages"][-1]["content"], is_stream=asked.get("stream", False))}
        return await super()._answer(request, writer)


def echo(told: str, *, is_stream: bool) -> Answer:
    text, arguments = f"You said: {told}. Ask {OTHERS} too.", json.dumps({"said": told, "cc": OTHERS})
    if not is_stream:
        call = {"id": "t1", "type": "function", "function": {"name": "send", "arguments": arguments}}
        message = {"role": "assistant", "content": text, "tool_calls": [call]}
        return (plain(json.dumps({"id": "c1", "choices": [{"index": 0, "message": message}]}).encode()),)
    first = {"index": 0, "id": "t1", "type": "function", "function": {"name": "send", "arguments": ""}}
    calls = [{"index": 0, "function": {"arguments": piece}} for piece in split(arguments, 2)]
    events = [said(content=piece) for piece in split(text, 2)]
    events += [said(tool_calls=[call]) for call in (first, *calls)]
    return sse(*events, ended(0, "tool_calls"), gap=0.0)


def answered(reply: Reply) -> tuple[str, dict[str, Any]]:
    """Text and arguments, as a client of either kind of answer puts them together."""
    assert reply.status == 200, reply
    if reply.header("content-type") == "application/json":
        message = reply.json()["choices"][0]["message"]
        return message["content"], json.loads(message["tool_calls"][0]["function"]["arguments"])
    lines = [line.removeprefix("data: ") for line in reply.body.decode().split("\n\n") if line.startswith("data: {")]
    deltas = [choice["delta"] for line in lines for choice in json.loads(line)["choices"]]
    arguments = "".join(call["function"]["arguments"] for delta in deltas for call in delta.get("tool_calls", ()))
    return "".join(delta.get("content") or "" for delta in deltas), json.loads(arguments)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """With the policy of this module, and two workers that share a registry."""
    with running_gateway(tmp_path_factory.mktemp("tokens"), Echo({})) as made:
        sources = tmp_path_factory.mktemp("policy") / "opa"
        shutil.copytree(servers.POLICY_SOURCES, sources)
        data = json.loads((sources / "data.json").read_text())
        data["inference"]["masking"] = POLICY
        data["inference"]["without_model"] |= {"chat": {"groups": ["analysts"]}}
        # The secret is part of what is shown here: the policy lets it come, masked.
        shutil.rmtree(sources / "inference" / "concerns" / "secrets")
        decision = sources / "inference" / "decision.rego"
        decision.write_text(decision.read_text().replace('"secrets", ', ""))
        (sources / "data.json").write_text(json.dumps(data))
        bundle.build(tool("opa"), sources, made.stack.folder / "bundle.tar.gz")
        made.stack.programs["opa"].stop()
        made.stack.start_opa()
        made.wait_for(lambda: made.chat("hello", token=support(made)).status == 200, "the new policy is not there")
        yield made


def support(gateway: Gateway, subject: str = "ada", *groups: str) -> str:
    return gateway.stack.token(subject, ["analysts", *(groups or ("support",))])


def seen(gateway: Gateway) -> str:
    """What the model was last told."""
    assert gateway.upstream is not None
    return str(json.loads(gateway.upstream.received[-1].body)["messages"][-1]["content"])


@pytest.mark.parametrize("is_stream", [False, True])
def test_the_caller_gets_back_what_the_model_never_saw(gateway: Gateway, is_stream: bool) -> None:
    reply = gateway.chat(TEXT, token=support(gateway), stream=is_stream)
    told = seen(gateway)
    assert [found[1] for found in TOKEN.finditer(told)] == ["EMAIL", "PHONE"]
    assert ADDRESS not in told and PHONE not in told and SECRET not in told and "<SECRET" not in told
    text, arguments = answered(reply)
    masked = told.rpartition("key ")[2]  # a secret is masked both ways, and never comes back
    back = f'write to {ADDRESS} or "{PHONE}", key {masked}'
    assert text == f"You said: {back}. Ask [EMAIL] too."
    assert arguments == {"said": back, "cc": "[EMAIL]"}
    exchange_id = reply.header("x-affidavit-exchange") or ""
    intent, outcome = gateway.records(exchange_id, "inference.intent", "inference.outcome")
    removed = {(one["entity"], one["action"], one["count"]) for one in intent[1]["request_redaction"]["removed"]}
    assert {("EMAIL", "tokenise", 1), ("PHONE", "tokenise", 1)} <= removed
    assert {action for entity, action, _ in removed if entity.startswith("SECRET")} == {"mask"}
    counted = {one["entity"]: one["count"] for one in outcome[1]["response_redaction"]["restored"]}
    assert counted == {"EMAIL": 2, "PHONE": 2}
    assert {one["entity"] for one in outcome[1]["response_redaction"]["removed"]} == {"EMAIL"}
    for leaf in (intent[1], outcome[1]):
        assert not list(Draft202012Validator(kinds.schema_of(leaf["kind"])).iter_errors(leaf))
        assert ADDRESS not in json.dumps(leaf) and not TOKEN.search(json.dumps(leaf))
    assert outcome[1]["outcome"]["released_bytes"] == len(reply.body)
    if not is_stream:
        assert gateway.payloads(outcome)["response.released"] == reply.body
        assert gateway.payloads(intent)["request.forwarded"].decode().count("<EMAIL_") == 1


def test_what_the_decision_does_not_restore_stays_a_token(gateway: Gateway) -> None:
    for is_stream in (False, True):
        text, arguments = answered(gateway.chat(TEXT, token=support(gateway, "eve", "mail"), stream=is_stream))
        assert ADDRESS in text and PHONE not in text and "<PHONE_" in text and "<PHONE_" in arguments["said"]
        text, arguments = answered(gateway.chat(TEXT, token=gateway.analyst, stream=is_stream))
        assert [found[1] for found in TOKEN.finditer(text)] == ["EMAIL", "PHONE"] and ADDRESS not in text
        assert [found[1] for found in TOKEN.finditer(arguments["said"])] == ["EMAIL", "PHONE"]


def test_all_replicas_have_the_same_and_history_goes_on(gateway: Gateway) -> None:
    """Both workers; a turn that repeats a value, and one that holds only what an earlier answer said."""
    tokens = set()
    for _ in range(8):
        gateway.chat(f"write to {ADDRESS}", token=support(gateway))
        tokens.add(seen(gateway))
    [told] = tokens
    for _ in range(4):
        text, _ = answered(gateway.chat(f"again: {told}", token=support(gateway), stream=True))
        assert text.startswith(f"You said: again: write to {ADDRESS}")


def test_nobody_elses_token_resolves_and_no_forged_one(gateway: Gateway) -> None:
    gateway.chat(TEXT, token=support(gateway))
    told = seen(gateway)
    for who, asked in (("bob", told), ("ada", "<EMAIL_BCDFGH> and <PHONE_QWRTZB>")):
        for is_stream in (False, True):
            reply = gateway.chat(f"say {asked}", token=support(gateway, who), stream=is_stream)
            text, arguments = answered(reply)
            assert (text, arguments["said"]) == (f"You said: say {asked}. Ask [EMAIL] too.", f"say {asked}")
            assert "restored" not in gateway.outcome(reply)["response_redaction"]


def registry_file(gateway: Gateway) -> Path:
    [path] = gateway.stack.folder.rglob("registry.sqlite")
    return path


def test_the_registry_holds_no_value_in_clear(gateway: Gateway) -> None:
    gateway.chat(TEXT, token=support(gateway))
    path = registry_file(gateway)
    everything = b"".join(one.read_bytes() for one in path.parent.glob("registry.sqlite*"))
    assert b"EMAIL_" in everything
    assert ADDRESS.encode() not in everything and PHONE.encode() not in everything


def test_without_the_vault_the_call_is_refused_and_on_record(gateway: Gateway) -> None:
    assert gateway.upstream is not None
    path = registry_file(gateway)
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        connection.execute("ALTER TABLE tokens RENAME TO away")
        try:
            before = len(gateway.upstream.received)
            reply = gateway.chat(TEXT, token=support(gateway))
        finally:
            connection.execute("ALTER TABLE away RENAME TO tokens")
    assert reply.status == 503 and reply.header("retry-after")
    assert len(gateway.upstream.received) == before
    outcome = gateway.outcome(reply)["outcome"]
    assert (outcome["status"], outcome["code"], outcome["detail"]) == ("error", "audit_unavailable", "token_vault")
    assert gateway.chat(TEXT, token=support(gateway)).status == 200


def test_after_an_erasure_the_tokens_say_nothing(gateway: Gateway) -> None:
    who = support(gateway, "mallory")
    answered(gateway.chat(TEXT, token=who))
    told = seen(gateway)
    assert ADDRESS in answered(gateway.chat(told, token=who))[0]
    command = [sys.executable, "-m", "ext_proc", "erase", "--subject", "mallory", "--reason", "test", "--by", "test"]
    done = subprocess.run(
        [*command, "--yes", "--config", str(gateway.stack.config)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for is_stream in (False, True):
        text, _ = answered(gateway.chat(told, token=who, stream=is_stream))
        assert ADDRESS not in text and TOKEN.findall(text) == ["EMAIL", "PHONE"]
    assert ADDRESS in answered(gateway.chat(TEXT, token=who))[0]  # with the next key
    assert seen(gateway) != told
