"""Everything that must not pass: what the caller gets, what is on record, and that nothing reached the upstream."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import socket
import threading
import urllib.request
from typing import TYPE_CHECKING, Any, Self

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from ext_proc.app.process import clock
from ext_proc.demo.issuer import Issuer
from tests.e2e.conftest import CHAT
from tests.e2e.harness import parse
from tests.e2e.upstream import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.conftest import Gateway
    from tests.e2e.harness import Reply


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _claims(gateway: Gateway) -> dict[str, Any]:
    now = int(clock().timestamp())
    whole = {"iss": gateway.stack.issuer, "aud": "affidavit", "sub": "eve", "groups": ["analysts"], "iat": now}
    return {**whole, "nbf": now, "exp": now + 600}


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    with Trap() as set_up:
        yield set_up


class Trap:
    """An address that a caller names. It would serve keys that verify; nobody may even connect to it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/jwks.json"
        self.issuer = Issuer(self.url.removesuffix("/jwks.json"))
        self.connected = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._count, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _count(self) -> None:
        body = json.dumps(self.issuer.key_set()).encode()
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            self.connected += 1
            with contextlib.suppress(OSError), caller:
                caller.recv(65536)
                caller.sendall(plain(body))


def _signed(trap: Trap, claims: dict[str, Any], **header: Any) -> str:
    """Well signed, with a key that only the trap would serve."""
    _, key = trap.issuer.private["rsa-1"]
    return jwt.encode(claims, key, "RS256", headers={"kid": "rsa-1", **header})


