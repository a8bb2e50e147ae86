"""Everything that must not pass: what the caller gets, what is on record, and that nothing reached the upstream."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.app.worker import clock
from ext_proc.demo.issuer import Issuer
from tests.e2e.conftest import CHAT

if TYPE_CHECKING:
    from tests.e2e.conftest import Gateway
    from tests.e2e.harness import Reply


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _claims(gateway: Gateway, **changed: Any) -> dict[str, Any]:
    now = int(clock().timestamp())
    whole = {"iss": gateway.stack.issuer, "aud": "affidavit", "sub": "eve", "groups": ["analysts"], "iat": now}
    return {**whole, "nbf": now, "exp": now + 600, **changed}


def _resigned(token: str, **header: Any) -> str:
    """The token with another header, its signature as it was."""
    head, claims, signature = token.split(".")
    told = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    return f"{_part({**told, **header})}.{claims}.{signature}"


def _attacks(gateway: Gateway) -> dict[str, str]:
    ours = Issuer(gateway.stack.issuer)  # the same name, other keys: what a forger has
    now = int(clock().timestamp())
    elsewhere = f"http://127.0.0.1:{gateway.upstream.port}/keys"  # type: ignore[union-attr]  # would be seen there
    return {
        "alg none": f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(_claims(gateway))}.",
        "alg none, signed": f"{_part({'alg': 'none'})}.{_part(_claims(gateway))}.AAAA",
        "HS256": f"{_part({'alg': 'HS256', 'kid': 'rsa-1'})}.{_part(_claims(gateway))}.{'A' * 43}",
        "wrong signature": ours.mint("eve", ["analysts"]),
        "wrong iss": ours.mint("eve", ["analysts"], iss="https://evil.example"),
        "wrong aud": ours.mint("eve", ["analysts"], aud="another"),
        "expired": ours.mint("eve", ["analysts"], exp=now - 3600, iat=now - 7200, nbf=now - 7200),
        "not yet valid": ours.mint("eve", ["analysts"], nbf=now + 3600),
        "unknown kid": _resigned(ours.mint("eve", []), kid="nobody-has-this"),
        "jku": _resigned(gateway.analyst, jku=elsewhere),
        "x5u": _resigned(gateway.analyst, x5u=elsewhere),
        "jwk": _resigned(gateway.analyst, jwk={"kty": "oct", "k": "AAAA"}),
        "1 MB": "A" * (1024 * 1024),
        "not a token": "hello",
        "empty": "",
    }


ATTACKS = (
    "alg none", "alg none, signed", "HS256", "wrong signature", "wrong iss", "wrong aud", "expired", "not yet valid",
    "unknown kid", "jku", "x5u", "jwk", "1 MB", "not a token", "empty",
)  # fmt: skip


def _is_refused(gateway: Gateway, reply: Reply, status: int, code: str) -> None:
    assert reply.status == status, reply.body
    error = json.loads(reply.body)["error"]
    assert error["code"] == code
    assert error["message"]
    leaf = gateway.outcome(reply)
    assert leaf["outcome"]["http_status"] == status
    assert leaf["outcome"]["code"] == code
    assert leaf["intent_sequence"] is None


@pytest.mark.parametrize("attack", ATTACKS)
def test_bad_token(gateway: Gateway, attack: str) -> None:
    before = len(gateway.upstream.received)  # type: ignore[union-attr]
    reply = gateway.chat(token=_attacks(gateway)[attack])
    _is_refused(gateway, reply, 401, "invalid_token")
    assert len(gateway.upstream.received) == before  # type: ignore[union-attr]


def test_hs256_signed_with_the_public_key(gateway: Gateway) -> None:
    """The classic confusion: our RSA public key taken as an HMAC secret."""
    import hashlib
    import hmac
    import urllib.request

    import jwt
    from cryptography.hazmat.primitives import serialization

    with urllib.request.urlopen(f"{gateway.stack.issuer}/jwks.json", timeout=5) as answer:
        [rsa] = [key for key in json.load(answer)["keys"] if key["kty"] == "RSA"]
    pem = jwt.PyJWK(rsa).key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{_part({'alg': 'HS256', 'kid': rsa['kid']})}.{_part(_claims(gateway))}"
    mac = base64.urlsafe_b64encode(hmac.new(pem, signed.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
    _is_refused(gateway, gateway.chat(token=f"{signed}.{mac}"), 401, "invalid_token")


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
    _is_refused(gateway, gateway.chat(model="demo-restricted"), 403, "approval_required")


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
        {"openai_beta": "mail bob@example.org"},
    ],
)
def test_content_that_cannot_be_inspected(gateway: Gateway, headers: dict[str, str]) -> None:
    body = b'{"model":"demo","messages":[]}'
    _is_refused(gateway, gateway.send("POST", CHAT, body, gateway.analyst, **headers), 415, "unsupported_content")


def test_personal_data_in_the_query(gateway: Gateway) -> None:
    reply = gateway.chat(path=f"{CHAT}?note=bob%40example.org")
    _is_refused(gateway, reply, 415, "unsupported_content")


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
    before = len([leaf for leaf in gateway.leaves() if leaf.get("outcome", {}).get("status") == "local_reply"])
    assert gateway.raw(b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n").status == 400
    for _ in range(100):
        now = [leaf for leaf in gateway.leaves() if leaf.get("outcome", {}).get("status") == "local_reply"]
        if len(now) > before:
            return
    pytest.fail("no record of Envoy's own reply")


def test_callers_request_id_is_not_ours(gateway: Gateway) -> None:
    body = b'{"model":"demo","messages":[]}'
    reply = gateway.send("POST", CHAT, body, gateway.analyst, x_request_id="11111111-1111-1111-1111-111111111111")
    assert reply.header("x-affidavit-exchange") != "11111111-1111-1111-1111-111111111111"


def test_upstream_reset_is_on_record(gateway: Gateway) -> None:
    reply = gateway.chat(path="/v1/shape/reset")
    assert reply.status in (502, 503)
    exchange_ids = {leaf["exchange_id"] for leaf in gateway.leaves() if leaf["kind"] == "inference.intent"}
    assert exchange_ids


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
