"""The last event of a stream that may not go on, in the words that its protocol has for it. Pure."""

from __future__ import annotations

from typing import Any, Final

from ext_proc.model import Refusal
from ext_proc.protocols.json_text import render
from ext_proc.protocols.refusals import refusal_object

_BLOCKED: Final = "content_blocked"
_FORBIDDEN: Final = 403
_BAD_UPSTREAM: Final = 502


def refusal_event(protocol: str, code: str, text: str, *, kind: str = "sse", number: int = 0) -> bytes:
    """An error event that makes the official clients raise.

    Args:
        protocol: the operation's protocol.
        code: why.
        text: the same for people.
        kind: ``sse``, ``lines`` or ``text``; in plain text nothing can be told from the answer, so nothing is said.
        number: of the event, where the protocol numbers them.
    """
    if kind == "text":
        return b""
    status = _FORBIDDEN if code == _BLOCKED else _BAD_UPSTREAM
    body: dict[str, Any] = refusal_object(protocol, Refusal(status, code, text))
    name = ""
    if protocol == "openai.responses":
        # Beside the documented fields ``error``, which is what the official client raises for.
        body = {"type": "error", "sequence_number": number, "code": code, "message": text, "param": None} | body
        name = "error"
    elif protocol.startswith("anthropic."):
        name = "error"
    if kind == "lines":
        return f"{render(body)}\n".encode()
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {render(body)}\n\n".encode()