def _hs256(gateway: Gateway, encoding: serialization.Encoding) -> str:
    """The classic confusion: the issuer's RSA public key, which everybody has, taken as an HMAC secret."""
    with urllib.request.urlopen(f"{gateway.stack.issuer}/jwks.json", timeout=5) as answer:
        [rsa] = [key for key in json.load(answer)["keys"] if key["kty"] == "RSA"]
    public = jwt.PyJWK(rsa).key.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': rsa['kid']})}.{_part(_claims(gateway))}"
    mac = base64.urlsafe_b64encode(hmac.new(public, signed.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
    return f"{signed}.{mac}"


def _minted(gateway: Gateway, **claims: Any) -> str:
    """Well signed by the issuer itself, and wrong in one claim."""
    return gateway.stack.token("eve", ["analysts"], claims=json.dumps(claims))


def _with_signature_of(token: str, other: str) -> str:
    return f"{token.rpartition('.')[0]}.{other.rpartition('.')[2]}"


NOW = int(clock().timestamp())
HOUR = 3600
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
# Each with the check that must be the one to find it: refused for another reason, the attack was not tried.
ATTACKS: dict[str, tuple[str, Callable[[Gateway, Trap], str]]] = {
    "alg none": ("malformed", lambda g, _: f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(_claims(g))}."),
    "alg none, signed": ("algorithm", lambda g, _: f"{_part({'alg': 'none'})}.{_part(_claims(g))}.AAAA"),
    "alg None": ("algorithm", lambda g, _: f"{_part({'alg': 'None'})}.{_part(_claims(g))}.AAAA"),
    "no alg": ("algorithm", lambda g, _: f"{_part({'kid': 'rsa-1'})}.{_part(_claims(g))}.AAAA"),
    "HS256 with the public key (PEM)": ("algorithm", lambda g, _: _hs256(g, PEM)),
    "HS256 with the public key (DER)": ("algorithm", lambda g, _: _hs256(g, DER)),
    "another's key": ("signature", lambda g, t: _signed(t, _claims(g))),
    "another's signature": ("signature", lambda g, _: _with_signature_of(_minted(g, sub="root"), g.analyst)),
    "key of another kind": ("key_unfit", lambda g, t: _signed(t, _claims(g), kid="ec-1")),
    "wrong iss": ("issuer", lambda g, _: _minted(g, iss="https://evil.example")),
    "wrong iss by a slash": ("issuer", lambda g, _: _minted(g, iss=f"{g.stack.issuer}/")),
    "iss of the caller's own": ("issuer", lambda g, t: _signed(t, {**_claims(g), "iss": t.issuer.url})),
    "no iss": ("malformed", lambda g, _: _minted(g, iss=None)),
    "wrong aud": ("audience", lambda g, _: _minted(g, aud="another")),
    "no aud": ("claim_missing", lambda g, _: _minted(g, aud=None)),
    "expired": ("expired", lambda g, _: _minted(g, exp=NOW - HOUR, iat=NOW - 2 * HOUR, nbf=NOW - 2 * HOUR)),
    "no exp": ("claim_missing", lambda g, _: _minted(g, exp=None)),
    "not yet valid": ("not_yet_valid", lambda g, _: _minted(g, nbf=NOW + HOUR, exp=NOW + 2 * HOUR)),
    "from the future": ("issued_at", lambda g, _: _minted(g, iat=NOW + HOUR, exp=NOW + 2 * HOUR)),
    "no sub": ("claim_missing", lambda g, _: _minted(g, sub=None)),
    "unknown kid": ("unknown_key", lambda g, t: _signed(t, _claims(g), kid="nobody-has-this")),
    "kid is an address": ("unknown_key", lambda g, t: _signed(t, _claims(g), kid=t.url)),
    "jku": ("brings_a_key", lambda g, t: _signed(t, _claims(g), jku=t.url)),
    "x5u": ("brings_a_key", lambda g, t: _signed(t, _claims(g), x5u=t.url)),
    "jwk": ("brings_a_key", lambda g, t: _signed(t, _claims(g), jwk=t.issuer.key_set()["keys"][0])),
    "x5c": ("brings_a_key", lambda g, t: _signed(t, _claims(g), x5c=["AAAA"])),
    "crit": ("brings_a_key", lambda g, t: _signed(t, _claims(g), crit=["exp"])),
    "1 MB": ("too_large", lambda *_: "A" * (1024 * 1024)),
    "1 MB, well formed": ("too_large", lambda g, _: f"{g.analyst.partition('.')[0]}.{'A' * 1024 * 1024}.AAAA"),
    "not a token": ("malformed", lambda *_: "hello"),
}


def _is_refused(gateway: Gateway, reply: Reply, status: int, code: str) -> dict[str, Any]:
    """What the caller got, and what is on record: its outcome."""
    assert reply.status == status, reply.body
    error = json.loads(reply.body)["error"]
    assert error["code"] == code
    assert error["message"]
    leaf = gateway.outcome(reply)
    assert leaf["outcome"]["http_status"] == status
    assert leaf["outcome"]["code"] == code
    assert leaf["intent_sequence"] is None
    outcome: dict[str, Any] = leaf["outcome"]
    return outcome


def _received(gateway: Gateway) -> int:
    assert gateway.upstream is not None
    return len(gateway.upstream.received)


def test_bad_tokens(gateway: Gateway, trap: Trap) -> None:
    """Must show 5. All at once, so that they share the wait for the bucket: each 401, recorded, and nothing fetched."""
    before = _received(gateway)
    tokens = {name: make(gateway, trap) for name, (_, make) in ATTACKS.items()}
    replies = {name: gateway.chat(token=token) for name, token in tokens.items()}
    reasons = {name: _is_refused(gateway, reply, 401, "invalid_token")["detail"] for name, reply in replies.items()}
    assert reasons == {name: reason for name, (reason, _) in ATTACKS.items()}
    assert _received(gateway) == before
    assert trap.connected == 0
    said = gateway.stack.logs.joinpath("gate.log").read_text() + json.dumps(gateway.leaves())
    assert [name for name, token in tokens.items() if len(token) > 100 and token[:100] in said] == []


def test_the_trap_would_be_noticed(trap: Trap) -> None:
    """The check above can fail."""
    before = trap.connected
    urllib.request.urlopen(trap.url, timeout=5).close()
    assert trap.connected == before + 1
    trap.connected = before


def test_well_signed_tokens_pass(gateway: Gateway) -> None:
    """What the attacks differ from: the same tokens without their one fault."""
    for token in (
        _minted(gateway),
        gateway.stack.token("eve", ["analysts"], key="ec-1"),
        _minted(gateway, aud=["a", "affidavit"]),
    ):
        assert gateway.chat(token=token).status == 200


def _raw(gateway: Gateway, fields: str, body: bytes = b"{}") -> Reply:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nconnection: close\r\n{fields}"
    return gateway.raw(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


def test_no_token(gateway: Gateway) -> None:
    _is_refused(gateway, gateway.send("POST", CHAT, b"{}"), 401, "invalid_token")


@pytest.mark.parametrize("scheme", ["Basic YTpi", "Bearer  two", "Bearer a,b", "bearer", "Token x"])
def test_other_schemes(gateway: Gateway, scheme: str) -> None:
    _is_refused(gateway, _raw(gateway, f"authorization: {scheme}\r\n"), 401, "invalid_token")


def test_repeated_authorization(gateway: Gateway) -> None:
    twice = f"authorization: Bearer {gateway.analyst}\r\n" * 2
    _is_refused(gateway, _raw(gateway, twice), 401, "invalid_token")


def test_joined_authorization(gateway: Gateway) -> None:
    joined = f"authorization: Bearer {gateway.analyst},Bearer {gateway.analyst}\r\n"
    _is_refused(gateway, _raw(gateway, joined), 401, "invalid_token")


def test_token_and_key_at_once(gateway: Gateway) -> None:
    both = f"authorization: Bearer {gateway.analyst}\r\nx-api-key: {gateway.analyst}\r\n"
    _is_refused(gateway, _raw(gateway, both), 401, "invalid_token")


def test_key_header_alone_is_fine(gateway: Gateway) -> None:
    body = b'{"model":"demo","messages":[]}'
    assert _raw(gateway, f"x-api-key: {gateway.analyst}\r\n", body).status == 200


def test_unknown_model_is_denied_with_reasons(gateway: Gateway) -> None:
    reply = gateway.chat(model="gpt-9")
    _is_refused(gateway, reply, 403, "denied")
    assert json.loads(reply.body)["error"]["reasons"] == ["not_permitted"]


def test_secret_is_denied(gateway: Gateway) -> None:
    reply = gateway.chat("ghp_" + "b3" * 18)
    _is_refused(gateway, reply, 403, "denied")
    assert gateway.outcome(reply)["policy"]["reasons"] == ["secret_in_prompt"]


def test_restricted_model_needs_a_person(gateway: Gateway) -> None:
    """It is held: here its caller does not wait (`test_holds.py` tells the rest)."""
    body = json.dumps({"model": "demo-restricted", "messages": [{"role": "user", "content": "hello"}]}).encode()
    reply = gateway.send("POST", CHAT, body, gateway.analyst, prefer="respond-async")
    outcome = _is_refused(gateway, reply, 202, "approval_pending")
    assert outcome["status"] == "held"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 415, "unsupported_content"),
        (b"not json", 400, "unreadable_body"),
        (b"[]", 400, "unreadable_body"),
        (b'{"model":"demo","model":"other"}', 400, "unreadable_body"),
        (b'{"model":"demo"} trailing', 400, "unreadable_body"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, 400, "unreadable_body"),
        (b'{"model":"\\ud800"}', 400, "unreadable_body"),
        (b'{"model":"a@b.example"}', 400, "unreadable_body"),
        (b"\xff\xfe", 400, "unreadable_body"),
    ],
)
def test_bad_bodies(gateway: Gateway, body: bytes, status: int, code: str) -> None:
    _is_refused(gateway, gateway.send("POST", CHAT, body, gateway.analyst), status, code)


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "text/plain"},
        {"content_type": "application/json; charset=utf-16"},
        {"content_type": "multipart/form-data; boundary=x"},
        {"content_encoding": "gzip"},
    ],
)
def test_content_that_cannot_be_inspected(gateway: Gateway, headers: dict[str, str]) -> None:
    body = b'{"model":"demo","messages":[]}'
    _is_refused(gateway, gateway.send("POST", CHAT, body, gateway.analyst, **headers), 415, "unsupported_content")


