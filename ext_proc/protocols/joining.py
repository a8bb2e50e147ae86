"""Text that comes in pieces, one in each event of a stream: pieces of the same place are one text. Pure."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from ext_proc.protocols.document import pointer
from ext_proc.protocols.json_text import DEPTH_MAX, JsonError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.protocols.document import Document, Place

Found = dict[tuple[str | int, ...], list["Place"]]
"""Pieces by the place in their event: keys, and ``index`` where an item has one, else its position."""

_FIRST_PIECE: Final = "content_block"
"""Anthropic's first piece of a block stands here, the others under ``delta``."""


def collect(document: Document, value: Any, path: tuple[str | int, ...], found: Found) -> None:
    """Add the strings in ``value`` that no channel has yet.

    Raises:
        JsonError: nested too deeply.
    """
    if len(path) > DEPTH_MAX:
        raise JsonError("nested too deeply")
    if isinstance(value, dict):
        for key in value:
            name = "delta" if key == _FIRST_PIECE else key
            collect_at(document, value, key, (*path, name), found)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            index = item.get("index") if isinstance(item, dict) else None
            collect_at(document, value, position, (*path, index if isinstance(index, int) else position), found)


def collect_at(document: Document, holder: Any, key: Any, path: tuple[str | int, ...], found: Found) -> None:
    """`collect` of ``holder[key]``, which may be a string itself.

    Raises:
        JsonError: nested too deeply.
    """
    if not isinstance(holder[key], str):
        collect(document, holder[key], path, found)
    elif not document.is_claimed(holder, key):
        found.setdefault(path, []).append((holder, key, ()))


def add_in_a_row(document: Document, texts: Sequence[Sequence[Place]], path: str, context: str) -> None:
    """Make one channel of the pieces of several texts that a reader reads in a row: blocks and parts of one message.

    Each could also be read apart.
    """
    ends = accumulate(sum(len(holder[key]) for holder, key, _ in pieces) for pieces in texts)
    document.add_fragments([piece for pieces in texts for piece in pieces], path, context, cuts=tuple(ends))


def add_joined(document: Document, found: Found, whole: Sequence[str] = (), as_json: Sequence[str] = ()) -> None:
    """Make channels of what was collected.

    Args:
        document: gets them.
        found: see `collect`.
        whole: names of fields that the protocol says are one text. Others could also be read apart, and are left
            to be read apart only where every event says the same (an id, a model).
        as_json: names of fields whose pieces are one JSON text.
    """
    for path, pieces in found.items():
        name = path[-1]
        shown = "".join(f"/{pointer(part) if isinstance(part, str) else part}" for part in path)
        context = name if isinstance(name, str) else ""
        if name in as_json:
            document.add_fragments(pieces, shown, context, is_json=True)
        elif name in whole:
            document.add_fragments(pieces, shown, context)
        elif len({holder[key] for holder, key, _ in pieces}) > 1:
            document.add_fragments(pieces, shown, context, has_cuts=True)
