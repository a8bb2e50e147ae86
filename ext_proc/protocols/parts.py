"""How much of a request is not text that the scan can read: images, sound, files. Pure.

What counts is whatever is *not known to be text*: upstreams know more kinds of parts than anybody can list
(``video_url``, ``image_embeds``, a part without a type, a type in capitals), and more places for them.
"""

from __future__ import annotations

import re
from typing import Any, Final

TEXTS_AT: Final = frozenset({"system", "input", "prompt", "content", "instructions", "prediction"})
"""Top-level fields that hold what the model reads, beside ``messages``: texts, or parts."""

SETTINGS: Final = frozenset(
    {
        "background", "best_of", "cache_control", "chat_template_kwargs", "container", "context_management",
        "conversation", "dimensions", "echo", "encoding_format", "frequency_penalty", "function_call", "functions",
        "grammar", "guided_choice", "guided_grammar", "guided_json", "guided_regex", "include", "json_schema",
        "logit_bias", "logprobs", "max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample",
        "max_tool_calls", "mcp_servers", "metadata", "modalities", "model", "n", "n_predict", "output_config",
        "parallel_tool_calls", "presence_penalty", "previous_response_id", "prompt_cache_key", "reasoning",
        "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "stop_sequences",
        "store", "stream", "stream_options", "structured_outputs", "suffix", "temperature", "thinking", "tool_choice",
        "tools", "top_k", "top_logprobs", "top_p", "truncation", "user", "verbosity", "web_search_options",
    }
)  # fmt: skip
"""Top-level fields that say how to answer: schemas and descriptions, whose ``type`` is no part's."""

# Types of parts that are text, each with the fields that it may have. Those in _READ may hold parts again.
_ALWAYS: Final = frozenset({"type", "id", "index", "cache_control"})
_KINDS: Final = {
    "text": _ALWAYS | {"text", "citations", "annotations", "logprobs"},
    "input_text": _ALWAYS | {"text", "annotations"},
    "output_text": _ALWAYS | {"text", "annotations", "logprobs"},
    "refusal": _ALWAYS | {"refusal"},
    "content": _ALWAYS | {"content"},
    "thinking": _ALWAYS | {"thinking", "signature"},
    "redacted_thinking": _ALWAYS | {"data"},
    "tool_use": _ALWAYS | {"name", "input", "caller"},
    "tool_result": _ALWAYS | {"tool_use_id", "content", "is_error"},
    "server_tool_use": _ALWAYS | {"name", "input", "caller"},
    "search_result": _ALWAYS | {"source", "title", "content", "citations"},
    # Items of the Responses API.
    "message": _ALWAYS | {"role", "status", "phase", "content"},
    "summary_text": _ALWAYS | {"text"},
    "reasoning_text": _ALWAYS | {"text"},
    "reasoning": _ALWAYS | {"status", "summary", "content", "encrypted_content"},
    "function_call": _ALWAYS | {"status", "call_id", "name", "arguments"},
    "function_call_output": _ALWAYS | {"status", "call_id", "output"},
    "custom_tool_call": _ALWAYS | {"status", "call_id", "name", "input"},
    "custom_tool_call_output": _ALWAYS | {"status", "call_id", "output"},
    "item_reference": _ALWAYS,
}
_READ: Final = frozenset({"text", "refusal", "content", "thinking", "source", "title", "data", "summary", "output"})

_MESSAGE_SETTINGS: Final = frozenset({"annotations", "cache_control", "function_call", "reasoning_details"})
_CALL_KINDS: Final = (None, "function", "custom")
_MESSAGE_KINDS: Final = (None, "message")

# In fields that no API is known to have, the type or the name or the value must give it away.
_SCHEMA_KINDS: Final = frozenset(
    {
        "array", "boolean", "function", "integer", "json_object", "json_schema", "null", "number", "object", "string",
    }
)  # fmt: skip
_TELLING_NAME: Final = re.compile(
    r"image|audio|video|media|pixel|photo|picture|attach|inline|(?:^|_)files?(?:_|$)", re.IGNORECASE
)
_PACKED: Final = re.compile(r"\s*(?:data:[a-z*]+/|[A-Za-z0-9+/_-]{1024})", re.IGNORECASE)


def count_media(body: Any) -> int:
    """Everything in a request that is not known to be text."""
    if not isinstance(body, dict):
        return _foreign("", body)
    counted = 0
    for name, value in body.items():
        if name == "messages":
            counted += sum(map(_message, value)) if isinstance(value, list) else _parts(value)
        elif name in TEXTS_AT:
            counted += _parts(value)
        elif name not in SETTINGS:
            counted += _foreign(name, value)
    return counted


def _message(message: Any) -> int:
    if not isinstance(message, dict):
        return _parts(message)
    counted = int(message.get("type") not in _MESSAGE_KINDS and _part(message) > 0)
    for name, value in message.items():
        if name == "content":
            counted += _parts(value)
        elif name == "tool_calls" and isinstance(value, list):
            counted += sum(1 for call in value if not isinstance(call, dict) or call.get("type") not in _CALL_KINDS)
        elif isinstance(value, dict | list) and name not in _MESSAGE_SETTINGS:
            counted += 1 if value else 0  # `images`, `audio`, "Content": whatever it is, it is not text
        elif isinstance(value, str):
            counted += _foreign(name, value)
    return counted


def _parts(value: Any) -> int:
    """Texts, numbers (tokens) and known parts of text are none."""
    if isinstance(value, list):
        return sum(map(_parts, value))
    return _part(value) if isinstance(value, dict) else 0


def _part(part: dict[str, Any]) -> int:
    kind = part.get("type")
    if kind is None and "role" in part:  # a message among the items of a Responses request may leave its type out
        kind = "message"
    known = _KINDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        return 1
    counted = 0
    for name, value in part.items():
        if name not in known:  # "image_url" or "Type" beside it: some upstreams look there first
            counted += 1 if isinstance(value, str | dict | list) and value else 0
        elif name in _READ:
            counted += _parts(value)
    return counted


def _foreign(name: str, value: Any) -> int:
    if not value or not isinstance(value, str | dict | list):
        return 0
    if _TELLING_NAME.search(name):
        return 1
    if isinstance(value, str):
        return int(_PACKED.match(value) is not None)
    if isinstance(value, list):
        return sum(_foreign("", inner) for inner in value)
    counted = 0
    for key, inner in value.items():
        if key.strip().casefold() == "type" and isinstance(inner, str):
            counted += int(inner not in _KINDS and inner not in _SCHEMA_KINDS)
        else:
            counted += _foreign(key, inner)
    return counted
