"""One suite for `ports.Content`: the fake that the driver is tested with, and the real one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from ext_proc.app.exchange.content import ContentGate
from ext_proc.errors import BadBody, UpstreamError
from ext_proc.model import Inspection, Redaction, Refusal
from tests.fakes.content import PLAIN, FakeContent
from tests.unit.app.exchange.bodies import CONNECTION, JSON, PATHS

if TYPE_CHECKING:
    from ext_proc.ports import Content

PATH = PATHS["openai.chat"]
BODY = b'{"model":"demo","messages":[{"role":"user","content":"ask ' + PLAIN + b" and again " + PLAIN + b'"}]}'
HARMLESS = b'{"model":"demo","messages":[]}'
LIMIT = 1 << 20
STREAM = (("content-type", b"text/event-stream"),)


@pytest.fixture(params=["fake", "real"])
def content(request: pytest.FixtureRequest) -> Content:
    return FakeContent() if request.param == "fake" else ContentGate(b"k" * 32)


def asked(content: Content, body: bytes = BODY) -> Inspection:
    return content.inspect(CONNECTION, "POST", PATH, JSON, body)


def answered(content: Content, body: bytes = BODY) -> Redaction:
    return content.redact_response(asked(content, HARMLESS), (), 200, JSON, body, LIMIT)


def test_inspection(content: Content) -> None:
    seen = asked(content)
    assert (seen.operation, seen.model, seen.is_stream) == ("chat", "demo", False)
    assert seen.text_bytes > 0
    assert all(isinstance(count, int) and count > 0 for count in seen.findings.values())
    assert all(value is None or isinstance(value, int | float | str | bool) for value in seen.parameters.values())


@pytest.mark.parametrize("side", ["request", "response"])
def test_masked_both_ways(content: Content, side: str) -> None:
    made = content.redact_request(asked(content), ()) if side == "request" else answered(content)
    assert PLAIN not in made.body
    assert made.decoded == BODY
    assert made.blocked == ()
    assert len(json.loads(made.body)["messages"]) == 1


@pytest.mark.parametrize("side", ["request", "response"])
def test_harmless_text_passes_as_it_is(content: Content, side: str) -> None:
    made = content.redact_request(asked(content, HARMLESS), ()) if side == "request" else answered(content, HARMLESS)
    assert (made.body, made.removals, made.blocked) == (HARMLESS, (), ())


def test_same_in_same_out(content: Content) -> None:
    one, other = (content.redact_request(asked(content), ()) for _ in "ab")
    assert (one.body, one.removals, one.coverage) == (other.body, other.removals, other.coverage)


def test_answers_do_not_depend_on_the_order_of_exchanges(content: Content) -> None:
    first, second = asked(content), asked(content, HARMLESS)
    assert content.redact_request(second, ()).body == HARMLESS
    assert PLAIN not in content.redact_request(first, ()).body


def test_from_any_thread(content: Content) -> None:
    with ThreadPoolExecutor(4) as pool:
        bodies = list(pool.map(lambda _: content.redact_request(asked(content), ()).body, range(40)))
    assert len(set(bodies)) == 1
    assert PLAIN not in bodies[0]


@pytest.mark.parametrize("path", [PATH, PATHS["anthropic.messages"], "/nowhere", ""])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_refusal_is_always_json_with_its_code(content: Content, path: str, is_known: bool) -> None:
    kind, body = content.refusal(CONNECTION if is_known else None, path, Refusal(403, "denied", "No.", ("why",)))
    assert kind == "application/json"
    assert "denied" in json.dumps(json.loads(body))


def test_errors_are_of_the_port(content: Content) -> None:
    """The real one raises them for what they say; the fake when told: the same classes, out of the same methods."""
    broken = b"{"
    if isinstance(content, FakeContent):
        content.errors = {"inspect": BadBody("json"), "redact_response": UpstreamError("json")}
    with pytest.raises(BadBody, match="json"):
        asked(content, broken)
    if isinstance(content, FakeContent):
        content.errors.pop("inspect")
    with pytest.raises(UpstreamError, match="json"):
        answered(content, broken)


EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"ask ' + PLAIN + b' "}}]}\n\n'


@pytest.mark.parametrize("size", [5, 1000])
def test_a_stream_is_masked_and_nothing_is_held_back_at_its_end(content: Content, size: int) -> None:
    body = EVENT * 3
    if isinstance(content, FakeContent):
        size = 1000  # it masks what comes at once
    answer = content.open_stream(asked(content, HARMLESS), (), STREAM, LIMIT)
    out = b""
    for at in range(0, len(body), size):
        piece = answer.feed(body[at : at + size], is_last=at + size >= len(body))
        assert (piece.blocked, piece.unreadable) == ((), None)
        out += piece.body
    assert PLAIN not in out
    assert out.count(b"data: ") >= 3
    told = answer.told()
    assert (told.body, told.decoded) == (b"", b"")
    assert b"content_blocked" in answer.farewell("content_blocked", "No.")