@pytest.mark.parametrize(
    "query", ["note=bob%40example.org", "note=Patient%20John%20Smith", "beta=true&beta=true", "beta=1"]
)
def test_query_that_is_not_known(gateway: Gateway, query: str) -> None:
    before = _received(gateway)
    outcome = _is_refused(gateway, gateway.chat(path=f"{CHAT}?{query}"), 415, "unsupported_content")
    assert (outcome["detail"], _received(gateway)) == ("query", before)


@pytest.mark.parametrize("name", ["openai-beta", "anthropic-beta", "anthropic-version"])
def test_free_text_in_a_header_that_changes_the_meaning(gateway: Gateway, name: str) -> None:
    before = _received(gateway)
    credential = f"authorization: Bearer {gateway.analyst}\r\n"
    for said in (f"{name}: mail bob at home\r\n", f"{name}: 2023-06-01\r\n" * 2):
        _is_refused(
            gateway, _raw(gateway, f"{credential}{said}", b'{"model":"demo","messages":[]}'), 400, "bad_headers"
        )
    assert _received(gateway) == before


def test_personal_data_as_a_label(gateway: Gateway) -> None:
    """A form is not enough: what has the form is scanned."""
    body = b'{"model":"demo","messages":[]}'
    reply = gateway.send("POST", CHAT, body, gateway.analyst, openai_beta="078-05-1120")
    _is_refused(gateway, reply, 415, "unsupported_content")


