"""Lines as Envoy writes them (``envoy/bootstrap.yaml``), and the objects that the shipper makes of them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import zstandard

if TYPE_CHECKING:
    from datetime import datetime

    from tests.fakes.versions import FakeVersions

_GATE: dict[str, Any] = {"bytes_received": 0, "bytes_sent": 0, "destination": "", "failed_open": False}
ASKED = {
    **_GATE,
    "bytes_sent": 1992,
    "request_header_call_status": 0,
    "request_body_last_call_status": 0,
    "response_header_call_status": 0,
    "response_body_last_call_status": 0,
}


def line(request_id: str | None, at: datetime, **changes: Any) -> dict[str, Any]:
    """The end of a request that went well, but for the changes. ``ext_proc`` is merged; None takes a field away."""
    gate = {**ASKED, **changes.pop("ext_proc", {})}
    told = {
        "at": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
        "type": "DownstreamEnd",
        "request_id": request_id,
        "method": "POST",
        "path": "/v1/chat/completions",
        "protocol": "HTTP/1.1",
        "status": 200,
        "details": "via_upstream",
        "flags": "-",
        "route": "models",
        "source": "127.0.0.1:32796",
        "received_bytes": 69,
        "sent_bytes": 79,
        "duration_ms": 900,
        "attempts": 1,
        "upstream": "127.0.0.1:43629",
        "event_id": request_id,
        "decision": "allow",
        "response": "released",
        "outcome": "completed",
    }
    gate = {name: value for name, value in gate.items() if value is not None}
    return {**told, **changes, "ext_proc": gate}


def start(request_id: str, at: datetime) -> dict[str, Any]:
    """The beginning of a request."""
    nothing = {"event_id": None, "decision": None, "response": None, "outcome": None, "details": None, "status": 0}
    made = line(request_id, at, type="DownstreamStart", attempts=0, duration_ms=0, **nothing)
    return {**made, "ext_proc": _GATE}


def refused(at: datetime, details: str = "http1.codec_error", **changes: Any) -> dict[str, Any]:
    """A request that Envoy refused by itself."""
    nothing = {"event_id": None, "decision": None, "response": None, "outcome": None, "upstream": None}
    made = line(None, at, attempts=0, details=details, status=400, duration_ms=0, **nothing)
    return {**made, "ext_proc": _GATE, **changes}


class AccessLog:
    """One generation of one replica's access log, shipped part by part."""

    def __init__(self, store: FakeVersions, replica: str = "gw-0", generation: str = "20261125T120000000000-1") -> None:
        self._store = store
        self._stem = f"v1/access/replica={replica}/{generation}"
        self.offset = 0

    def ship(self, *lines: dict[str, Any] | bytes, at: datetime, skip: int = 0) -> str:
        """Put a part. ``skip``: bytes of the file that are left out before it."""
        self.offset += skip
        raw = b"".join(
            one if isinstance(one, bytes) else json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in lines
        )
        body = zstandard.ZstdCompressor().compress(raw)
        end = self.offset + len(raw)
        sha16 = hashlib.sha256(body).hexdigest()[:16]
        key = f"{self._stem}/{self.offset:016d}-{end:016d}-{sha16}.jsonl.zst"
        self.offset = end
        self._store.put(key, body, at)
        return key
