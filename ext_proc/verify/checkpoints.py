"""The signed tree heads of one epoch against its leaves, and the witnesses' cosignatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ext_proc.verify import notes

if TYPE_CHECKING:
    from ext_proc.verify.epoch import Epoch
    from ext_proc.verify.inventory import LogObjects
    from ext_proc.verify.notes import Checkpoint, Note
    from ext_proc.verify.run import Item, Run, Small


class Checkpoints:
    """See above. Reads the notes at once; the leaves' roots come one by one."""

    def __init__(self, run: Run, origin: str, objects: LogObjects) -> None:
        self._run = run
        self._origin = origin
        self._heads: dict[int, tuple[bytes, Item]] = {}
        self._newest: tuple[int, Item] | None = None
        self._witnessed: dict[int, int] = {}
        self._unmet: set[int] = set()
        for small in run.small(sorted(objects.checkpoint, key=lambda one: (one.name.size, one.version.last_modified))):
            self._take(small)
        self._unmet.update(self._heads)
        self._cosigned = [*run.small(objects.cosigned)]
        for small in self._cosigned:
            self._take_cosigned(small)

    def head(self, size: int) -> bytes | None:
        """The signed root at this size."""
        found = self._heads.get(size)
        return found[0] if found else None

    def _read(self, small: Small) -> tuple[Note, Checkpoint] | None:
        """A checkpoint that is signed and stands where it belongs."""
        run, item = self._run, small.item
        note = run.note(small)
        if note is None:
            return None
        try:
            head = notes.checkpoint(note)
        except notes.NoteError as error:
            run.findings.add("object_unreadable", item.key, f"It cannot be read: {error}.")
            return None
        if run.signer(item, note, head.origin or self._origin) is None:
            return None
        if head.origin != self._origin or head.size != item.name.size:
            what = f"It is the checkpoint of {head.size} records of {head.origin}."
            run.findings.add("note_replayed", item.key, what)
            return None
        return note, head

    def _take(self, small: Small) -> None:
        read = self._read(small)
        if read is None:
            return
        _, head = read
        known = self._heads.get(head.size)
        if known is None:
            self._heads[head.size] = (head.root_hash, small.item)
            if self._newest is None or head.size > self._newest[0]:
                self._newest = (head.size, small.item)
        elif known[0] != head.root_hash:
            what = f"It signs another tree of {head.size} records than {known[1].key}."
            self._run.findings.add("epoch_forked", small.item.key, what)
        else:
            self._run.findings.add("object_unexpected", small.item.key, f"It repeats {known[1].key}.")

    def _take_cosigned(self, small: Small) -> None:
        read = self._read(small)
        if read is None:
            return
        note, head = read
        known = self._heads.get(head.size)
        if known is None:
            what = "Witnesses saw a checkpoint that is not there."
            self._run.findings.add("object_missing", small.item.key, what)
        elif known[0] != head.root_hash:
            what = f"Witnesses saw another tree of {head.size} records than {known[1].key}."
            self._run.findings.add("epoch_forked", small.item.key, what)
        else:
            count = notes.cosigners(note, self._run.policy.witness_keys)
            self._witnessed[head.size] = max(count, self._witnessed.get(head.size, 0))

    def compare(self, size: int, root_hash: bytes) -> None:
        """The leaves up to ``size`` give this root."""
        known = self._heads.get(size)
        self.skip(size)
        if known is not None and known[0] != root_hash:
            what = f"The first {size} records do not give the root that was signed."
            self._run.findings.add("root_mismatch", known[1].key, what)

    def skip(self, size: int) -> None:
        """An events object ends at ``size``: a checkpoint of it belongs there."""
        self._unmet.discard(size)

    def finish(self, epoch: Epoch) -> None:
        """All leaves were read."""
        run, size = self._run, epoch.size
        signed = self._newest[0] if self._newest else 0
        missing = [end for end in epoch.stored if end not in self._heads and run.is_settled(epoch.stored[end])]
        if self._newest is None and missing:
            run.findings.add("checkpoint_missing", self._origin, f"No checkpoint signs its {size} records.")
        elif missing and max(missing) > signed:
            what = f"Its newest checkpoint signs {signed} records, and there are {size}."
            run.findings.add("checkpoint_stale", self._origin, what)
        for end in [end for end in missing if end < signed][:100]:
            run.findings.add("checkpoint_missing", self._origin, f"No checkpoint signs its first {end} records.")
        for end in sorted(self._unmet)[:100]:
            item = self._heads[end][1]
            if end > size:
                # Events are listed before checkpoints: what was sealed in between has only the latter here. What the
                # store had before (by its own clock) had its events before that.
                if item.version.last_modified < run.now:
                    what = f"It signs {end} records, and there are only {size}."
                    run.findings.add("checkpoint_stale", item.key, what)
            else:
                run.findings.add("object_unexpected", item.key, f"No object of the log ends at {end} records.")
        self._finish_witnesses(epoch)

    def _finish_witnesses(self, epoch: Epoch) -> None:
        run, policy = self._run, self._run.policy.witnesses
        if policy is None or self._newest is None:
            return
        size, item = self._newest
        is_due = epoch.end is not None and run.is_settled(item.version.last_modified)
        if not is_due:  # a living log: the newest one that had time to be witnessed
            old = [end for end, (_, one) in self._heads.items() if run.is_settled(one.version.last_modified)]
            size = max(old, default=0)
        count = max((found for end, found in self._witnessed.items() if end >= size), default=0)
        if size and count < policy.quorum:
            what = f"Its checkpoint of {size} records has {count} of {policy.quorum} cosignatures."
            run.findings.add("witness_missing", self._heads[size][1].key, what)
