"""A refusal in the words of the API that the caller's client speaks, so that it raises its own typed error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.protocols.json_text import render

if TYPE_CHECKING:
    from ext_proc.model import Refusal, Standing

_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"

# Anthropic, "Errors": https://docs.anthropic.com/en/api/errors
_ANTHROPIC: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
# OpenAI, "Error codes": the type is coarse, the code says more.
_OPENAI: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_SERVER: Final = 500


def refusal_body(protocol: str, refusal: Refusal) -> tuple[str, bytes]:
    """Content type and body.

    A client that asked for a stream reads a 2xx as one and finds no event in JSON: an empty answer, and no error.
    """
    if refusal.is_event and refusal.held is not None:
        if protocol.startswith("openai."):
            return _EVENTS, f"data: {render(_held(refusal, refusal.held))}\n\n".encode()
        if protocol.startswith("anthropic."):
            told = {"type": "error", **_held(refusal, refusal.held)}
            return _EVENTS, f"event: error\ndata: {render(told)}\n\n".encode()
    return _JSON, render(refusal_object(protocol, refusal)).encode()


def refusal_object(protocol: str, refusal: Refusal) -> dict[str, Any]:
    """The body as an object: of a call that is held, how it stands; else the error that the protocol's clients know."""
    if refusal.held is not None:
        return _held(refusal, refusal.held)
    if protocol.startswith("openai."):
        body: dict[str, Any] = {"error": _openai(refusal)}
    elif protocol.startswith("anthropic."):
        body = {"type": "error", "error": _anthropic(refusal)}
    else:
        body = {"type": "error", "error": {**_openai(refusal), "type": _anthropic(refusal)["type"]}}
    if refusal.reasons:
        body["error"]["reasons"] = list(refusal.reasons)
    return body


def _held(refusal: Refusal, standing: Standing) -> dict[str, Any]:
    """Nobody's protocol has a word for it. An ``error`` is in it for clients that take any 2xx for an answer."""
    return {
        "object": "affidavit.hold",
        "id": standing.hold_id,
        "status": standing.state.value,
        "status_url": standing.status_url,
        "asked_at": standing.asked_at.isoformat(),
        "expires_at": standing.expires_at.isoformat(),
        "retry_after_seconds": refusal.retry_after_seconds,
        "message": refusal.text,
        "error": {"message": refusal.text, "type": "approval_pending", "param": None, "code": refusal.code},
    }


def _openai(refusal: Refusal) -> dict[str, Any]:
    fallback = "server_error" if refusal.status >= _SERVER else "invalid_request_error"
    kind = _OPENAI.get(refusal.status, fallback)
    return {"message": _message(refusal), "type": kind, "param": None, "code": refusal.code}


def _anthropic(refusal: Refusal) -> dict[str, Any]:
    fallback = "api_error" if refusal.status >= _SERVER else "invalid_request_error"
    return {"type": _ANTHROPIC.get(refusal.status, fallback), "message": _message(refusal), "code": refusal.code}


def _message(refusal: Refusal) -> str:
    """With the policy's codes: of an error, OpenAI's client shows people the message only."""
    if not refusal.reasons:
        return refusal.text
    return f"{refusal.text.removesuffix('.')}: {', '.join(refusal.reasons)}."