def test_target_that_only_fills_something(gateway: Gateway) -> None:
    """1.5 MB of path: refused, recorded without it, and not in Envoy's log either."""
    reply = gateway.chat(path=f"{CHAT}?note=Smith-{'a' * 1_500_000}")
    assert _is_refused(gateway, reply, 400, "bad_headers")["detail"] == "target"
    log = gateway.stack.access_log

    def lines() -> list[str]:
        exchange = reply.header("x-affidavit-exchange") or "none"
        return [line for line in log.read_text().splitlines() if exchange in line]

    found = gateway.wait_for(lambda: (now := lines()) and len(now) == 2 and now, "no line in Envoy's log")
    assert max(map(len, found)) < 2000
    assert "Smith" not in log.read_text()


def test_log_of_envoy_knows_the_operation(gateway: Gateway) -> None:
    reply = gateway.chat(path=f"{CHAT}?beta=true")
    exchange = reply.header("x-affidavit-exchange") or "none"

    def ended() -> Any:
        lines = (json.loads(line) for line in gateway.stack.access_log.read_text().splitlines())
        return [one for one in lines if one["request_id"] == exchange and one["type"] == "DownstreamEnd"]

    [line] = gateway.wait_for(ended, "no line in Envoy's log")
    assert (line["method"], line["path"]) == ("POST", CHAT)


@pytest.mark.parametrize("first", ["101 Switching Protocols", "600 Odd", "999 Odd"])
def test_status_that_is_none_for_this_request(gateway: Gateway, first: str) -> None:
    """Whoever finds it, Envoy's codec or the gate: nothing of it is released, and the record says what the caller got."""
    body = b'{"note":"Smith"}'
    gateway.upstream.answers[CHAT] = (  # type: ignore[index,union-attr]
        f"HTTP/1.1 {first}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body,
    )
    try:
        reply = gateway.chat("odd status")
    finally:
        del gateway.upstream.answers[CHAT]  # type: ignore[attr-defined,union-attr]
    assert reply.status in (502, 503)
    assert b"Smith" not in reply.raw
    outcome = gateway.outcome(reply)["outcome"]
    assert (outcome["status"], outcome["http_status"]) == ("error", reply.status)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/secrets"), ("GET", CHAT), ("DELETE", CHAT), ("HEAD", CHAT)])
def test_unknown_operations(gateway: Gateway, method: str, path: str) -> None:
    reply = gateway.send(method, path, token=gateway.analyst)
    assert reply.status == 404
    assert gateway.outcome(reply)["outcome"]["code"] == "unknown_operation"


def test_request_over_the_limit(gateway: Gateway) -> None:
    _is_refused(gateway, gateway.chat("x" * 1_200_000), 413, "request_too_large")


def test_chunked_request_over_the_limit(gateway: Gateway) -> None:
    chunk = b"x" * 65536
    body = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for _ in range(40)) + b"0\r\n\r\n"
    head = f"POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
    reply = gateway.raw(f"{head}authorization: Bearer {gateway.analyst}\r\nconnection: close\r\n\r\n".encode() + body)
    assert reply.status == 413
    assert json.loads(reply.body)["error"]["message"]


def test_upgrade_is_refused(gateway: Gateway) -> None:
    head = f"GET {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {gateway.analyst}\r\n"
    reply = gateway.raw(f"{head}connection: upgrade\r\nupgrade: websocket\r\n\r\n".encode())
    assert reply.status == 403
    assert gateway.outcome(reply)["outcome"]["code"] == "upgrade_refused"


