"""When something is to be done again, by a clock that nobody sets: one of years ahead, put right, must not end it."""

from __future__ import annotations

from time import monotonic


class Due:
    """Due at once, and then whenever `again_in` says."""

    def __init__(self) -> None:
        self._at = monotonic()

    @property
    def is_now(self) -> bool:
        """Is it time?"""
        return monotonic() >= self._at

    def again_in(self, seconds: float) -> None:
        """Not before so long from now."""
        self._at = monotonic() + seconds
