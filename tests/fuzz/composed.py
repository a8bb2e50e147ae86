"""Events that no fuzzer comes upon by itself: composed of what protocols say, as a script of bytes has it.

Each byte chooses something: a kind of event, a key, a word. Where the script ends, everything is the first choice.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ext_proc.protocols.streaming.walking import _KNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

KEYS = (*sorted(_KNOWN), "note", "a@b.example", "bytes", "token", "top_logprobs", "encrypted_content", "citations", "")
WORDS = (
    "", "a", "bob", "@example.org", " ", "4111", "1111111111111111", "é", "😀", '"', "\\", "\\u0041", "\n", "\r\n",
    '{"a":"', "bob1234", '"}', '{"key":12345,', "[1e9,", "]", "tru", "e,", "stop", "tool_calls", "2026-01-01T00:00:00Z",
    "gpt-4o-2024-08-06", "call_1234", "[DONE]", "data: x", "\u2028", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo0NTY3ODkw", "x" * 40,
)  # fmt: skip
NUMBERS = (0, 1, 2, 999, 1000, 123456789, 10**9, 4111111111111111, 10**30, -5, 0.5, 1234.5, 1e15, 1e300, -0.0)
TYPES = (
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
    "message_stop", "ping", "error", "response.created", "response.output_item.added", "response.output_item.done",
    "response.content_part.added", "response.content_part.done", "response.output_text.delta",
    "response.output_text.done", "response.function_call_arguments.delta", "response.function_call_arguments.done",
    "response.reasoning_summary_text.delta", "response.refusal.delta", "response.audio.delta",
    "response.mcp_call_arguments.delta", "response.code_interpreter_call_code.delta", "response.completed",
    "response.output_text.annotation.added", "response.image_generation_call.partial_image", "unheard.of",
)  # fmt: skip
KINDS_OF_BLOCK = ("text", "tool_use", "thinking", "redacted_thinking", "server_tool_use", "function_call", "message")
KINDS_OF_DELTA = ("text_delta", "input_json_delta", "thinking_delta", "signature_delta", "citations_delta")
DELTAS = ("content", "reasoning_content", "refusal", "role", "tool_calls", "function_call", "audio", "annotations")
FIELDS_OF_DELTA = ("text", "partial_json", "thinking", "signature", "stop_reason", "stop_sequence", "citation")
DEPTH_MAX = 4


class Script:
    """Bytes as choices."""

    def __init__(self, data: bytes) -> None:
        self._rest = iter(data)
        self.is_over = not data

    def pick(self, options: Sequence[Any]) -> Any:
        """One of them."""
        choice = next(self._rest, None)
        self.is_over = choice is None
        return options[(choice or 0) % len(options)]

    def text(self) -> str:
        """Some words in a row."""
        return "".join(self.pick(WORDS) for _ in range(self.pick(range(5))))

    def value(self, depth: int = 0) -> Any:
        """Anything; mostly text."""
        kind = self.pick(range(9))
        if kind == 5:
            return self.pick(NUMBERS)
        if kind == 6 and depth < DEPTH_MAX:
            return {self.pick(KEYS): self.value(depth + 1) for _ in range(self.pick(range(4)))}
        if kind == 7 and depth < DEPTH_MAX:
            return [self.value(depth + 1) for _ in range(self.pick(range(4)))]
        return self.pick((None, True, False, {}, [])) if kind == 8 else self.text()

    def chat(self) -> dict[str, Any]:
        """A chunk of a chat."""
        key = self.pick(DELTAS)
        said: Any = self.value()
        if key == "tool_calls":
            function = {"name": self.text(), "arguments": said}
            said = [{"index": self.pick(NUMBERS[:4]), "id": self.text(), "function": function}]
        elif key == "function_call":
            said = {"name": self.text(), "arguments": said}
        choice: dict[str, Any] = {"index": self.pick(NUMBERS[:3]), "delta": {key: said}}
        choice |= self.pick(({}, {}, {}, {"finish_reason": "stop"}, {"finish_reason": self.text()}, {"text": "ab"}))
        return {"id": self.pick(WORDS), "choices": [choice]}

    def block(self) -> dict[str, Any]:
        """An event of Anthropic's."""
        made: dict[str, Any] = {"type": self.pick(TYPES), "index": self.pick(NUMBERS[:3])}
        match made["type"]:
            case "content_block_start":
                kind = self.pick(KINDS_OF_BLOCK)
                made["content_block"] = {"type": kind, self.pick(FIELDS_OF_DELTA): self.value(), "name": self.text()}
            case "content_block_delta" | "message_delta":
                made["delta"] = {"type": self.pick(KINDS_OF_DELTA), self.pick(FIELDS_OF_DELTA): self.value()}
            case _:
                made[self.pick(KEYS)] = self.value()
        return made

    def response(self) -> dict[str, Any]:
        """An event of the Responses API."""
        made: dict[str, Any] = {
            "type": self.pick(TYPES),
            "item_id": self.pick(WORDS),
            "output_index": self.pick((0, 1)),
        }
        made |= {"content_index": self.pick((0, 1)), "sequence_number": self.pick(NUMBERS)}
        said = self.value()
        item = {"type": self.pick(KINDS_OF_BLOCK), "name": self.text(), "arguments": said, "content": [{"text": said}]}
        made |= self.pick(
            ({"delta": said}, {"delta": said}, {"text": said}, {"arguments": said}, {"part": {"text": said}},
             {"item": item}, {"response": {"output": [item], "model": "m"}}, {self.pick(KEYS): said})
        )  # fmt: skip
        return made

    def messages(self) -> list[Any]:
        """Messages, choices, items of an output: all with something in parts."""
        parts = [{"type": "text", "text": self.text()} for _ in range(self.pick(range(4)))]
        said = self.pick((parts, parts, self.text(), None))
        call = {"type": "function", "function": {"name": "f", "arguments": self.text()}, "arguments": self.text()}
        made = {"role": "user", "content": said, self.pick(KEYS): self.value(1), "tool_calls": [call]}
        return [made, {"message": made, "index": self.pick(NUMBERS), "logprobs": self.logprobs()}, self.value(2)]

    def logprobs(self) -> Any:
        """The text once more, token by token."""
        tokens = [self.text() for _ in range(self.pick(range(4)))]
        said = [{"token": one, "bytes": list(one.encode()), "logprob": -0.5, "top_logprobs": []} for one in tokens]
        return self.pick(({"content": said, "refusal": None}, {"tokens": tokens, "token_logprobs": [0.1]}, said, None))

    def any_event(self) -> Any:
        """Anything."""
        return {self.pick(KEYS): self.value() for _ in range(self.pick(range(1, 5)))}


