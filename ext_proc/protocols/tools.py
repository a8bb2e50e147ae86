"""Tools: what a caller offers, what a model asks for, and which results come back. Pure.

A call and its result are in two exchanges. What joins them is the id that the answer gave the call
(``tool_calls[].id``, ``tool_use.id``, ``call_id``): the request that brings the result repeats it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ext_proc.model import ToolCall
from ext_proc.protocols import shapes
from ext_proc.protocols.json_text import render

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMED_AT: Final = ((), ("function",), ("custom",))
_OUTPUT: Final = "_output"
_RESULT: Final = "_result"
_ID_MAX: Final = 256
"""No API's ids are longer; a caller's may be of any length."""


class Asked(NamedTuple):
    """A tool call as it stands in an answer; ``channel`` is the path of its arguments."""

    name: str
    arguments: str
    channel: str
    call_id: str

    def told(self) -> ToolCall:
        """As it goes on record: the digest of the arguments instead of the arguments."""
        digest = hashlib.sha256(self.arguments.encode(errors="surrogatepass")).hexdigest()
        return ToolCall(self.name, digest, self.channel, self.call_id)


def said_in(value: Any) -> str:
    """Arguments as they are digested: a text as it stands, another value as compact JSON; "" where there is none."""
    if value is None:
        return ""
    return value if isinstance(value, str) else render(value)


def declared_tools(body: Any) -> frozenset[str]:
    """Names of the tools that the caller offers to the model."""
    offered = [*shapes.items(body, "tools"), *shapes.items(body, "functions")]
    return frozenset(name for tool in offered for place in _NAMED_AT if (name := shapes.text(tool, *place, "name")))


def results_sent(body: Any) -> tuple[str, ...]:
    """Ids of the calls whose results a request brings, each once. Most callers repeat earlier turns."""
    found = (*_of_messages(body), *_of_items(body))
    return tuple(dict.fromkeys(one for one in found if one and len(one) <= _ID_MAX))


def _of_messages(body: Any) -> Iterator[str | None]:
    """Chat completions (role ``tool``), Anthropic's messages (blocks ``tool_result`` and the like)."""
    for message in shapes.items(body, "messages"):
        if shapes.text(message, "role") == "tool":
            yield shapes.text(message, "tool_call_id")
        for block in shapes.items(message, "content"):
            if (shapes.text(block, "type") or "").endswith(_RESULT):
                yield shapes.text(block, "tool_use_id")


def _of_items(body: Any) -> Iterator[str | None]:
    """The Responses API (items ``function_call_output`` and the like)."""
    for item in shapes.items(body, "input"):
        if (shapes.text(item, "type") or "").endswith(_OUTPUT):
            yield shapes.text(item, "call_id")