def test_missing_host_is_on_record(gateway: Gateway) -> None:
    """Envoy refuses it by itself; the gate is told of the answer only, and knows no exchange id."""

    def told() -> int:
        return len([leaf for leaf in gateway.leaves() if leaf.get("outcome", {}).get("status") == "local_reply"])

    before = told()
    assert gateway.raw(b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n").status == 400
    gateway.wait_for(lambda: told() > before, "no record of Envoy's own reply")


def test_expect_100_continue(gateway: Gateway) -> None:
    """Envoy says 100 by itself; the gate has the whole body before it decides, and a refusal comes as ever."""
    body = b'{"model":"demo","messages":[]}'
    for token, status in ((gateway.analyst, 200), ("nonsense", 401)):
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nauthorization: Bearer {token}\r\n"
            f"content-length: {len(body)}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", gateway.stack.ports["http"]), timeout=30) as caller:
            caller.sendall(head.encode())
            received = caller.recv(4096)
            if status == 200:
                assert received.startswith(b"HTTP/1.1 100")
                caller.sendall(body)
            with contextlib.suppress(ConnectionError):
                while data := caller.recv(65536):
                    received += data
        reply = parse(received)
        assert reply.status == status
        assert gateway.outcome(reply)["outcome"]["http_status"] == status


def test_head_and_bodyless_requests(gateway: Gateway) -> None:
    """An operation without a body is decided at its head; HEAD has an answer without one."""
    listed = gateway.send("GET", "/v1/models", token=gateway.analyst)
    headed = gateway.send("HEAD", "/v1/models-head", token=gateway.analyst)
    assert (listed.status, headed.status, headed.body) == (200, 200, b"")
    for reply in (listed, headed):
        kinds = ("inference.intent", "inference.outcome")
        (_, intent), (_, outcome) = gateway.records(reply.header("x-affidavit-exchange") or "", *kinds)
        assert outcome["outcome"]["status"] == "completed"
        assert outcome["intent_sequence"] == intent["sequence"]
    assert gateway.upstream is not None
    assert gateway.upstream.received[-1].method == "HEAD"
    assert gateway.upstream.received[-1].header("authorization") == f"Bearer {gateway.stack.credential}"


def test_callers_request_id_is_not_ours(gateway: Gateway) -> None:
    body = b'{"model":"demo","messages":[]}'
    reply = gateway.send("POST", CHAT, body, gateway.analyst, x_request_id="11111111-1111-1111-1111-111111111111")
    assert reply.header("x-affidavit-exchange") != "11111111-1111-1111-1111-111111111111"


def test_upstream_reset_is_on_record(gateway: Gateway) -> None:
    """It broke off in the middle of its answer: the caller gets nothing of it, and the record says that it went wrong."""
    before = {leaf["exchange_id"] for leaf in gateway.leaves() if leaf["kind"] == "inference.intent"}
    reply = gateway.chat("reset", path="/v1/shape/reset")
    assert reply.status == 502
    assert json.loads(reply.body)["error"]["code"] == "upstream_unavailable"

    def ended() -> list[dict[str, Any]]:
        return [
            leaf
            for leaf in gateway.leaves()
            if leaf["kind"] == "inference.outcome" and leaf["exchange_id"] not in before and leaf["intent_sequence"] is not None
            and leaf.get("request", {}).get("path") == "/v1/shape/reset"
        ]  # fmt: skip

    [outcome] = gateway.wait_for(ended, "no outcome of the call that was broken off")
    assert outcome["outcome"]["status"] != "completed"
    assert outcome["outcome"]["released_bytes"] == 0


def test_unreadable_answer_is_not_released(gateway: Gateway) -> None:
    gateway.upstream.answers[CHAT] = (  # type: ignore[index,union-attr]
        b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 3\r\n\r\nabc",
    )
    try:
        reply = gateway.chat("unreadable")
    finally:
        del gateway.upstream.answers[CHAT]  # type: ignore[attr-defined,union-attr]
    assert reply.status == 502
    leaf = gateway.outcome(reply)
    assert leaf["outcome"]["code"] == "upstream_unreadable"
    assert leaf["intent_sequence"] is not None
    assert leaf["outcome"]["released_bytes"] == 0
