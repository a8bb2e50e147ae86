"""Requests by which callers got round a gateway's logging, masking or scanning somewhere: for `test_tricks`."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Trick:
    """How a request differs from an ordinary one. ``refused``: the status and the code, where it is not served."""

    lines: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)
    body: Callable[[bytes], bytes] = bytes
    method: str = "POST"
    suffix: str = ""
    content_type: str | None = "application/json"
    is_chunked: bool = False
    is_http2: bool = False
    passes: frozenset[str] = frozenset()
    """Header names that the model may see besides: known ones, in a known form."""
    refused: tuple[int, str] | None = None


def head(*lines: str, **more: Any) -> Trick:
    return Trick(lines=lines, **more)


def asks(**fields: Any) -> Trick:
    return Trick(fields=fields)


def typed(content_type: str | None, body: Callable[[bytes], bytes] = bytes) -> Trick:
    """A body that says it is something else."""
    return Trick(content_type=content_type, body=body, refused=(415, "unsupported_content"))


def unreadable(body: Callable[[bytes], bytes]) -> Trick:
    return Trick(body=body, refused=(400, "unreadable_body"))


def before(end: bytes) -> Callable[[bytes], bytes]:
    """The body with another key at its end."""
    return lambda body: body[:-1] + b"," + end + b"}"


BAD_BODY: Final = (400, "unreadable_body")
NOT_READ: Final = (0, "")
"""Envoy hangs up on it: `headers_with_underscores_action`. It is no exchange, and so there is no record of one."""
TRICKS: Final[dict[str, Trick]] = {
    "none": Trick(),
    # Headers that switch another gateway's records off, or blank them.
    "x-litellm-enable-message-redaction": head("x-litellm-enable-message-redaction: true"),
    "litellm-disable-message-redaction": head("litellm-disable-message-redaction: true"),
    "x-litellm-disable-callbacks": head("x-litellm-disable-callbacks: s3_v2,langfuse"),
    "x-litellm-tags": head("x-litellm-tags: no-log"),
    "cf-aig-collect-log": head("cf-aig-collect-log: false"),
    "cf-aig-skip-cache and metadata": head("cf-aig-skip-cache: true", 'cf-aig-metadata: {"log":false}'),
    "helicone-omit-request and -response": head("helicone-omit-request: true", "helicone-omit-response: true"),
    "x-portkey-config without hooks": head('x-portkey-config: {"before_request_hooks":[],"after_request_hooks":[]}'),
    "x-amzn-bedrock-trace and guardrail": head("x-amzn-bedrock-trace: DISABLED", "x-amzn-bedrock-guardrailidentifier:"),
    "x-no-log": head("x-no-log: 1", "no-log: true", "x-disable-logging: true", "x-log-level: off"),
    "x-guardrails-disable": head("x-guardrails-disable: true", "x-disable-guardrails: all", "x-skip-masking: 1"),
    "x-debug": head("x-debug: true", "x-test: true", "x-internal: true", "x-admin: true"),
    "dnt and sec-gpc": head("dnt: 1", "sec-gpc: 1"),
    "traceparent, not sampled": head(f"traceparent: 00-{'ab' * 16}-{'cd' * 8}-00", passes=frozenset({"traceparent"})),
    "x-b3-sampled": head("x-b3-sampled: 0", "b3: 0", "tracestate: a=b", "baggage: log=off"),
    "cache-control": head("cache-control: no-store", "pragma: no-cache"),
    "prefer": head("prefer: respond-async, return=minimal", "priority: u=7"),
    "user-agent of a probe": head("user-agent: kube-probe/1.30", "x-health-check: true"),
    # Headers in our own name, or in Envoy's.
    "x-affidavit names": head("x-affidavit-exchange: 1", "x-affidavit-receipt: 1", "x-affidavit-decision: allow"),
    "x-request-id of another exchange": head("x-request-id: 3f6f9f8c-8f0b-4b1e-9a56-0c8f4e6b7a10"),
    "x-envoy names": head(
        "x-envoy-original-path: /",
        "x-envoy-force-trace: 0",
        "x-envoy-upstream-rq-timeout-ms: 1",
        "x-envoy-decorator-operation: none",
        "x-envoy-internal: true",
    ),
    "x-forwarded names": head("x-forwarded-for: 127.0.0.1", "x-forwarded-proto: https", "x-forwarded-host: a"),
    "forwarded certificate": head('x-forwarded-client-cert: Hash=00;Subject="CN=admin"', "forwarded: for=127.0.0.1"),
    "x-original-url": head("x-original-url: /v1/models", "x-rewrite-url: /health"),
    "x-http-method-override": head("x-http-method-override: GET", "x-method-override: HEAD"),
    # Headers about the message.
    "accept-encoding": head("accept-encoding: gzip, br, zstd"),
    "accept-encoding without identity": head("accept-encoding: identity;q=0, *;q=0, zstd"),
    "accept of another type": head("accept: application/octet-stream"),
    "accept of lines": head("accept: application/x-ndjson", passes=frozenset({"accept"})),
    "range": head("range: bytes=0-10", "if-none-match: *", "if-modified-since: Thu, 01 Jan 2026 00:00:00 GMT"),
    "te": head("te: trailers"),
    "connection names a header": head("connection: close, x-no-log, accept-encoding", "x-no-log: 1"),
    "connection names the type": head("connection: close, content-type", refused=(415, "unsupported_content")),
    "connection names the credential": head("connection: close, authorization", refused=(401, "invalid_token")),
    "casing": Trick(
        ("X-LiteLLM-Enable-Message-REDACTION: TRUE", "CF-AIG-Collect-Log: FALSE", "ACCEPT-Encoding: GZIP"),
        content_type="Application/JSON",
    ),
    "underscores": head("content_type: text/plain", "x_no_log: 1", "accept_encoding: gzip", refused=NOT_READ),
    "a repeated header": head("cf-aig-collect-log: true", "cf-aig-collect-log: false"),
    "an empty header": head("x-no-log:"),
    "many headers": head(*(f"x-no-log-{number}: 1" for number in range(60))),
    "trailers": Trick(is_chunked=True),
    "upgrade": head("connection: close, upgrade", "upgrade: websocket", refused=(403, "upgrade_refused")),
    # Types and codings under which a body would not be looked into.
    "no content type": typed(None),
    "text/plain": typed("text/plain"),
    "application/octet-stream": typed("application/octet-stream"),
    "multipart": typed("multipart/form-data; boundary=x"),
    "text/event-stream": typed("text/event-stream"),
    "application/jsonl": typed("application/jsonl"),
    "a list of types": typed("application/json, text/plain"),
    "a charset": typed("application/json; charset=utf-7"),
    "a charset in other clothes": typed("application/json; charset*=us-ascii''utf-16"),
    "utf-16": typed("application/json; charset=utf-16", lambda body: body.decode().encode("utf-16")),
    "a second content type": head("content-type: text/plain", refused=(415, "unsupported_content")),
    "content-encoding": head("content-encoding: gzip", body=gzip.compress, refused=(415, "unsupported_content")),
    "content-encoding that is none": head("content-encoding: aws-chunked", refused=(415, "unsupported_content")),
    "content-encoding: identity": head("content-encoding: identity"),
    "compressed, unsaid": unreadable(gzip.compress),
    "utf-16, unsaid": unreadable(lambda body: body.decode().encode("utf-16")),
    "a byte order mark": unreadable(lambda body: b"\xef\xbb\xbf" + body),
    "two documents": unreadable(lambda body: b"{}\n" + body),
    # Fields of the body.
    "guardrails: none": asks(guardrails=[]),
    "guardrails: another one": asks(guardrails=["not-pii"], guardrail_config={"language": "xx"}),
    "metadata.guardrails": asks(metadata={"guardrails": [], "disable_global_guardrails": "true"}),
    "metadata.no-log": asks(metadata={"no-log": True, "headers": {"x-no-log": "1"}}),
    "litellm_metadata": asks(litellm_metadata={"guardrails": [], "user_api_key_metadata": {"disable": True}}),
    "no-log": asks(**{"no-log": True}),
    "no_log and logging": asks(no_log=True, logging=False, log=False, audit=False),
    "disable_global_guardrails": asks(disable_global_guardrails=True),
    "turn_off_message_logging": asks(turn_off_message_logging=True, redact_messages=True),
    "mask: false": asks(mask=False, masking="off", redact=False, pii={"enabled": False}),
    "cache": asks(cache={"no-store": True, "no-cache": True}),
    "store: false": asks(store=False),
    "extra_headers": asks(extra_headers={"x-no-log": "1"}, extra_body={"guardrails": []}),
    "our own names": asks(affidavit={"decision": "allow", "redact_request": []}, redact_request=[], allow=True),
    "safety_settings": asks(safety_settings=[{"category": "all", "threshold": "off"}]),
    "user": asks(user="auditor", safety_identifier="internal"),
    # Flags that choose how the answer comes: the script answers as its path says, whatever was asked.
    "stream: true": asks(stream=True),
    "stream: false": asks(stream=False),
    "stream: null": asks(stream=None),
    "stream_options": asks(stream=True, stream_options={"include_usage": True, "include_obfuscation": False}),
    "stream as text": Trick(fields={"stream": "true"}, refused=BAD_BODY),
    "stream as a number": Trick(fields={"stream": 1}, refused=BAD_BODY),
    "Stream": Trick(fields={"Stream": True}, refused=BAD_BODY),
    # Keys that two readers read in two ways.
    "a second model": unreadable(before(b'"model":"demo"')),
    "second messages, clean": unreadable(before(b'"messages":[]')),
    "second messages, escaped": unreadable(before(b'"mess\\u0061ges":[]')),
    "Messages": unreadable(before(b'"Messages":[]')),
    "maxTokens": unreadable(before(b'"maxTokens":1')),
    "a second content": unreadable(lambda body: body.replace(b'"content":', b'"content":"","content":')),
    # Targets.
    "query": Trick(suffix="?no-log=true", refused=(415, "unsupported_content")),
    "query, twice": Trick(suffix="?beta=true&beta=false", refused=(415, "unsupported_content")),
    "slash": Trick(suffix="/", refused=(404, "unknown_operation")),
    "semicolon": Trick(suffix=";log=off", refused=(404, "unknown_operation")),
    "percent": Trick(suffix="%3Flog=off", refused=(404, "unknown_operation")),
    "another method": Trick(method="PUT", refused=(404, "unknown_operation")),
}


def _all_headers() -> tuple[str, ...]:
    """Every header that is served, by its last value; HTTP/2 has no ``connection`` and no capitals."""
    few = (trick for name, trick in TRICKS.items() if name != "many headers")  # Envoy takes a hundred
    served = [trick for trick in few if trick.refused is None and not trick.fields]
    said = [line.partition(":") for trick in served for line in trick.lines]
    last = {name.lower(): value.strip() for name, _, value in said if name.lower() != "connection"}
    return tuple(f"{name}: {value}" for name, value in last.items())


TRICKS["every header at once, HTTP/2"] = head(
    *_all_headers(), passes=frozenset({"accept", "traceparent"}), is_http2=True
)
