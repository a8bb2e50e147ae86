"""Keys of answers that are nearly the protocol's: one reader takes them for it, another does not. Pure.

Go's JSON takes ``Content`` for ``content``; JavaScript reads ``{"0": ...}`` by index as it reads a list. Such an answer
says more to those clients than to us: it is refused, as `parameters.refuse_ambiguous_keys` refuses such a request.
Only where the protocol names the keys: a tool's arguments may have any.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ext_proc.protocols.json_text import JsonError


class _Node(NamedTuple):
    """The keys of an object, and without their case; what is in those that hold objects, or lists of objects."""

    names: frozenset[str]
    holders: frozenset[str]
    folded: frozenset[str]
    objects: dict[str, _Node]
    lists: dict[str, _Node]


def _node(names: str, objects: dict[str, _Node] | None = None, lists: dict[str, _Node] | None = None) -> _Node:
    objects, lists = objects or {}, lists or {}
    every = frozenset({*names.split(), *objects, *lists})
    return _Node(every, frozenset({*objects, *lists}), frozenset(map(str.casefold, every)), objects, lists)


_FUNCTION: Final = _node("name arguments")
_CALL: Final = _node("index id type", {"function": _FUNCTION, "custom": _node("name input")})
_MESSAGE: Final = _node(
    "role content reasoning reasoning_content refusal",
    {"function_call": _FUNCTION, "audio": _node("id data transcript")},
    {"tool_calls": _CALL},
)
_CHOICE: Final = _node("index text finish_reason logprobs", {"delta": _MESSAGE, "message": _MESSAGE})
_OPENAI: Final = _node("id model", lists={"choices": _CHOICE})

_BLOCK: Final = _node("type text thinking signature data id name input content citations")
_ANSWER: Final = "id type role model stop_reason"
_ANTHROPIC: Final = _node(
    f"{_ANSWER} index",
    {
        "message": _node(_ANSWER, lists={"content": _BLOCK}),
        "content_block": _BLOCK,
        "delta": _node("type text thinking partial_json signature citation stop_reason stop_sequence"),
    },
    {"content": _BLOCK},
)

_PART: Final = _node("type text refusal annotations logprobs")
_ITEM: Final = _node(
    "id type role status call_id name arguments input code output", lists={"content": _PART, "summary": _PART}
)
_RESPONSES: Final = _node(
    "id type model delta text refusal arguments input code logprobs sequence_number item_id output_index"
    " content_index summary_index command_index",
    {"response": _node("id model", lists={"output": _ITEM}), "item": _ITEM, "part": _PART},
    {"output": _ITEM},
)

_PROTOCOLS: Final = {
    "openai.chat": _OPENAI,
    "openai.completions": _OPENAI,
    "openai.responses": _RESPONSES,
    "anthropic.messages": _ANTHROPIC,
}


_PIECES: Final = frozenset(
    [
        "content",
        "reasoning",
        "reasoning_content",
        "refusal",
        "text",
        "thinking",
        "arguments",
        "input",
        "partial_json",
        "delta",
    ]
)
"""What clients of a stream join: a number would be joined as its digits, and a list as JavaScript does it."""


def refuse_ambiguous_answer(protocol: str, body: Any) -> None:
    """Refuse an answer, or an event of one, that other readers could take for another one.

    Raises:
        JsonError: a key is one of the protocol's but for its case, or an object stands where a list belongs.
    """
    _refuse(protocol, body, has_pieces=False)


def refuse_ambiguous_event(protocol: str, body: Any) -> None:
    """The same of an event of a stream that is read whole, where pieces of texts must be texts as well.

    Raises:
        JsonError: as above, or a number stands where a piece of a text does.
    """
    _refuse(protocol, body, has_pieces=True)


def _refuse(protocol: str, body: Any, *, has_pieces: bool) -> None:
    node = _PROTOCOLS.get(protocol)
    if node is not None and isinstance(body, dict):
        _look(body, node, has_pieces=has_pieces)


def _look(body: dict[str, Any], node: _Node, *, has_pieces: bool) -> None:
    if not body.keys() <= node.names:  # once for each event of a stream: cheap where nothing is wrong
        for key in body.keys() - node.names:
            if key.casefold() in node.folded:
                raise JsonError("a key is the protocol's but for its case")
    if has_pieces:
        _look_at_pieces(body, node)
    for key in node.holders:
        value = body.get(key)
        if not value:
            continue
        if key in node.lists:
            _look_at_items(value, node.lists[key], has_pieces=has_pieces)
        elif isinstance(value, dict):
            _look(value, node.objects[key], has_pieces=has_pieces)
        elif isinstance(value, list):  # an empty one is PHP's word for an empty object
            raise JsonError("a list stands where the protocol has an object")


def _look_at_items(value: Any, node: _Node, *, has_pieces: bool) -> None:
    if value and isinstance(value, dict):
        raise JsonError("an object stands where the protocol has a list")
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            _look(item, node, has_pieces=has_pieces)


def _look_at_pieces(body: dict[str, Any], node: _Node) -> None:
    for key in body.keys() & node.names & _PIECES:
        said = body[key]
        parts = isinstance(said, list) and all(isinstance(one, dict) for one in said)
        if not (said is None or parts or isinstance(said, str | dict)):
            raise JsonError("a number stands where a piece of a text does")
