"""One exchange, read from the objects that the index names, and examined: bytes, locks, versions, tree, bodies.

What the index says of it is not believed: each object is fetched again and looked at as a stranger would.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import yaml

from ext_proc.audit.merkle import hash_leaf
from ext_proc.audit.note import is_signed, open_note, read_checkpoint
from ext_proc.errors import IntegrityError
from ext_proc.evidence import names, show
from ext_proc.evidence.events import SPOOL_BYTES, parse_leaf, read_leaves
from ext_proc.evidence.names import LogName
from ext_proc.evidence.prove import prove_places
from ext_proc.evidence.versions import Absent, EvidenceError, Hashed, fetch, firsts
from ext_proc.record_kinds import LeafKind
from ext_proc.verify import VerifyError, verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from ext_proc.evidence.show import Located
    from ext_proc.evidence.versions import Lock, Version, VersionedStore

COMPLIANCE: Final = "COMPLIANCE"
PARTS_MAX: Final = 2_000
"""Records of parts of one exchange that are read; an answer that streams for hours has more."""
_OTHERS_MAX: Final = 5_000
"""And so many of other kinds."""
_DAY: Final = timedelta(days=1)
_TOLERANCE_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Record:
    """A leaf about the exchange, in its object."""

    key: str
    leaf: dict[str, Any]
    leaf_hash: str
    lock: Lock


@dataclass(frozen=True, slots=True)
class Kept:
    """How an object is kept, and since when, as the store says."""

    lock: Lock
    written_at: datetime


@dataclass(slots=True)
class Records:
    """Those of one exchange, by log and place. ``faults``: what is wrong with objects; ``left_out``: too many."""

    records: list[Record] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)
    left_out: int = 0
    _parts: int = 0

    def add(self, record: Record, parts_max: int) -> None:
        """One more, unless there are too many. How it began and ended is never left out for its parts."""
        is_part = record.leaf["kind"] == LeafKind.INFERENCE_PART
        if self._parts >= parts_max if is_part else len(self.records) - self._parts >= _OTHERS_MAX:
            self.left_out += 1
            return
        self._parts += is_part
        self.records.append(record)

    @property
    def located(self) -> list[Located]:
        """As `show` takes them."""
        return [show.Located(one.key, one.leaf) for one in self.records]

    @property
    def places(self) -> dict[str, int]:
        """The exchange's last record in each log; that somebody read it later does not belong to it."""
        last: dict[str, int] = {}
        for one in self.records:
            if one.leaf["kind"] != LeafKind.ACCESS_READ:
                origin = one.leaf["origin"]
                last[origin] = max(one.leaf["sequence"], last.get(origin, 0))
        return last


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and whether it is as it should be."""

    name: str
    is_ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class HeadAfter:
    """The first signed checkpoint that covers a record."""

    size: int
    root_hash: str
    text: str


def records_of(store: VersionedStore, keys: Iterable[str], exchange_id: str, parts_max: int = PARTS_MAX) -> Records:
    """Read them again.

    Raises:
        EvidenceError: the store cannot be read.
    """
    made = Records()
    needle = json.dumps(exchange_id, ensure_ascii=False).encode()
    for key in keys:
        version = _first(store, key)
        if version is None:
            made.faults.append(f"{key}: was there, and is not any more")
            continue
        with cast("BinaryIO", SpooledTemporaryFile(SPOOL_BYTES)) as file:
            hashed = Hashed(file)
            try:
                lock = store.download(version, cast("BinaryIO", hashed))
            except Absent:
                made.faults.append(f"{key}: is listed, and cannot be read")
                continue
            made.kept[key] = Kept(lock, version.last_modified)
            name = names.events(key)
            if name is None or not hashed.sha256.startswith(name.sha16):
                made.faults.append(f"{key}: its bytes are not those that its name promises")
            file.seek(0)
            try:
                _take(made, key, lock, _lines(file, needle), exchange_id, parts_max)
            except IntegrityError as error:
                made.faults.append(f"{key}: {error.detail}")
    return made


def _take(
    made: Records, key: str, lock: Lock, lines: Iterator[tuple[int, bytes]], exchange_id: str, parts_max: int
) -> None:
    name = names.events(key)
    for number, line in lines:
        try:
            leaf = parse_leaf(line, key)
        except IntegrityError:
            made.faults.append(f"{key}: line {number} is no record")
            continue
        if leaf.get("exchange_id") != exchange_id:
            continue
        if name is None or (LogName.of_origin(leaf["origin"]), leaf["sequence"]) != (name.log, name.first + number):
            made.faults.append(f"{key}: line {number} says that it stands elsewhere")
        else:
            made.add(Record(key, leaf, hash_leaf(line).hex(), lock), parts_max)


def _lines(file: BinaryIO, needle: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(read_leaves(file)):
        if needle in line:
            yield number, line


def head_after(store: VersionedStore, origin: str, sequence: int, keys: Iterable[bytes]) -> HeadAfter | None:
    """The first checkpoint beyond a record that one of ``keys`` signed; None: none covers it yet.

    Raises:
        EvidenceError: the store cannot be read.
    """
    log = LogName.of_origin(origin)
    if log is None:
        return None
    folder = f"{names.LOG}{log.replica}/{log.epoch}/checkpoint/"
    for version in firsts(store, folder, f"{folder}{sequence + 1:016d}"):
        name = names.tree_head(version.key)
        with suppress(IntegrityError, UnicodeDecodeError, Absent):
            text = fetch(store, version).decode()
            note = open_note(text)
            said, size, root = read_checkpoint(note)
            is_here = name is not None and (said, size) == (origin, name.size)
            if is_here and any(is_signed(note, origin, key) for key in keys):
                return HeadAfter(size, root.hex(), text)
    return None


def examine(
    store: VersionedStore, exchange_id: str, found: Records, policy: Mapping[str, Any], now: datetime
) -> list[Finding]:
    """Everything that can be verified of one exchange.

    Args:
        store: the bucket.
        exchange_id: of the exchange.
        found: its records.
        policy: the auditor's (section 8 of ``docs/record-format.md``).
        now: aware UTC.

    Raises:
        EvidenceError: the store cannot be read.
    """
    count = len(found.records)
    is_whole = not found.faults and not found.left_out and count > 0
    told = (
        "; ".join(found.faults) or f"{count} records, each in its place, in objects whose bytes are as they were named"
    )
    if found.left_out:
        told += f"; {found.left_out} more are too many to look at here: run `affidavit verify`"
    packs = {key: list(show.packs_of(store, key)) for key in found.kept}
    bodies, kept = _bodies(store, found, packs)
    return [
        Finding("Records", is_whole, told),
        _tree(store, exchange_id, found, policy),
        _locked({**found.kept, **kept}, policy, now),
        _single(store, [*found.kept, *(one.key for every in packs.values() for one in every)]),
        bodies,
    ]


def _tree(store: VersionedStore, exchange_id: str, found: Records, policy: Mapping[str, Any]) -> Finding:
    """Each record leads to a signed head: proved by one hand, and verified by the other, which trusts it in nothing."""
    name = "Tree and signature"
    if not found.places:
        return Finding(name, is_ok=False, detail="there is no record to prove")
    try:
        proof = prove_places(store, exchange_id, found.places, lambda _: None)
    except (EvidenceError, IntegrityError) as error:
        return Finding(name, is_ok=False, detail=error.detail)
    with tempfile.TemporaryDirectory(prefix="affidavit-proof-") as folder:
        paths = Path(folder) / "proof.json", Path(folder) / "policy.yaml"
        paths[0].write_text(json.dumps(proof))
        paths[1].write_text(yaml.safe_dump(dict(policy)))
        try:
            report = verify(str(paths[0]), paths[1], jobs=1)
        except VerifyError as error:
            return Finding(name, is_ok=False, detail=error.detail)
    wanted = sum(one.leaf["kind"] != LeafKind.ACCESS_READ for one in found.records)
    if report.ok and report.leaves < wanted:
        return Finding(name, is_ok=False, detail=f"only {report.leaves} of {wanted} records are in the signed tree")
    told = "; ".join(f"{one.code}: {one.explanation}" for one in report.findings)
    heads = sorted({(one["size"], one["checkpoint"].split("\n")[0]) for one in proof["proofs"]})
    led = ", ".join(f"of {size} records of {origin}" for size, origin in heads)
    return Finding(name, report.ok, told or f"each of {report.leaves} records leads to the signed head {led}")


def _locked(kept: Mapping[str, Kept], policy: Mapping[str, Any], now: datetime) -> Finding:
    """Nobody can delete them, for as long as the policy asks, as far as the store says."""
    asked = timedelta(days=policy["retention_days"], seconds=-policy.get("clock_tolerance_seconds", _TOLERANCE_SECONDS))
    faults = []
    for key, one in kept.items():
        lock, until = one.lock, one.lock.retain_until
        if lock.mode != COMPLIANCE or until is None:
            faults.append(f"{key}: {'no lock' if lock.mode is None else f'{lock.mode} until {until}'}")
        elif until <= now or until < one.written_at + asked:
            faults.append(f"{key}: locked until {until} only")
    ends = [one.lock.retain_until for one in kept.values() if one.lock.retain_until is not None]
    if faults or not ends:
        return Finding("Lock", is_ok=False, detail="; ".join(faults) or "there is nothing to be locked")
    days = (min(ends) - now) // _DAY
    return Finding("Lock", is_ok=True, detail=f"{len(kept)} objects, {COMPLIANCE}, for {days} more days at least")


def _single(store: VersionedStore, keys: Sequence[str]) -> Finding:
    """One version each: whatever came later changes nothing, and somebody tried."""
    faults = []
    for key in keys:
        versions = [one for one in store.versions(key) if one.key == key]
        markers = sum(one.is_delete_marker for one in versions)
        if len(versions) > 1:
            faults.append(f"{key}: {len(versions) - 1 - markers} later versions and {markers} delete markers")
    return Finding("Versions", not faults, "; ".join(faults) or f"{len(keys)} objects, one version each")


def _bodies(
    store: VersionedStore, found: Records, packs: Mapping[str, Sequence[Version]]
) -> tuple[Finding, dict[str, Kept]]:
    """Each ciphertext that a record commits to is there, and has the digest that the record says."""
    wanted: dict[str, set[str]] = {}
    for one in found.records:
        told = one.leaf.get("payloads")
        for payload in told if isinstance(told, list) else ():
            if isinstance(payload, dict) and isinstance(digest := payload.get("ciphertext_sha256"), str):
                wanted.setdefault(one.key, set()).add(digest)
    kept: dict[str, Kept] = {}
    faults: list[str] = []
    for key, digests in wanted.items():
        left = set(digests)
        for version in packs.get(key, ()):
            with cast("BinaryIO", SpooledTemporaryFile(SPOOL_BYTES)) as file:
                try:
                    kept[version.key] = Kept(store.download(version, file), version.last_modified)
                    left -= _true_digests(file, left)
                except (Absent, IntegrityError) as error:
                    faults.append(f"{version.key}: {error.detail}")
        faults += [f"{key}: no pack holds the body with digest {digest}" for digest in sorted(left)]
    count = sum(map(len, wanted.values()))
    told = "; ".join(faults) or (f"{count} encrypted bodies have their digests" if count else "none is kept")
    return Finding("Bodies", not faults, told), kept


def _true_digests(file: BinaryIO, wanted: set[str]) -> set[str]:
    true = set()
    for digest, length, at in show.entries(file):
        if digest in wanted:
            file.seek(at)
            if hashlib.sha256(file.read(length)).hexdigest() == digest:
                true.add(digest)
    return true


def _first(store: VersionedStore, key: str) -> Version | None:
    return next((one for one in firsts(store, key) if one.key == key), None)