def document_of(script: bytes) -> bytes:
    """A whole body."""
    says = Script(script)
    made: dict[str, Any] = says.pick(({}, {"model": "demo"}, {"choices": []}))
    while not says.is_over:
        key = says.pick(("messages", "choices", "content", "output", "input", "logprobs", *KEYS))
        made[key] = says.pick((says.value, says.messages, says.value, says.logprobs))()
    return json.dumps(made, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")


def composed(script: bytes, *, as_lines: bool) -> bytes:
    """A stream of events, as server-sent ones or line by line."""
    says = Script(script)
    out: list[bytes] = []
    while not says.is_over:
        event = says.pick((says.chat, says.block, says.response, says.any_event, says.value))()
        said = json.dumps(event, ensure_ascii=says.pick((True, False))).encode("utf-8", "surrogatepass")
        if as_lines:
            out.append(said + b"\n")
            continue
        before = says.pick((b"", b"", b"", b"event: message\n", b"id: 7\n", b": hello\n", b"id: bob1234\r"))
        out.append(before + says.pick((b"data: %s\n\n", b"data:%s\r\n\r\n", b"data: %s\r\r")) % said)
        out.append(says.pick((b"", b"", b"", b"", b"", b"data: [DONE]\n\n")))
    return b"".join(out)
