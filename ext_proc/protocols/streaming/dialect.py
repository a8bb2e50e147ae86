"""What a protocol's events mean: which string is a piece of which text, and when a text is over. Pure.

A *shape* is a place with ``*`` for every item of a list: ``choices/*/delta/content``. What no dialect knows is a text
in pieces too: whoever reads the events may put it together.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from ext_proc.protocols.document import Facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ext_proc.protocols.streaming.channels import Place
    from ext_proc.protocols.tools import Asked

ALL: Final[Place] = ()
"""Everything begins with it: every text is over."""

LABELS: Final = frozenset(
    {
        "call_id", "container_id", "created_at", "done_reason", "event", "expires_at", "file_id", "finish_reason",
        "id", "item_id", "matched_stop", "media_type", "model", "name", "native_finish_reason", "object", "phase",
        "previous_response_id", "provider", "reason", "request_id", "response_id", "role", "server_label",
        "service_tier", "status", "stop_reason", "system_fingerprint", "tool_use_id", "type",
    }
)  # fmt: skip
"""Keys whose values are names and ids, if they look like some."""

_BEGUN: Final = "content_block/"
_DELTA: Final = "delta"

PADDING: Final = "obfuscation"
"""Random characters that hide how long a piece is: ours are as many, and say nothing."""


DROPPED: Final = "logprobs"
"""Tokens with their odds spell the text once more, and their bytes a third time: nobody can mask those in step."""


class Treatment(Enum):
    """What is done about a string."""

    TEXT = auto()
    """A piece of a text."""
    ARGUMENTS = auto()
    """A piece of a JSON text."""
    WHOLE = auto()
    """A text that the protocol says is not in pieces."""
    WHOLE_ARGUMENTS = auto()
    """A JSON text that is not in pieces."""
    OPAQUE = auto()
    """Packed bytes, if they look like some."""
    EMPTY = auto()
    """Where a text begins that deltas will say: readers put what stands here before those, and nobody may say it."""
    UNKNOWN = auto()
    """Nobody says: a piece of a text, which ends when the stream does."""


class Dialect:
    """One stream's protocol; this one knows nothing of it (``generic``).

    Attributes:
        is_json: must every event be JSON?
        repeats: does it say texts a second time?
        is_named: is an event's name on the wire its type?
        facts: what the stream said of itself so far.
        tools: the tools that it asked for, by the place of their arguments' pieces; with arguments where an event
            said them whole.
    """

    is_json = False
    repeats = False
    is_named = False

    def __init__(self) -> None:
        self.facts = Facts()
        self.tools: dict[Place, Asked] = {}

    def enter(self, body: Any, kind: str = "") -> None:
        """A new event, and its kind where events are named by it, before anything in it is changed: learn from it."""

    def leave(self, body: Any) -> None:
        """The same event as it goes out: learn what it asks for."""

    def treatment(self, shape: str) -> Treatment:
        """What to do about the string of this shape in the present event."""
        del shape
        return Treatment.UNKNOWN

    def place(self, shape: str, place: Place) -> Place:
        """Where the text is that the string belongs to. A block's first piece and its deltas are one text."""
        return (_DELTA, *place[1:]) if shape.startswith(_BEGUN) else place

    def reads_on(self, place: Place) -> Place | None:
        """What texts have in common that a reader reads as one, in the order in which they begin: blocks and parts of
        one message. None: nobody reads this text on from another.
        """
        del place
        return None

    def whole_at(self, shape: str, place: Place) -> Place | None:
        """Where a text that is whole is held together with the one that was whole there before; None for nowhere."""
        del shape
        return place

    def whole(self, body: Any) -> Mapping[Place, Place]:
        """Places in the event, and where in a whole answer what stands there (and below) would be."""
        del body
        return {}

    def closing(self, body: Any) -> Sequence[Place]:
        """What ends with this event: every text whose place begins with one of these."""
        return (ALL,) if isinstance(body, dict) and body.get("done") is True else ()

    def carrier(self, place: Place, tail: str) -> tuple[str, Any] | None:
        """Name and body of an event that brings ``tail``; None for one like the last of the channel."""
        del place, tail
        return None

    def numbered(self, body: Any, *, is_ours: bool) -> None:
        """Number the event, if this protocol's are; ``is_ours`` if the upstream did not send it."""

    def next_number(self) -> int:
        """The number of an event of ours that is the last one."""
        return 0
