"""Tokens on the wire between gate and Envoy: nothing goes on before they are kept, and nothing without them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.errors import AuditUnavailable
from ext_proc.model import Action, RedactionRule
from tests.fakes import envoy
from tests.fakes.gate import running_gate

if TYPE_CHECKING:
    from tests.fakes.gate import FakeGate

BODY = b'{"a":"ada@example.com"}'


def tokenise(gate: FakeGate) -> None:
    rules = (RedactionRule("EMAIL", Action.TOKENISE),)
    gate.policy.answer = lambda decision: replace(decision, redact_request=rules)


async def asked(gate: FakeGate) -> Any:
    exchange = gate.begin()
    await exchange.ask(envoy.request_headers())
    return await exchange.ask(envoy.request_body(BODY))


@pytest.mark.parametrize("is_large", [False, True])
async def test_the_model_reads_a_token(is_large: bool) -> None:
    async with running_gate() as gate:
        tokenise(gate)
        gate.content.text_bytes = 1 << 20 if is_large else None  # then it is looked for in a thread
        answer = await asked(gate)
        assert answer.request_body.response.body_mutation.body == b'{"a":"<EMAIL_QWRTZB>"}'
        assert [one.values for one in gate.tokens.wanted] == [(("EMAIL", "ada@example.com"),)]


async def test_the_desk_is_not_asked_where_nothing_is_tokenised() -> None:
    async with running_gate() as gate:
        answer = await asked(gate)
        assert answer.request_body.response.body_mutation.body == b'{"a":"<email>"}'
        assert gate.tokens.wanted == []


@pytest.mark.parametrize("error", [AuditUnavailable("token_vault"), RuntimeError("a bug")])
async def test_without_its_answer_the_call_is_refused_and_on_record(error: Exception) -> None:
    async with running_gate() as gate:
        tokenise(gate)
        gate.tokens.error = error
        answer = await asked(gate)
        status = 503 if isinstance(error, AuditUnavailable) else 500
        assert answer.immediate_response.status.code == status
        await gate.recorder.until(1)
        assert gate.recorder.kinds() == ["outcome"] and gate.recorder.statuses() == ["error"]
        assert gate.recorder.entries[0].facts["outcome"]["http_status"] == status
