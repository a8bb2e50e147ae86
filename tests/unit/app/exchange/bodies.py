"""Bodies through the whole of `ports.Content`, as the driver asks it: used by the tests of content and of documents."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ext_proc.app.exchange.content import ContentGate
from ext_proc.model import Connection, Operation

if TYPE_CHECKING:
    from ext_proc.model import Inspection, Redaction, RedactionRule

PATHS = {
    "openai.chat": "/v1/chat/completions",
    "openai.completions": "/v1/completions",
    "openai.responses": "/v1/responses",
    "openai.embeddings": "/v1/embeddings",
    "openai.models": "/v1/models",
    "anthropic.messages": "/v1/messages",
    "anthropic.count_tokens": "/v1/messages/count_tokens",
    "generic": "/generic",
    "opaque": "/opaque",
}
CONNECTION = Connection(
    name="demo",
    operations=tuple(
        Operation("GET" if protocol == "openai.models" else "POST", path, protocol) for protocol, path in PATHS.items()
    ),
    credential=None,
    request_limit_bytes=1 << 20,
    response_limit_bytes=1 << 20,
)
GATE = ContentGate(b"k" * 32)
JSON = (("content-type", b"application/json"),)
SSE = (("content-type", b"text/event-stream; charset=utf-8"),)
NDJSON = (("content-type", b"application/x-ndjson"),)
TEXT = (("content-type", b"text/plain"),)
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}


def wire(body: Any) -> bytes:
    """Bytes as they are; anything else as JSON."""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def inspect(body: Any, protocol: str = "openai.chat", headers: Any = JSON, query: str = "") -> Inspection:
    method = "GET" if protocol == "openai.models" else "POST"
    return GATE.inspect(CONNECTION, method, PATHS[protocol] + query, headers, wire(body))


def request(body: Any, protocol: str = "openai.chat", rules: tuple[RedactionRule, ...] = ()) -> Redaction:
    return GATE.redact_request(inspect(body, protocol), rules)


def response(
    body: Any,
    protocol: str = "openai.chat",
    headers: Any = JSON,
    rules: tuple[RedactionRule, ...] = (),
    limit: int = 1 << 20,
) -> Redaction:
    asked = inspect(b"" if protocol == "openai.models" else CHAT, protocol)
    return GATE.redact_response(asked, rules, 200, headers, wire(body), limit)


def stream(*events: Any, names: bool = False) -> bytes:
    """Server-sent events; ``names``: with the event's type as its name, as Anthropic does."""
    parts = []
    for event in events:
        name = f"event: {event['type']}\n" if names else ""
        parts.append(f"{name}data: {event if isinstance(event, str) else json.dumps(event)}\n\n")
    return "".join(parts).encode()


def events_of(body: bytes) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in body.decode().split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def deltas(*texts: str, index: int = 0, name: str = "content") -> list[Any]:
    """OpenAI's chunks."""
    return [
        {"id": "c1", "object": "chat.completion.chunk", "choices": [{"index": index, "delta": {name: text}}]}
        for text in texts
    ]


def blocks(*texts: str, index: int = 0, kind: str = "text") -> list[Any]:
    """Anthropic's deltas."""
    key = {"input_json": "partial_json"}.get(kind, kind)
    return [
        {"type": "content_block_delta", "index": index, "delta": {"type": f"{kind}_delta", key: text}} for text in texts
    ]
