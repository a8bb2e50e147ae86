"""The end of a log whose worker died: what was acknowledged is kept, what was open is told.

Done by the shipper's process for every epoch whose lock can be taken. Each step may be the last one before a crash;
running again finishes it:

 1. scan the segments that are still here; the oldest begins with the exchanges that were open then;
 2. write one more segment: ``log.recovered`` and an ``interrupted`` outcome for each open exchange; make it durable
    under its final name. A crash before: nothing has changed. After: it is found, and not written again;
 3. cut the damaged end off the last segment and seal it.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ext_proc.audit import frames, segments
from ext_proc.audit.record import build_leaf, instant

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


def recover(folder: Path, now: datetime) -> bool:
    """End the epoch in ``folder`` if its worker is dead. Is it dead (and therefore complete now)?"""
    lock = segments.take_lock(folder)
    if lock is None:
        return False
    try:
        _finish(folder, now)
    finally:
        os.close(lock)
    return True


def _finish(folder: Path, now: datetime) -> None:
    # Step 1
    (folder / segments.SPARE).unlink(missing_ok=True)
    for leftover in folder.glob("*.tmp"):
        leftover.unlink()
    paths = sorted([*folder.glob(f"*{segments.SEALED}"), *folder.glob(f"*{segments.WRITING}")])
    scans = {path: frames.scan(path.read_bytes()) for path in paths}
    torn = [path for path in paths if path.suffix == segments.WRITING]
    if not _is_ended(scans):
        dropped = sum(scans[path].dropped_bytes for path in torn)
        _write_end(folder, scans, dropped, now)
    # Step 3
    for path in torn:
        if not any(frame.type == frames.LEAF for frame in scans[path].frames):
            path.unlink()
        else:
            os.truncate(path, scans[path].good_bytes)
            path.rename(path.with_suffix(segments.SEALED))
    if torn:
        segments.sync_folder(folder)


def _is_ended(scans: dict[Path, frames.Scan]) -> bool:
    """Nothing was ever acknowledged, or everything that was is followed by an end."""
    found = [frame for scan in scans.values() for frame in scan.frames]
    return not found or any(_kind(frame) in ("log.close", "log.recovered") for frame in found)


def _still_open(scans: dict[Path, frames.Scan]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    is_first = True
    for scan in scans.values():
        for frame in scan.frames:
            if frame.type == frames.CARRY:
                if is_first:
                    found.update({one["exchange_id"]: one for one in frame.carried})
                continue
            leaf = json.loads(frame.leaf)
            if leaf["kind"] == "inference.intent":
                found[leaf["exchange_id"]] = {"exchange_id": leaf["exchange_id"], "intent_sequence": frame.sequence}
            elif leaf["kind"] == "inference.outcome":
                found.pop(leaf["exchange_id"], None)
        is_first = False
    return list(found.values())


def _write_end(folder: Path, scans: dict[Path, frames.Scan], dropped: int, now: datetime) -> None:
    """Step 2."""
    still_open = _still_open(scans)
    last = [frame for scan in scans.values() for frame in scan.frames][-1]
    first = last.sequence + (1 if last.type == frames.LEAF else 0)
    origin = last.origin or json.loads(last.leaf)["origin"]
    told: list[tuple[str, dict[str, Any]]] = [
        (
            "log.recovered",
            {"last_good_sequence": first - 1, "dropped_bytes": dropped, "interrupted": len(still_open)},
        )
    ]
    told += [
        (
            "inference.outcome",
            {
                "exchange_id": one["exchange_id"],
                "intent_sequence": one["intent_sequence"],
                "outcome": {
                    "status": "interrupted",
                    "http_status": None,
                    "code": "worker_died",
                    "detail": None,
                    "released_bytes": 0,
                    "is_inspected": False,
                },
                "time": {"recorded": instant(now)},
                "payloads": [],
            },
        )
        for one in still_open
    ]
    data = b"".join(
        frames.encode_leaf(
            first + index,
            build_leaf(kind, origin=origin, sequence=first + index, at=now, fields=fields),
            (),
        )
        for index, (kind, fields) in enumerate(told)
    )
    temporary = folder / "recovery.tmp"
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / segments.name_of(first, segments.SEALED))
    segments.sync_folder(folder)


def _kind(frame: frames.Frame) -> str:
    return str(json.loads(frame.leaf)["kind"]) if frame.type == frames.LEAF else "carry"
