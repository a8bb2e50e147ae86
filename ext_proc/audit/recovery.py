"""The end of a log whose worker died: what was acknowledged is kept, what was open is told.

Done by the shipper's process for every epoch whose lock can be taken. Each step may be the last one before a crash;
running again finishes it:

 1. scan the segments that are still here, one at a time. A carry frame says which exchanges were not over when its
    segment began, so what was shipped is not needed;
 2. write ``log.recovered``, the parts of streamed answers that no leaf tells of, an ``interrupted`` outcome for each
    open exchange, and for each outcome that tells of an answer while nothing tells that it was given that nobody knows
    (L7); durable under a temporary name;
 3. mark the log as ended. From here on nobody writes another end, even if this one is shipped and freed before its
    elders are;
 4. give the end its name;
 5. put the damaged end of a segment aside (it may be a torn write that nobody was told of, or a record that the disk
    spoilt: a person must look), cut it off, and seal the segment.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ext_proc import files
from ext_proc.audit import frames, segments
from ext_proc.audit.record import PART_PAYLOADS_MAX, build_leaf, claims_release, instant
from ext_proc.errors import IntegrityError
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    _Words = tuple[str, dict[str, Any], tuple[bytes, ...]]

_END: Final = "recovery.tmp"
_PART_PAYLOADS: Final = 2
"""Of a part: what came, and what was to be released."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A log that is complete. ``set_aside``: files with what could not be read."""

    set_aside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndedLog:
    """What a log that nobody writes any more still tells of who passed: exchanges whose intent is in it, from
    ``first_sequence`` on. What was before that is in the store, and not looked at here.
    """

    origin: str
    first_sequence: int
    intents: frozenset[str]


@dataclass(slots=True)
class _Told:
    """What the segments that are still here tell of the log."""

    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    parts: dict[str, list[frames.Frame]] = field(default_factory=dict)
    """Of the open ones: parts of a streamed answer that no leaf tells of."""
    untaken: dict[str, dict[str, Any]] = field(default_factory=dict)
    origin: str = ""
    next_sequence: int = 0
    first_sequence: int | None = None
    intents: set[str] = field(default_factory=set)
    is_ended: bool = False

    def hear(self, frame: frames.Frame) -> None:
        """The next frame."""
        if self.first_sequence is None:
            self.first_sequence = frame.sequence
        if frame.type == frames.CARRY:
            self.intents.update(one["exchange_id"] for one in frame.carried)
            self.open = {one["exchange_id"]: one for one in frame.carried}
            self.parts = {}  # what is still wanted of them follows
            self.untaken = {one["exchange_id"]: one for one in frame.untaken}
            self.origin, self.next_sequence = frame.origin, frame.sequence
            return
        if frame.type == frames.ENDED:
            self.untaken = {
                name: one for name, one in self.untaken.items() if one["outcome_sequence"] not in frame.ended
            }
            return
        leaf = json.loads(frame.leaf)
        if frame.type == frames.PART:
            self.open[leaf["exchange_id"]]["part"] = leaf["part"]
            self.parts.setdefault(leaf["exchange_id"], []).append(frame)
            return
        self.origin, self.next_sequence = leaf["origin"], frame.sequence + 1
        match leaf["kind"]:
            case LeafKind.INFERENCE_INTENT:
                told = {"exchange_id": leaf["exchange_id"], "intent_sequence": frame.sequence}
                self.open[leaf["exchange_id"]] = told
                self.intents.add(leaf["exchange_id"])
            case LeafKind.INFERENCE_PART:
                self.open[leaf["exchange_id"]]["part"] = leaf["part"]
                self.parts.pop(leaf["exchange_id"], None)
            case LeafKind.INFERENCE_OUTCOME | LeafKind.INFERENCE_UNDELIVERED:
                self.open.pop(leaf["exchange_id"], None)
                self.parts.pop(leaf["exchange_id"], None)
                self.untaken.pop(leaf["exchange_id"], None)
                if claims_release(leaf["kind"], leaf):
                    told = {"exchange_id": leaf["exchange_id"], "outcome_sequence": frame.sequence}
                    self.untaken[leaf["exchange_id"]] = told
            case LeafKind.LOG_CLOSE | LeafKind.LOG_RECOVERED:
                self.is_ended = True
            case _:
                pass


def recover(folder: Path, now: datetime, on_end: Callable[[EndedLog], None] = lambda _: None) -> Recovered | None:
    """End the epoch in ``folder`` if its worker is dead. None: it lives.

    Args:
        folder: the epoch's.
        now: the time.
        on_end: told of the log before it is marked as ended, so at least once. Must not raise.

    Raises:
        OSError: the disk does not let us; run it again.
        IntegrityError: a frame that checks holds what we never write.
    """
    lock = segments.take_lock(folder)
    if lock is None:
        return None
    try:
        return _finish(folder, now, on_end)
    except (ValueError, LookupError, TypeError, AttributeError):
        raise IntegrityError("log holds what is not a record") from None
    finally:
        os.close(lock)


def reach_of(folder: Path, shipped: int) -> int:
    """How many records of the log this disk knows of: what its segments hold; if there are none, what was shipped.

    Raises:
        OSError: the disk does not let us.
    """
    reach = 0
    for path in sorted([*folder.glob(f"*{segments.SEALED}"), *folder.glob(f"*{segments.WRITING}")]):
        for frame in frames.scan(path.read_bytes()).frames:
            reach = max(reach, frame.sequence + (frame.type == frames.LEAF))
    return reach or shipped


