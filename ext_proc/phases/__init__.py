"""The hall, pure: one `Session` per exchange turns events into effects. No I/O, no clock, no randomness."""

from ext_proc.phases.session import Session

__all__ = ["Session"]
