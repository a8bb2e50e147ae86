"""Must show 6: nothing that a caller sends beside the text makes the gate scan, mask or record less (law L6).

One case for each trick by which callers got round a gateway's logging or masking somewhere else, each asked for a whole
answer and for a stream. Either the request is refused, on record and before the model sees it, or everything is as it
is without the trick. All are sent first, so that they share the wait for the bucket.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.e2e.conftest import PLANTED
from tests.e2e.harness import call_http2, parse
from tests.e2e.tricks import NOT_READ, TRICKS, Trick

if TYPE_CHECKING:
    from tests.e2e.conftest import Gateway
    from tests.e2e.harness import Reply
    from tests.e2e.upstream import Received

PATHS: Final = {"whole": "/v1/shape/plain", "stream": "/v1/shape/sse-split"}
ADDRESS: Final = "bob.planted@example.org"
CARD: Final = "4111 1111 1111 1111"
FOUND: Final = {"EMAIL": 1, "PAYMENT_CARD": 1}
ALWAYS: Final = {"accept-encoding", "authorization", "content-length", "content-type", "host", "x-request-id"}
HEAD_END: Final = b"\r\n\r\n"


def said_of(name: str, how: str) -> str:
    """What the request is known by in everything that the upstream got: letters only, so that no rule looks at it."""
    number = list(TRICKS).index(name)
    return f"case {''.join(chr(ord('a') + int(digit)) for digit in str(number))} of {how}"


@dataclass(frozen=True)
class Asked:
    """A request that was sent, and what came of it."""

    body: bytes
    reply: Reply
    marker: bytes


def ask(gateway: Gateway, name: str, how: str) -> Asked:
    trick = TRICKS[name]
    said = f"{said_of(name, how)}: write to {ADDRESS}, card {CARD}"
    content = {"model": "demo", "messages": [{"role": "user", "content": said}]}
    if how == "stream" and "Stream" not in trick.fields:
        content["stream"] = True
    body = trick.body(json.dumps(content | trick.fields).encode())
    if trick.is_http2:
        return Asked(body, _over_http2(gateway, trick, PATHS[how], body), said_of(name, how).encode())
    lines = [f"{trick.method} {PATHS[how]}{trick.suffix} HTTP/1.1", "host: gateway.test", *trick.lines]
    lines.append(f"authorization: Bearer {gateway.analyst}")
    if trick.content_type is not None:
        lines.append(f"content-type: {trick.content_type}")
    if not any(line.startswith("connection:") for line in trick.lines):
        lines.append("connection: close")
    sent = body
    if trick.is_chunked:
        lines += ["transfer-encoding: chunked", "trailer: x-no-log"]
        sent = b"%x\r\n%s\r\n0\r\nx-no-log: 1\r\ncontent-type: text/plain\r\n\r\n" % (len(body), body)
    else:
        lines.append(f"content-length: {len(body)}")
    reply = gateway.raw("\r\n".join(lines).encode() + HEAD_END + sent)
    return Asked(body, reply, said_of(name, how).encode())


def _over_http2(gateway: Gateway, trick: Trick, path: str, body: bytes) -> Reply:
    named = dict(line.split(": ", 1) for line in trick.lines)
    named |= {"authorization": f"Bearer {gateway.analyst}", "content-type": trick.content_type or ""}
    return call_http2(gateway.stack.ports["http"], trick.method, path, named, body)


@dataclass(frozen=True)
class Answers:
    """Everything that was asked, and all that is on record of it by now."""

    asked: dict[tuple[str, str], Asked]
    leaves: dict[str, list[tuple[str, dict[str, Any]]]]

    def records(self, reply: Reply, kind: str) -> list[tuple[str, dict[str, Any]]]:
        exchange = reply.header("x-affidavit-exchange") or ""
        found = [one for one in self.leaves.get(exchange, ()) if one[1]["kind"] == kind]
        return sorted(found, key=lambda one: one[1]["sequence"])


@pytest.fixture(scope="module")
def answers(gateway: Gateway) -> Answers:
    asked = {(name, how): ask(gateway, name, how) for name in TRICKS for how in PATHS}
    wanted = {one.reply.header("x-affidavit-exchange") for one in asked.values()}

    def on_record() -> Any:
        found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for key, leaf in gateway.read():
            found.setdefault(leaf.get("exchange_id", ""), []).append((key, leaf))
        ended = {one for one, leaves in found.items() if any(leaf["kind"] == "inference.outcome" for _, leaf in leaves)}
        return found if wanted - {None} <= ended else None

    return Answers(asked, gateway.wait_for(on_record, "some exchange has no outcome on record", seconds=60))


CASES: Final = [pytest.param(name, how, id=f"{name} ({how})") for name in TRICKS for how in PATHS]


@pytest.mark.parametrize(("name", "how"), CASES)
def test_trick(gateway: Gateway, answers: Answers, name: str, how: str) -> None:
    one, trick = answers.asked[name, how], TRICKS[name]
    assert gateway.upstream is not None
    seen = [request for request in gateway.upstream.received if one.marker in request.body]
    if trick.refused is not None:
        is_refused(answers, one.reply, *trick.refused)
        assert seen == [], "the model saw it"
        return
    assert one.reply.status == 200, one.reply.raw
    is_masked(one.reply, how)
    [request] = seen
    is_clean(request, trick)
    is_on_record(gateway, answers, one, request, how)


def is_refused(answers: Answers, reply: Reply, status: int, code: str) -> None:
    """With what the caller is told, and on record as never sent on."""
    if (status, code) == NOT_READ:
        assert reply.raw == b""
        return
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (status, code)
    [(_, outcome)] = answers.records(reply, "inference.outcome")
    assert (outcome["outcome"]["http_status"], outcome["outcome"]["code"]) == (status, code)
    assert answers.records(reply, "inference.intent") == []


def is_masked(reply: Reply, how: str) -> None:
    """The caller gets the answer without the address in it."""
    if how == "whole":
        said = json.loads(reply.body)["choices"][0]["message"]["content"]
    else:
        events = [line.removeprefix(b"data: ") for line in reply.body.split(b"\n\n") if line.startswith(b"data: {")]
        said = "".join(json.loads(event)["choices"][0]["delta"]["content"] for event in events)
    assert said == "write to [EMAIL] now"
    assert PLANTED.encode() not in reply.raw


def is_clean(request: Received, trick: Trick) -> None:
    """The model gets the text masked, and of the headers nothing but what it must have."""
    text = json.loads(request.body)["messages"][0]["content"]
    assert text.endswith("write to [EMAIL], card [PAYMENT_CARD]")
    assert ADDRESS not in repr(request)
    assert CARD not in repr(request)
    assert {name for name, _ in request.headers} - ALWAYS == trick.passes
    assert request.header("accept-encoding") == "identity"
    assert request.header("content-type") == "application/json"


def is_on_record(gateway: Gateway, answers: Answers, one: Asked, request: Received, how: str) -> None:
    """Both ways, every byte: what was sent, what of it went on, what was answered, what of that was released."""
    [intent] = answers.records(one.reply, "inference.intent")
    assert intent[1]["request"]["findings"] == FOUND
    assert intent[1]["request"]["text_bytes"] >= len(ADDRESS) + len(CARD)
    assert {cut["entity"] for cut in intent[1]["request_redaction"]["removed"]} == set(FOUND)
    bodies = gateway.payloads(intent)
    assert (bodies["request.raw"], bodies["request.forwarded"]) == (one.body, request.body)
    [outcome] = answers.records(one.reply, "inference.outcome")
    redaction = outcome[1]["response_redaction"]
    assert outcome[1]["outcome"]["status"] == "completed"
    assert outcome[1]["outcome"]["released_bytes"] == len(one.reply.body)
    assert redaction["coverage"]["forwarded_bytes"] == len(one.reply.body)
    assert redaction["coverage"]["scanned_bytes"] >= len(PLANTED)
    assert {cut["entity"] for cut in redaction["removed"]} == {"EMAIL"}
    parts = [gateway.payloads(part) for part in [*answers.records(one.reply, "inference.part"), outcome]]
    assert b"".join(part.get("response.released", b"") for part in parts) == one.reply.body
    came = b"".join(part.get("response.upstream", b"") for part in parts).decode()
    if how == "whole":
        assert PLANTED in came
    else:
        events = [json.loads(line[6:]) for line in came.split("\n\n") if line.startswith("data: {")]
        assert PLANTED in "".join(event["choices"][0]["delta"]["content"] for event in events)


def test_every_exchange_has_an_id_of_its_own(answers: Answers) -> None:
    """Whatever the caller says that it is."""
    read = [one for (name, _), one in answers.asked.items() if TRICKS[name].refused != NOT_READ]
    ids = [one.reply.header("x-affidavit-exchange") for one in read]
    assert None not in ids
    assert len(set(ids)) == len(ids)
    said = " ".join(line for trick in TRICKS.values() for line in trick.lines)
    assert not any(one in said for one in ids if one)


# The checks can fail --------------------------------------------------------------------------------------------------


def test_what_reaches_the_model_is_looked_at(gateway: Gateway, answers: Answers) -> None:
    assert gateway.upstream is not None
    marker = answers.asked["none", "whole"].marker
    [request] = [one for one in gateway.upstream.received if marker in one.body]
    is_clean(request, Trick())
    leaks = (
        replace(request, body=request.body.replace(b"[EMAIL]", ADDRESS.encode())),
        replace(request, headers=(*request.headers, ("x-no-log", "1"))),
        replace(request, headers=(*request.headers, ("accept", ADDRESS))),
        replace(request, headers=tuple((name, "gzip" if "-enc" in name else is_) for name, is_ in request.headers)),
    )
    for leak in leaks:
        with pytest.raises(AssertionError):
            is_clean(leak, Trick())


def test_what_reaches_the_caller_is_looked_at(answers: Answers) -> None:
    for how in PATHS:
        raw = answers.asked["none", how].reply.raw
        with pytest.raises(AssertionError):
            is_masked(parse(raw.replace(b"[EMAIL]", b"x@a.com")), how)


def test_records_are_looked_at(gateway: Gateway, answers: Answers) -> None:
    """The records of one exchange do not do for another, and none are none."""
    assert gateway.upstream is not None
    one, other = answers.asked["none", "whole"], answers.asked["stream: true", "whole"]
    [request] = [seen for seen in gateway.upstream.received if one.marker in seen.body]
    is_on_record(gateway, answers, one, request, "whole")
    with pytest.raises(AssertionError):
        is_on_record(gateway, answers, replace(one, reply=other.reply), request, "whole")
    with pytest.raises(ValueError, match="unpack"):
        is_on_record(gateway, Answers(answers.asked, {}), one, request, "whole")