def forget_end(folder: Path) -> None:
    """An end that has no name yet gets none."""
    (folder / _END).unlink(missing_ok=True)


def _finish(folder: Path, now: datetime, on_end: Callable[[EndedLog], None]) -> Recovered:
    for leftover in (segments.SPARE, "spare.tmp"):
        (folder / leftover).unlink(missing_ok=True)
    if not (folder / segments.ENDED).exists():
        forget_end(folder)
        _end(folder, now, on_end)
    if (folder / _END).exists():
        _name_end(folder)
    set_aside: list[str] = []
    for path in sorted(folder.glob(f"*{segments.WRITING}")):
        set_aside += _seal(path)
    return Recovered(tuple(set_aside))


def _end(folder: Path, now: datetime, on_end: Callable[[EndedLog], None]) -> None:
    """Steps 1 to 3."""
    told = _Told()
    dropped = 0
    for path in sorted([*folder.glob(f"*{segments.SEALED}"), *folder.glob(f"*{segments.WRITING}")]):
        scan = frames.scan(path.read_bytes())
        dropped += scan.dropped_bytes if path.suffix == segments.WRITING else 0
        for frame in scan.frames:
            told.hear(frame)
    if told.origin and not told.is_ended:
        with (folder / _END).open("wb") as file:
            file.write(_last_words(told, dropped, now))
            file.flush()
            os.fsync(file.fileno())
    if told.origin:
        on_end(EndedLog(told.origin, told.first_sequence or 0, frozenset(told.intents)))
    segments.mark_ended(folder)


def _last_words(told: _Told, dropped: int, now: datetime) -> bytes:
    first = told.next_sequence
    said: list[_Words] = []
    for one in told.open.values():
        said += _parts(told.parts.get(one["exchange_id"], []), now)
        said.append((LeafKind.INFERENCE_OUTCOME, _interrupted(one, now), ()))
    for one in told.untaken.values():
        fields = {**one, "delivery": "unknown", "time": {"recorded": instant(now)}, "payloads": []}
        said.append((LeafKind.INFERENCE_UNDELIVERED, fields, ()))
    counts = {
        "last_good_sequence": first - 1,
        "dropped_bytes": dropped,
        "interrupted": len(told.open),
        "parts": len(said) - len(told.open) - len(told.untaken),
        "undelivered": len(told.untaken),
    }
    said.insert(0, (LeafKind.LOG_RECOVERED, counts, ()))
    return b"".join(
        frames.encode_leaf(
            first + index,
            build_leaf(kind, origin=told.origin, sequence=first + index, at=now, fields=fields),
            ciphertexts,
        )
        for index, (kind, fields, ciphertexts) in enumerate(said)
    )


def _parts(parts: list[frames.Frame], now: datetime) -> Iterator[_Words]:
    """Leaves for what was durable and only in frames: as many at a time as a leaf has room for."""
    most = PART_PAYLOADS_MAX // _PART_PAYLOADS
    for at in range(0, len(parts), most):
        some = parts[at : at + most]
        every = [json.loads(frame.leaf) for frame in some]
        fields = {
            "exchange_id": every[-1]["exchange_id"],
            "intent_sequence": every[-1]["intent_sequence"],
            "part": every[-1]["part"],
            "time": {"recorded": instant(now)},
            "payloads": [payload for one in every for payload in one["payloads"]],
        }
        yield LeafKind.INFERENCE_PART, fields, tuple(c for frame in some for c in frame.ciphertexts)


def _interrupted(one: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The outcome. Of a streamed answer, the last part may have been released or not: nobody knows any more (L7)."""
    part = one.get("part")
    outcome = {
        "status": "interrupted",
        "http_status": None,
        "code": "worker_died",
        "detail": None,
        "released_bytes": part["released_bytes"] if part else 0,
        "is_inspected": part is not None,
    }
    if part:
        outcome["covered_bytes"] = part["covered_bytes"]
    return {
        "exchange_id": one["exchange_id"],
        "intent_sequence": one["intent_sequence"],
        "outcome": outcome,
        "time": {"recorded": instant(now)},
        "payloads": [],
    }


def _name_end(folder: Path) -> None:
    """Step 4."""
    words = frames.scan((folder / _END).read_bytes()).frames
    (folder / _END).rename(folder / segments.name_of(words[0].sequence, segments.SEALED))
    files.sync_folder(folder)


def _seal(path: Path) -> list[str]:
    """Step 5."""
    content = path.read_bytes()
    scan = frames.scan(content)
    set_aside: list[str] = []
    if scan.dropped_bytes:
        aside = path.with_suffix(segments.QUARANTINE)
        with aside.open("wb") as file:
            file.write(content[scan.good_bytes : scan.good_bytes + scan.dropped_bytes])
            file.flush()
            os.fsync(file.fileno())
        files.sync_folder(path.parent)
        set_aside.append(aside.name)
    if any(frame.type == frames.LEAF for frame in scan.frames):
        with path.open("r+b") as file:
            file.truncate(scan.good_bytes)
            os.fsync(file.fileno())
        path.rename(path.with_suffix(segments.SEALED))
    else:
        path.unlink()
    files.sync_folder(path.parent)
    return set_aside
