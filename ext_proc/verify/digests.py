"""The hourly digests of one epoch: their chain, and everything that they say of its objects and records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ext_proc.verify.stamps import Stamps

if TYPE_CHECKING:
    from ext_proc.verify.checkpoints import Checkpoints
    from ext_proc.verify.epoch import Epoch, Part
    from ext_proc.verify.inventory import Inventory, LogObjects
    from ext_proc.verify.run import Run, Small

SCHEMA = "affidavit/digest/v1"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "origin": str,
    "number": int,
    "from": str,
    "to": str,
    "first_sequence": int,
    "size": int,
    "root_hash": str,
    "objects": list,
    "counts": dict,
    "previous_sha256": (str, type(None)),
    "is_last": bool,
    "at": str,
}


class Digests:
    """See above."""

    def __init__(self, run: Run, inventory: Inventory, objects: LogObjects, epoch: Epoch, parts: list[Part]) -> None:
        self._run = run
        self._inventory = inventory
        self._objects = objects
        self._epoch = epoch
        self._parts = parts
        self._starts = {part.events.name.first: index for index, part in enumerate(parts)}
        self._stamps = Stamps(run, objects)
        self._covered = 0
        self._previous: str | None = None
        self._is_last = False

    def check(self, checkpoints: Checkpoints) -> None:
        """All of it."""
        expected = 0
        findings = self._run.findings
        for small in self._run.small(sorted(self._objects.digest, key=_order)):
            key, number = small.item.key, small.item.name.number
            if number < expected:
                findings.add("epoch_forked", key, f"There are two digests with the number {number}.")
                continue
            if number > expected:
                what = f"The digests {expected} to {number - 1} before this one are not there."
                findings.add("digest_missing", key, what)
                self._previous, self._covered = None, -1
            expected = number + 1
            told = self._read(small)
            if told is None:
                self._covered = -1
            else:
                self._compare(key, told, checkpoints)
                self._stamps.check(small, told)
            self._previous = small.sha256
        self._stamps.finish()
        self._finish()

    def _read(self, small: Small) -> dict[str, Any] | None:
        item, run = small.item, self._run
        found = run.fields(small, SCHEMA, _FIELDS)
        if found is None:
            return None
        note, told = found
        if run.signer(item, note, told["origin"]) is None:
            return None
        is_here = (told["from"][:10], told["from"][11:13]) == (item.name.day, item.name.hour)
        if told["origin"] != self._epoch.origin or told["number"] != item.name.number or not is_here:
            what = f"It is the digest {told['number']} of {told['origin']} from {told['from']}."
            run.findings.add("note_replayed", item.key, what)
            return None
        return told

    def _broken(self, key: str, what: str) -> None:
        self._run.findings.add("digest_broken", key, what)

    def _compare(self, key: str, told: dict[str, Any], checkpoints: Checkpoints) -> None:
        first, size = told["first_sequence"], told["size"]
        if (self._previous is not None or not told["number"]) and told["previous_sha256"] != self._previous:
            self._broken(key, "It does not continue the digest before it.")
        if self._covered >= 0 and first != self._covered:
            self._broken(key, f"It begins with record {first}; the digest before it ends before {self._covered}.")
        self._covered = max(size, self._covered)
        self._is_last = self._is_last or told["is_last"]
        parts = self._covered_parts(first, size)
        self._compare_objects(key, told["objects"], parts)
        if parts is None:
            what = f"The records {first} to {size - 1} are no whole objects of the log, which has {self._epoch.size}."
            self._broken(key, what)
            return
        self._compare_records(key, told, parts)
        root = self._epoch.root_hash if size == self._epoch.size else checkpoints.head(size)
        if root is not None and told["root_hash"] != root.hex():
            self._broken(key, "Its root is not that of the tree.")
        if told["is_last"] and (size != self._epoch.size or self._epoch.end is None):
            self._broken(key, "It says that the log has ended, and it has not.")

    def _compare_records(self, key: str, told: dict[str, Any], parts: list[Part]) -> None:
        counts: dict[str, int] = {}
        for part in parts:
            for kind, count in part.counts.items():
                counts[kind] = counts.get(kind, 0) + count
        if told["counts"] != counts:
            self._broken(key, "It counts other records than there are.")
        if (told["from"], told["to"]) != (parts[0].first_at, parts[-1].last_at):
            self._broken(key, "Its first and last instants are not those of the records.")

    def _covered_parts(self, first: int, size: int) -> list[Part] | None:
        """The parts of the records from ``first`` on, up to ``size``."""
        index = self._starts.get(first)
        if index is None:
            return None
        found = []
        for part in self._parts[index:]:
            if part.events.name.last >= size:
                break
            found.append(part)
        return found if found and found[-1].events.name.last == size - 1 else None

    def _compare_objects(self, key: str, told: list[Any], parts: list[Part] | None) -> None:
        there = {}
        for part in parts or ():
            there[part.events.key] = (part.sha256, part.size_bytes)
            if part.pack is not None:
                there[part.pack.key] = (part.pack_sha256, part.pack.version.size_bytes)
        named = set()
        for one in told:
            if not isinstance(one, dict) or not isinstance(one.get("key"), str):
                self._broken(key, "Its list of objects cannot be read.")
                return
            named.add(one["key"])
            item = self._inventory.by_key.get(one["key"])
            if item is None:
                self._run.findings.add("object_missing", one["key"], f"The digest {key} names it, and it is not there.")
            elif one["key"] in there:
                sha256, size = there[one["key"]]
                if (sha256 and one.get("sha256") != sha256) or one.get("bytes") != size:
                    self._broken(key, f"It describes other bytes than those of {one['key']}.")
            elif parts is not None:
                self._broken(key, f"It names {one['key']}, which holds none of its records.")
        for other in sorted(there.keys() - named):
            self._run.findings.add("object_unexpected", other, f"The digest {key} of its hour does not name it.")

    def _finish(self) -> None:
        """Every completed hour, and a completed epoch, must be covered."""
        run, epoch = self._run, self._epoch
        for part in self._parts:
            name = part.events.name
            if name.last < self._covered or not run.is_settled(part.events.version.last_modified):
                continue
            hour_end = datetime.fromisoformat(f"{name.day}T{name.hour}:00:00").replace(tzinfo=UTC) + timedelta(hours=1)
            if epoch.end is not None or run.is_settled(hour_end):
                what = f"No digest covers its records from {name.first} on ({name.day}, {name.hour} o'clock UTC)."
                run.findings.add("digest_missing", epoch.origin, what)
                return
        is_whole = epoch.end is not None and self._covered == epoch.size and bool(self._parts)
        if is_whole and not self._is_last and run.is_settled(self._parts[-1].events.version.last_modified):
            run.findings.add("digest_missing", epoch.origin, "The log has ended, and no digest says so.")


def _order(item: Any) -> tuple[int, datetime, str]:
    return item.name.number, item.version.last_modified, item.key
