"""What is wrong with a policy's sources."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """``row`` is 0 where it is the whole file; ``remedy`` says what to do."""

    code: str
    file: str
    row: int
    text: str
    remedy: str = ""
