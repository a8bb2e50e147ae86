"""The files of one log on the disk: the segment that is written, a spare for the next one, and those that are sealed.

A file is preallocated before anything is promised of it, so that a full disk refuses the next record and not the one
that was admitted. The writing thread's own, but for what others ask: ``is_full``, ``is_nearly_full``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final

from ext_proc import files
from ext_proc.audit import segments

if TYPE_CHECKING:
    from pathlib import Path

RESERVED_BYTES: Final = 4096
"""Kept free in each segment: a log can always be closed, full disk or not."""
LOOK_AGAIN_SECONDS: Final = 0.25
"""How often to try for a spare file while the disk is full."""


@dataclass(slots=True)
class Segment:
    """The file that is written: ``offset`` bytes of ``size_bytes`` so far."""

    path: Path
    descriptor: int
    size_bytes: int
    offset: int = 0
    has_leaf: bool = False
    opened_at: float = field(default_factory=monotonic)


class SegmentFiles:
    """The files of one epoch. Every method may raise `OSError`: after it nobody knows what is on the disk."""

    def __init__(self, folder: Path, segment_bytes: int, ops: segments.FileOps) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._ops = ops
        self._looked_at = 0.0  # when a spare file could not be had
        self.is_full = False
        """No file could be had for another segment."""
        self._ops.allocate(folder / segments.SPARE, segment_bytes)
        self.current = self._opened(0)

    @property
    def is_nearly_full(self) -> bool:
        """No space for another segment, and half of this one is for records that are small."""
        return self.is_full and self.current.offset > self.current.size_bytes // 2

    def fits(self, size_bytes: int) -> bool:
        """Has the current segment so much left?"""
        return self.current.offset + size_bytes <= self.current.size_bytes

    def write(self, frames: bytes) -> None:
        """Behind what is there. Not durable before `sync`."""
        self._ops.write(self.current.descriptor, frames, self.current.offset)
        self.current.offset += len(frames)

    def sync(self) -> None:
        """All that was written is on the disk when this returns."""
        self._ops.sync(self.current.descriptor)

    def extend(self, size_bytes: int) -> bool:
        """Make the current segment so large, if it is not. So many exchanges may be open that they take the place of
        its first record.
        """
        if size_bytes > self.current.size_bytes:
            try:
                self._ops.extend(self.current.descriptor, size_bytes)
            except OSError:
                self.is_full = True
                return False
            self.current.size_bytes = size_bytes
        return True

    def has_spare(self, carry_bytes: int = 0) -> bool:
        """Is there a preallocated file for the next segment? Without one only what fits in this segment is taken.

        Args:
            carry_bytes: what it begins with. So much may go on in it that it must be larger than others.
        """
        size_bytes = max(self._segment_bytes, carry_bytes + RESERVED_BYTES)
        spare = self._folder / segments.SPARE
        if not spare.exists() or spare.stat().st_size < size_bytes:
            if self.is_full and monotonic() - self._looked_at < LOOK_AGAIN_SECONDS:
                return False
            temporary = self._folder / "spare.tmp"
            try:
                self._ops.allocate(temporary, size_bytes)
                temporary.rename(spare)
            except OSError:
                temporary.unlink(missing_ok=True)
                self.is_full, self._looked_at = True, monotonic()
                return False
        self.is_full = False
        return True

    def begin_next(self, first: int, carry: bytes) -> None:
        """Another segment, whose next leaf has the number ``first``; the spare is there, and large enough.

        A crash on the way leaves two that are not sealed, and recovery reads both.
        """
        # Or the carry could outlive records that it counts, and the log's numbers would have a hole after a power cut.
        self.sync()
        old, self.current = self.current, self._opened(first)
        self._ops.write(self.current.descriptor, carry, 0)
        self.sync()
        self.current.offset = len(carry)
        self._seal(old)

    def end(self) -> None:
        """Nothing more is written."""
        segments.mark_ended(self._folder)
        self._seal(self.current)

    def _opened(self, first: int) -> Segment:
        """The spare becomes the segment; a crash in between leaves an empty one."""
        path = self._folder / segments.name_of(first, segments.WRITING)
        (self._folder / segments.SPARE).rename(path)
        descriptor = os.open(path, os.O_RDWR)
        segment = Segment(path, descriptor, os.fstat(descriptor).st_size)
        files.sync_folder(self._folder)
        self.has_spare()
        return segment

    def _seal(self, segment: Segment) -> None:
        """Cut off its unused end, and rename it: from here on it may be shipped and freed."""
        os.ftruncate(segment.descriptor, segment.offset)
        self._ops.sync(segment.descriptor)
        os.close(segment.descriptor)
        segment.path.rename(segment.path.with_suffix(segments.SEALED))
        files.sync_folder(self._folder)
