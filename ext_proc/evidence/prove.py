"""``affidavit prove``: one file that shows by itself that the log holds an exchange's records.

Each leaf with its way up the tree (RFC 6962) to a root that the log's key signed: whoever trusts the key needs neither
the bucket nor us. The tree's leaves are read once, and of each 256 only the root is kept.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ext_proc.audit import receipt as receipts
from ext_proc.audit.merkle import hash_leaf, inclusion_proof, root_of
from ext_proc.audit.note import is_signed, json_of, open_note, read_checkpoint, vkey_of
from ext_proc.audit.origin import Origin
from ext_proc.errors import IntegrityError
from ext_proc.evidence import names
from ext_proc.evidence.events import damaged, objects, objects_of, parse_leaf, read_ahead, window
from ext_proc.evidence.names import LogName
from ext_proc.evidence.versions import EvidenceError, fetch, firsts
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from ext_proc.evidence.versions import VersionedStore

SCHEMA: Final = "affidavit/proof/v1"
_BLOCK: Final = 256


class NotFound(EvidenceError):
    """The bucket has no such record (exit status 1)."""

    code = "not_found"


@dataclass(slots=True)
class Pathfinder:
    """A tree that grows leaf by leaf, and proofs of the leaves that were marked. Flat: 32 bytes for 256 leaves."""

    size: int = 0
    _roots: list[bytes] = field(default_factory=list)
    _block: list[bytes] = field(default_factory=list)
    _kept: dict[int, list[bytes]] = field(default_factory=dict)

    def add(self, leaf_hash: bytes, *, is_marked: bool) -> None:
        """The next leaf."""
        if is_marked:
            self._kept[self.size // _BLOCK] = self._block
        self._block.append(leaf_hash)
        self.size += 1
        if len(self._block) == _BLOCK:
            self._roots.append(root_of(self._block))
            self._block = []

    def root(self) -> bytes:
        """Of the tree as it stands."""
        return root_of(self._tops())

    def proof(self, index: int) -> list[bytes]:
        """The way from a marked leaf to the root: inside its block, then over the blocks' roots."""
        inner = inclusion_proof(self._kept[index // _BLOCK], index % _BLOCK)
        return inner + inclusion_proof(self._tops(), index // _BLOCK)

    def _tops(self) -> list[bytes]:
        return [*self._roots, root_of(self._block)] if self._block else self._roots


def prove(
    store: VersionedStore,
    exchange_id: str,
    progress: Callable[[int], None],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[str, Any]:
    """The proof of everything that the logs say of an exchange.

    Args:
        store: the bucket.
        exchange_id: of the exchange.
        progress: is told how many leaves were read.
        since: reads nothing older; without it, the whole bucket is read.
        until: reads nothing newer.

    Raises:
        NotFound: there is no record of it.
        EvidenceError: the store cannot be read, or no checkpoint covers the records yet.
        IntegrityError: the log does not hold together: verify it.
    """
    _check_id(exchange_id)
    wanted: dict[str, int] = {}
    after, is_before = window(since, until)
    found = (one for one in objects(store, after) if is_before(one[0]))
    needle = json.dumps(exchange_id, ensure_ascii=False).encode()
    count = 0
    for _, version, leaves in read_ahead(store, found):
        for leaf in leaves:
            count += 1
            if needle in leaf and (told := _of_exchange(leaf, exchange_id, version.key)):
                wanted[told["origin"]] = max(told["sequence"], wanted.get(told["origin"], 0))
        progress(count)
    if not wanted:
        raise NotFound(f"no record of {exchange_id} in {store.name} (the last seconds may still be on their way)")
    return prove_places(store, exchange_id, wanted, lambda done: progress(count + done))


def prove_places(
    store: VersionedStore, exchange_id: str, places: Mapping[str, int], progress: Callable[[int], None]
) -> dict[str, Any]:
    """The same, where it is known in which logs the exchange's records are. Reads only those.

    Args:
        store: the bucket.
        exchange_id: of the exchange.
        places: by the log's unique name, the number of the exchange's last record in it.
        progress: is told how many leaves of a log were read.

    Raises:
        EvidenceError: the store cannot be read, or no checkpoint covers the records yet.
        IntegrityError: the log does not hold together: verify it.
    """
    proofs = [
        one for origin, last in sorted(places.items()) for one in _prove_log(store, origin, exchange_id, last, progress)
    ]
    return _file(next(iter(sorted(places))), exchange_id, proofs)


def prove_receipt(store: VersionedStore, receipt: str, progress: Callable[[int], None]) -> dict[str, Any]:
    """The proof of what a receipt promises, and of the exchange's records before it. Reads only the receipt's own log.

    Raises:
        NotFound: the log does not hold it. If the receipt is true, that is a finding: verify it.
        EvidenceError: it is no receipt, or the store cannot be read.
        IntegrityError: the log does not hold together, or holds something else in that place.
    """
    try:
        promise = receipts.read(receipt)
    except IntegrityError:
        raise EvidenceError("not a receipt: copy the whole value of the header x-affidavit-receipt") from None
    log = LogName.of_origin(promise.origin)
    if log is None or promise.sequence < 0:
        raise EvidenceError("not a receipt of this gateway: it names no log")
    held = [one for one in objects_of(store, log) if one[0].first <= promise.sequence <= one[0].last]
    for name, version, leaves in read_ahead(store, iter(held[:1])):
        for sequence, leaf in enumerate(leaves, name.first):
            if sequence == promise.sequence:
                if hash_leaf(leaf).hex() != promise.leaf_hash:
                    raise IntegrityError(f"{version.key}: leaf {sequence} is not the one that the receipt promises")
                exchange_id = str(parse_leaf(leaf, version.key).get("exchange_id"))
                proofs = _prove_log(store, promise.origin, exchange_id, sequence, progress)
                return _file(promise.origin, exchange_id, proofs)
    raise NotFound(
        f"{store.name} holds no leaf {promise.sequence} of {promise.origin}: if it is older than some seconds, give "
        "the receipt to `affidavit verify`"
    )


def _prove_log(
    store: VersionedStore, origin: str, exchange_id: str, last: int, progress: Callable[[int], None]
) -> list[dict[str, Any]]:
    """The proofs of the exchange's leaves in one log, against the first checkpoint that covers leaf ``last``."""
    log = LogName.of_origin(origin)
    if log is None:
        raise damaged(repr(origin[:200]), "a leaf names this log, which is none")
    size, checkpoint = _checkpoint(store, log, last)
    key = _log_key(store, log, origin)
    note = open_note(checkpoint)
    said_origin, said_size, root = read_checkpoint(note)
    if (said_origin, said_size) != (origin, size) or not is_signed(note, origin, key):
        raise IntegrityError(f"{origin}: the checkpoint of {size} leaves is not signed by the log's key")
    tree = Pathfinder()
    marked: list[tuple[int, str]] = []
    needle = json.dumps(exchange_id, ensure_ascii=False).encode()
    for name, version, leaves in read_ahead(store, objects_of(store, log)):
        if name.first != tree.size:
            raise damaged(version.key, f"does not follow leaf {tree.size - 1}")
        for leaf in leaves:
            if tree.size == size:
                break
            is_marked = needle in leaf and bool(_of_exchange(leaf, exchange_id, version.key))
            if is_marked:
                marked.append((tree.size, leaf.decode()))
            tree.add(hash_leaf(leaf), is_marked=is_marked)
        progress(tree.size)
        if tree.size == size:
            break
    if tree.size != size or tree.root() != root:
        raise damaged(origin, "the leaves are not the ones that were signed")
    return [
        {
            "leaf": leaf,
            "index": index,
            "size": size,
            "hashes": [base64.b64encode(one).decode() for one in tree.proof(index)],
            "checkpoint": checkpoint,
            "vkey": vkey_of(origin, key),
        }
        for index, leaf in marked
    ]


def _checkpoint(store: VersionedStore, log: LogName, last: int) -> tuple[int, str]:
    """The first checkpoint beyond leaf ``last``; one that witnesses cosigned before one that only we signed."""
    best: tuple[bool, int, str] | None = None
    chosen = None
    for version in firsts(store, f"{names.LOG}{log.replica}/{log.epoch}/"):
        name = names.tree_head(version.key)
        if name is not None and name.size > last:
            rank = (not name.is_cosigned, name.size, version.key)
            if best is None or rank < best:
                best, chosen = rank, version
    if best is None or chosen is None:
        raise EvidenceError(
            f"no checkpoint of {log.replica}/{log.epoch} covers leaf {last} yet: try again in some seconds"
        )
    try:
        return best[1], fetch(store, chosen).decode()
    except UnicodeDecodeError:
        raise damaged(chosen.key, "not a checkpoint") from None


def _log_key(store: VersionedStore, log: LogName, origin: str) -> bytes:
    """The log's public key, from its birth record."""
    day = f"{names.ROSTER}dt={log.epoch[:4]}-{log.epoch[4:6]}-{log.epoch[6:8]}/"
    for prefix in (day, names.ROSTER):
        for version in firsts(store, prefix):
            if names.birth(version.key) == log:
                try:
                    told = json_of(open_note(fetch(store, version).decode()))
                    key = base64.b64decode(str(told["log_key"]), validate=True)
                except (IntegrityError, KeyError, ValueError, binascii.Error):
                    raise damaged(version.key, "not a birth record") from None
                if told.get("origin") == origin and len(key) == 32:
                    return key
                raise damaged(version.key, "is of another log")
    raise damaged(origin, "there is no birth record")


def _of_exchange(leaf: bytes, exchange_id: str, key: str) -> dict[str, Any] | None:
    """The leaf if it is about the exchange; that somebody read it later does not belong to it."""
    told = parse_leaf(leaf, key)
    is_about = told.get("exchange_id") == exchange_id and told.get("kind") != LeafKind.ACCESS_READ
    return told if is_about else None


def _check_id(exchange_id: str) -> None:
    if not exchange_id or len(exchange_id) > 200 or not exchange_id.isprintable():
        raise EvidenceError("an exchange is named by the id in the answer's header x-affidavit-exchange")


def _file(origin: str, exchange_id: str, proofs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schema": SCHEMA, "gateway": Origin.read(origin).gateway, "exchange_id": exchange_id, "proofs": proofs}
