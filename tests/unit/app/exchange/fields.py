"""Field rules through the whole of `ports.Content`: used by the tests of fields, here and among the laws."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ext_proc.model import Action, Direction, RedactionRule
from ext_proc.policy.field_rules import read_rules
from tests.unit.app.exchange.bodies import CHAT, CONNECTION, GATE, JSON, PATHS, SSE, wire

if TYPE_CHECKING:
    from ext_proc.model import Redaction

LIMIT = 8 << 20


def lines(direction: Direction, *rules: dict[str, Any]) -> tuple[RedactionRule, ...]:
    """Lines of a decision."""
    return tuple(RedactionRule("", Action.MASK, rule) for rule in read_rules(rules, direction, "decision"))


def rule(path: str, action: str = "mask", **more: str) -> dict[str, Any]:
    return {"path": path, "action": action, **more}


def asked(
    body: Any, *rules: dict[str, Any], connection: tuple[dict[str, Any], ...] = (), protocol: str = "openai.chat"
) -> Redaction:
    """A request by a decision's rules, and its connection's."""
    own = replace(CONNECTION, request_fields=read_rules(connection, Direction.REQUEST, "connection"))
    inspection = GATE.inspect(own, "POST", PATHS[protocol], JSON, wire(body))
    return GATE.redact_request(inspection, lines(Direction.REQUEST, *rules))


def answered(
    body: Any,
    *rules: dict[str, Any],
    headers: Any = JSON,
    connection: tuple[dict[str, Any], ...] = (),
    protocol: str = "openai.chat",
) -> Redaction:
    """A whole answer by a decision's rules, and its connection's."""
    own = replace(CONNECTION, response_fields=read_rules(connection, Direction.RESPONSE, "connection"))
    inspection = GATE.inspect(own, "POST", PATHS[protocol], JSON, wire(CHAT))
    return GATE.redact_response(inspection, lines(Direction.RESPONSE, *rules), 200, headers, wire(body), LIMIT)


def streamed(
    body: bytes, *rules: dict[str, Any], headers: Any = SSE, protocol: str = "openai.chat", size: int = 1 << 20
) -> tuple[bytes, Any, Redaction]:
    """What passes of a stream that comes ``size`` bytes at a time, its last piece, and what is told of it."""
    inspection = GATE.inspect(CONNECTION, "POST", PATHS[protocol], JSON, wire(CHAT))
    answer = GATE.open_stream(inspection, lines(Direction.RESPONSE, *rules), headers, LIMIT)
    out, piece = b"", None
    for at in range(0, len(body), size):
        piece = answer.feed(body[at : at + size], is_last=at + size >= len(body))
        out += piece.body
        if piece.blocked or piece.unreadable:
            break
    return out, piece, answer.told()
