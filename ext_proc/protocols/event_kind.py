"""What kind an event of a stream is: its ``type`` says it, and its name on the wire again. Pure.

Clients go by one or by the other. Where both differ, they would put different texts together than we do.
"""

from __future__ import annotations

from typing import Any, Final

from ext_proc.protocols import shapes
from ext_proc.protocols.json_text import JsonError

_NO_KIND: Final = ("", "message")
"""No name, and the one that an event without a name has (WHATWG HTML, section 9.2.6)."""
_ERROR: Final = "error"


def kind_of(body: Any, name: str) -> str:
    """The event's kind; "" if nothing says it.

    Args:
        body: the event.
        name: its name on the wire, "" if none.

    Raises:
        JsonError: its name and its type differ. After an ``error`` nobody reads on, whatever its type is.
    """
    said = shapes.text(body, "type")
    if said is None:
        return "" if name in _NO_KIND else name
    if name not in _NO_KIND and name not in (said, _ERROR):
        raise JsonError("an event's name and its type differ")
    return said
