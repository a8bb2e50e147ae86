"""One way to tell people: what `courier` needs of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ext_proc.approval.channels.message import Event, Message


class Undelivered(Exception):
    """The message did not get there, or nobody knows. ``word``: why, a stable word of ours with at most a number.

    ``is_final``: it never will. ``after_seconds``: they asked not to be tried again earlier.
    """

    def __init__(self, word: str, *, is_final: bool = False, after_seconds: float = 0.0) -> None:
        super().__init__(word)
        self.word = word
        self.is_final = is_final
        self.after_seconds = after_seconds


class Channel(Protocol):
    """A way out. ``kind`` as records have it. Of one event loop; everything that can go wrong is `Undelivered`.

    ``digests``: events of which many can be told in one message. ``updates``: what is told second changes the first
    message, so it needs that one's reference; without any there is nothing to tell.
    """

    name: str
    kind: str
    digests: frozenset[Event]
    updates: bool

    async def send(self, message: Message) -> str | None:
        """Tell it: what the channel calls the message, if there is a use for that.

        Raises:
            Undelivered: it did not get there.
        """
        ...
