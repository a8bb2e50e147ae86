"""The hall, pure: one session per exchange turns events into effects. No I/O, no clock, no randomness."""

from ext_proc.phases.session import Session
from ext_proc.phases.streaming import StreamingSession

__all__ = ["Session", "StreamingSession"]
