"""Which workers are silent: by the clock of whoever listens, and by nobody else's.

While exchanges wait in it, a worker writes another text every few seconds (`Register.beats`). Whoever has seen the same
one for long enough takes that worker for dead. So it does not matter how far replicas' clocks lie apart, or whose is
wrong, or that a database which took over from another has a third one.

What could not be heard is no silence. While the database was away nobody could say anything, so a look that comes late,
for that or any other reason, begins anew: everybody has the whole time again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

BEAT_SECONDS: Final = 5.0
"""How often a worker in which exchanges wait says that it lives, and looks who else does."""
SILENT_SECONDS: Final = 20.0
"""A worker that was not heard of for so long does not hold anything any more."""
_LATE_SECONDS: Final = 1.5 * BEAT_SECONDS
"""Between two looks of which the second is late. A database that was away for less kept nobody silent for long enough:
one beat before, this, and one pause after it are fewer seconds than those above."""


class Silence:
    """What one process has heard of the workers."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[str, float]] = {}
        self._looked_at: float | None = None

    def after(self, beats: Mapping[str, str], at: float) -> dict[str, str]:
        """Those that are silent, with what they said last.

        Args:
            beats: what each worker said last (`Register.beats`).
            at: when that was looked up, in seconds of a clock that only goes on.
        """
        is_late = self._looked_at is None or at - self._looked_at > _LATE_SECONDS
        heard = {} if is_late else self._since
        self._since = {
            origin: heard[origin] if origin in heard and heard[origin][0] == said else (said, at)
            for origin, said in beats.items()
        }
        self._looked_at = at
        return {origin: said for origin, (said, since) in self._since.items() if at - since >= SILENT_SECONDS}
