"""An event of ours that brings what was held of a text: like the last one of that text, less everything else. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ext_proc.protocols.streaming.channels import Place

_OF_EVENT: Final = frozenset(
    {
        "content_index", "created", "created_at", "event", "id", "index", "item_id", "model", "object", "output_index",
        "provider", "request_id", "response_id", "sequence_number", "service_tier", "summary_index",
        "system_fingerprint", "type",
    }
)  # fmt: skip
"""What every event of a stream says of itself."""

_OF_ITEM: Final = frozenset({"index", "type"})
"""Further in, clients join what they are told twice: a role, the name of a tool."""


def tail_of(event: Any, where: Place, tail: str) -> Any:
    """An event with ``tail`` at ``where`` (keys, and the index of items that have one), made of ``event``."""
    made = _part(event, where, tail, _OF_EVENT)
    if isinstance(event, dict) and isinstance(made, dict):
        for name in ("choices", "logprobs"):  # clients look for these in every event
            if isinstance(event.get(name), list) and name not in made:
                made[name] = []
    return made


def _part(node: Any, where: Place, tail: str, kept: frozenset[str]) -> Any:
    if not where:
        return tail
    part, further = where[0], where[1:]
    if isinstance(part, str):
        made = (
            {key: value for key, value in node.items() if key in kept and not isinstance(value, dict | list)}
            if isinstance(node, dict)
            else {}
        )
        if isinstance(node, dict) and "finish_reason" in node:
            made["finish_reason"] = None
        made[part] = _part(node.get(part) if isinstance(node, dict) else None, further, tail, _OF_ITEM)
        return made
    return [_part(_item(node, part), further, tail, _OF_ITEM)]


def _item(node: Any, index: int) -> Any:
    if not isinstance(node, list):
        return None
    for item in node:
        if isinstance(item, dict) and item.get("index") == index:
            return item
    return node[index] if 0 <= index < len(node) else None
