"""What of a body its protocol needs, so that field rules leave it: words of closed lists, and small numbers. Pure.

None of it can hold anybody's data: a role is one of six words, and where it is not, it is a value like any other (L6).
"""

from __future__ import annotations

from typing import Any, Final

_ROLES: Final = frozenset({"assistant", "developer", "function", "system", "tool", "user"})
_REASONS: Final = frozenset(
    {
        "cancelled", "completed", "content_filter", "end_turn", "failed", "function_call", "in_progress", "incomplete",
        "length", "max_output_tokens", "max_tokens", "pause_turn", "queued", "refusal", "stop", "stop_sequence",
        "tool_calls", "tool_use",
    }
)  # fmt: skip
_TYPES: Final = frozenset(
    {
        "content_block_delta", "content_block_start", "content_block_stop", "custom", "custom_tool_call", "error",
        "function", "function_call", "function_call_output", "image", "image_url", "input_image", "input_json_delta",
        "input_text", "json_object", "json_schema", "mcp_call", "message", "message_delta", "message_start",
        "message_stop", "output_text", "ping", "reasoning", "reasoning_text", "redacted_thinking", "refusal",
        "server_tool_use", "signature_delta", "summary_text", "text", "text_delta", "thinking", "thinking_delta",
        "tool_result", "tool_use",
    }
)  # fmt: skip
_OBJECTS: Final = frozenset(
    {"chat.completion", "chat.completion.chunk", "embedding", "list", "model", "response", "text_completion"}
)
_WORDS: Final = {
    "role": _ROLES,
    "type": _TYPES,
    "object": _OBJECTS,
    "finish_reason": _REASONS,
    "stop_reason": _REASONS,
    "status": _REASONS,
}
_EVENT: Final = "response."
_EVENT_WORDS: Final = frozenset(
    {
        "added", "arguments", "audio", "call", "cancelled", "code", "completed", "content", "created", "custom",
        "delta", "done", "failed", "function", "in", "incomplete", "input", "item", "mcp", "output", "part",
        "progress", "queued", "reasoning", "refusal", "summary", "text", "tool", "transcript",
    }
)  # fmt: skip
"""Of which the Responses API makes the types of its events: ``response.output_text.delta``."""
_INDEXES: Final = frozenset({"command_index", "content_index", "index", "output_index", "summary_index"})
_INDEX_MAX: Final = 1000
_SEQUENCE_MAX: Final = 10**6

ROOT: Final = frozenset(
    {
        "created", "created_at", "id", "model", "object", "service_tier", "system_fingerprint", "type", "usage",
    }
)  # fmt: skip
"""At the top of an answer: what a list of included fields need not name. It is scanned like everything else."""
REQUEST_ROOT: Final = frozenset({"model", "stream"})
"""The same of a request."""
KEYS: Final = frozenset(
    {
        "arguments", "choices", "content", "delta", "finish_reason", "function", "function_call", "id", "index",
        "input", "instructions", "logprobs", "max_tokens", "message", "messages", "model", "name", "object", "output",
        "parameters", "partial_json", "prompt", "response", "role", "stop_reason", "stream", "system", "text",
        "thinking", "tool_call_id", "tool_calls", "tool_use_id", "tools", "type", "usage",
    }
)  # fmt: skip
"""Names of members that no rule for names changes: a body without them is nobody's request."""


def is_frame(key: Any, value: Any) -> bool:
    """Is ``value``, under ``key``, one of the protocol's own?"""
    if isinstance(value, str):
        words = _WORDS.get(key)
        return words is not None and (value in words or (key == "type" and _is_event(value)))
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return (key in _INDEXES and 0 <= value < _INDEX_MAX) or (key == "sequence_number" and 0 <= value < _SEQUENCE_MAX)


def _is_event(value: str) -> bool:
    return value.startswith(_EVENT) and all(
        word in _EVENT_WORDS for part in value.split(".")[1:] for word in part.split("_")
    )
