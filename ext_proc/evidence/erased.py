"""Is a payload that nobody can read shredded, or unexplained? The registry names a record; the log has to hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.evidence.events import objects_of, parse_leaf, read_ahead
from ext_proc.evidence.names import LogName
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from ext_proc.audit.keys import Shredded
    from ext_proc.evidence.versions import VersionedStore

UNEXPLAINED: Final = (
    "unexplained: its key is gone, and record {} of {}, which the registry names, does not say so in the bucket "
    "(a record of the last seconds may still be on its way)"
)


class Erasures:
    """What the log says of erasures, each looked up once. Not safe for concurrent use."""

    def __init__(self, store: VersionedStore) -> None:
        self._store = store
        self._known: dict[tuple[str, int, str], bool] = {}

    def has(self, shredded: Shredded, key: str) -> bool:
        """See `is_on_record`.

        Raises:
            EvidenceError: the store cannot be read.
            IntegrityError: the object that holds the record is damaged: verify.
        """
        place = (shredded.origin, shredded.sequence, key)
        if place not in self._known:
            self._known[place] = is_on_record(self._store, shredded, key)
        return self._known[place]


def is_on_record(store: VersionedStore, shredded: Shredded, key: str) -> bool:
    """Does the log hold the record of the erasure of ``key`` (as the payload names it) where the registry says?

    Raises:
        EvidenceError: the store cannot be read.
        IntegrityError: the object that holds the record is damaged: verify.
    """
    log = LogName.of_origin(shredded.origin)
    if log is None:
        return False
    sequence = shredded.sequence
    holding = (one for one in objects_of(store, log) if one[0].first <= sequence <= one[0].last)
    for name, version, leaves in read_ahead(store, holding):
        for number, line in enumerate(leaves, name.first):
            if number == sequence:
                return _says_so(parse_leaf(line, version.key), shredded, key)
    return False


def _says_so(leaf: dict[str, Any], shredded: Shredded, key: str) -> bool:
    if (leaf["origin"], leaf["sequence"]) != (shredded.origin, shredded.sequence):
        return False
    subject = f"subject:{leaf.get('subject_ref')}"
    if not shredded.is_complete:
        return leaf["kind"] == LeafKind.ERASURE_REQUESTED and key.rpartition("#")[0] == subject
    generations = leaf.get("generations")
    listed = generations if isinstance(generations, list) else []
    return leaf["kind"] == LeafKind.ERASURE_COMPLETED and key in {f"{subject}#{number}" for number in listed}
