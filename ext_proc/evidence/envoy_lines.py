"""One line of Envoy's access log, and what it says about the gate. Pure.

The fields are those of ``envoy/bootstrap.yaml``. Whoever owns the disk can write anything here, so nothing is taken for
granted: a line that is not of this form is no line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

START: Final = "DownstreamStart"
END: Final = "DownstreamEnd"
CLEAN_CLOSE: Final = 10
"""The call status that Envoy gives to a stream that ext_proc ended in peace, without an answer."""

_PHASES: Final = ("request_header", "request_body", "response_header", "response_body")
_BEFORE_THE_GATE: Final = (
    "http1.", "http2.", "http3.", "codec_error", "low_version", "missing_host", "missing_path", "invalid_",
    "absolute_path_rejected", "path_normalization_failed", "request_header_timeout", "request_headers_",
    "route_not_found", "upgrade_failed", "overload",
)  # fmt: skip
"""Beginnings of Envoy's own reasons for turning a request away that was not (or not usefully) put to the gate."""
_LEFT: Final = ("downstream_remote_disconnect", "http2.remote_reset", "http2.remote_refuse")
"""Beginnings of its words for a caller who closed the connection, or took back the request."""
_LONGEST_MS: Final = 366 * 24 * 3600 * 1000
_DETAILS: Final = re.compile(r"[A-Za-z0-9_.:|<>-]{1,100}")


@dataclass(frozen=True, slots=True)
class Line:
    """A request as Envoy saw it. ``offset`` is the line's first byte in its generation of the file.

    ``bad_calls`` are calls to the gate that did not end well, with their gRPC status; ``phases`` those in which it was
    called; ``was_asked``: was anything sent to it.
    """

    replica: str
    generation: str
    offset: int
    request_id: str | None
    is_end: bool
    began_at: datetime
    duration_ms: int
    status: int
    details: str
    attempts: int
    event_id: str | None
    decision: str | None
    response: str | None
    outcome: str | None
    received_bytes: int
    sent_bytes: int
    bad_calls: dict[str, int]
    phases: tuple[str, ...]
    was_asked: bool
    failed_open: bool

    @property
    def ended_at(self) -> datetime:
        """When Envoy wrote it."""
        return self.began_at + timedelta(milliseconds=self.duration_ms)

    @property
    def place(self) -> str:
        """Where it stands, for a finding."""
        return f"{self.replica}/{self.generation}/{self.offset}"

    @property
    def was_closed_cleanly(self) -> bool:
        """Did the gate leave a question without an answer, which Envoy takes for consent?"""
        return (
            self.failed_open or CLEAN_CLOSE in self.bad_calls.values() or self.details.startswith("rbac_access_denied")
        )

    @property
    def gate_failed(self) -> bool:
        """Did Envoy say itself that the gate did not answer as it must?"""
        return bool(self.bad_calls) or self.details.startswith("ext_proc_error")

    @property
    def is_refused_before_the_gate(self) -> bool:
        """Is it one of Envoy's own reasons?"""
        return self.details.startswith(_BEFORE_THE_GATE) and not self.details.startswith(_LEFT)

    @property
    def has_left_unheard(self) -> bool:
        """Did its caller leave before the gate had answered a single question?"""
        return self.details.startswith(_LEFT) and not self.phases

    @property
    def short_details(self) -> str:
        """Envoy's reason without what it says of addresses and paths."""
        found = _DETAILS.match(self.details)
        return found[0] if found else "none"


def read_line(raw: bytes, replica: str, generation: str, offset: int) -> Line | None:
    """The line; None if it is none of ours."""
    try:
        return _read(orjson.loads(raw), replica, generation, offset)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _read(told: dict[str, Any], replica: str, generation: str, offset: int) -> Line:
    if told["type"] not in (START, END):
        raise ValueError(told["type"])
    gate = told["ext_proc"] or {}
    calls = {
        name: _count(gate[name]) for name in gate if name.endswith("call_status") or name.startswith("grpc_status")
    }
    return Line(
        replica=replica,
        generation=generation,
        offset=offset,
        request_id=_text(told["request_id"]),
        is_end=told["type"] == END,
        began_at=datetime.fromisoformat(told["at"]).astimezone(UTC),
        duration_ms=_count(told["duration_ms"], _LONGEST_MS),
        status=_count(told["status"], 599),
        details=_text(told["details"]) or "",
        attempts=_count(told["attempts"]),
        event_id=_text(told["event_id"]),
        decision=_text(told["decision"]),
        response=_text(told["response"]),
        outcome=_text(told["outcome"]),
        received_bytes=_count(told["received_bytes"]),
        sent_bytes=_count(told["sent_bytes"]),
        bad_calls={name: status for name, status in calls.items() if status},
        phases=tuple(phase for phase in _PHASES if any(name.startswith(phase) for name in calls)),
        was_asked=_count(gate.get("bytes_sent")) > 0 or any(name.endswith("call_status") for name in calls),
        failed_open=gate.get("failed_open") is True,
    )


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    raise TypeError(type(value).__name__)


def _count(value: Any, most: int = 2**53 - 1) -> int:
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= most:
        raise TypeError(type(value).__name__)
    return value
