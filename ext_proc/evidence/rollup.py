"""The roll-up of a day: every log that has a record of it, at a size that is signed, in one signed note.

A log can be removed together with all that it says of itself; not with what the roll-up says of it. Roll-ups are a
chain, ordered by their day and the time of their making: one of an earlier day cannot come after one of a later.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from ext_proc.audit.note import is_signed, json_of, open_note, read_checkpoint, sign_json
from ext_proc.audit.record import instant
from ext_proc.errors import IntegrityError
from ext_proc.evidence import names
from ext_proc.evidence.events import damaged, objects, parse_leaf, read_leaves
from ext_proc.evidence.statement import note_of_day
from ext_proc.evidence.versions import EvidenceError, fetch, firsts
from ext_proc.record_kinds import LOG_ENDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ext_proc.audit.note import Signer
    from ext_proc.audit.seal import SealedObject
    from ext_proc.evidence.names import EventsName, LogName
    from ext_proc.evidence.versions import Version, VersionedStore

SCHEMA: Final = "affidavit/rollup/v1"
ROLLUP: Final = "v1/rollup/"
KEYS: Final = "v1/keys/"
_KEY: Final = re.compile(r"v1/rollup/dt=(?P<day>\d{4}-\d\d-\d\d)/(?P<sha16>[0-9a-f]{16})\.note", re.ASCII)


@dataclass(frozen=True, slots=True)
class Known:
    """A roll-up that is in the store."""

    day: str
    key: str
    sha256: str
    at: str
    epochs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RollUp:
    """The day's roll-up. ``is_new``: it is not in the store yet."""

    day: str
    epochs: list[dict[str, Any]]
    sealed: SealedObject
    is_new: bool

    def leaf(self) -> dict[str, Any]:
        """Fields of ``rollup.made``."""
        return {"day": self.day, "key": self.sealed.key, "sha256": self.sealed.sha256}


def roll_up(
    store: VersionedStore, day: str, gateway: str, signer: Signer, at: datetime, progress: Callable[[str, int], None]
) -> RollUp:
    """The roll-up of ``day``. The same logs at the same sizes as in the day's newest one: that one again.

    Args:
        store: the bucket.
        day: ``YYYY-MM-DD``.
        gateway: its name.
        signer: who signs.
        at: now.
        progress: is told what is being read, and how much.

    Raises:
        EvidenceError: the store cannot be read, or there is a roll-up of a later day already.
        IntegrityError: an object is damaged: verify.
        AuditUnavailable: the signing key cannot be used now.
    """
    known = sorted(_known(store, gateway, signer), key=lambda one: (one.day, one.at))
    epochs = list(day_epochs(store, day, gateway, progress))
    last = known[-1] if known else None
    same = next((one for one in reversed(known) if one.day == day), None)
    if same is not None and same.epochs == epochs:
        found = next(version for version in firsts(store, same.key) if version.key == same.key)
        return RollUp(day, epochs, note_of_day("rollup", day, fetch(store, found)), is_new=False)
    if last is not None and last.day > day:
        raise EvidenceError(
            f"there is a roll-up of {last.day}: roll-ups go forward, so none of {day} can be made any more; what is "
            f"missing of {day} stays provable by the logs themselves (`affidavit verify`)"
        )
    fields = {
        "schema": SCHEMA,
        "gateway": gateway,
        "day": day,
        "epochs": epochs,
        "previous_sha256": last.sha256 if last else None,
        "at": instant(at),
    }
    return RollUp(day, epochs, note_of_day("rollup", day, sign_json(fields, gateway, signer)), is_new=True)


def day_epochs(
    store: VersionedStore, day: str, gateway: str, progress: Callable[[str, int], None]
) -> Iterator[dict[str, Any]]:
    """One row for each log with a record of ``day``, sorted by origin: its newest checkpoint, beginning and end.

    Raises:
        EvidenceError: the store cannot be read.
        IntegrityError: an object is damaged, or no checkpoint is where one must be: verify.
    """
    heads = _heads(store)
    wanted = _logs_of(store, day)
    found: list[dict[str, Any]] = []
    for count, log in enumerate(sorted(wanted, key=lambda one: (one.replica, one.epoch))):
        progress("logs", count)
        if log in heads:  # a log without any is younger than its first checkpoint
            found.append(_row(store, log, heads[log], gateway))
    yield from sorted(found, key=lambda row: str(row["origin"]))


def _heads(store: VersionedStore) -> dict[LogName, tuple[int, Version]]:
    """The newest checkpoint of each log."""
    heads: dict[LogName, tuple[int, Version]] = {}
    for version in firsts(store, names.LOG):
        head = names.tree_head(version.key)
        if head is not None and not head.is_cosigned and head.size > heads.get(head.log, (0, version))[0]:
            heads[head.log] = (head.size, version)
    return heads


def _logs_of(store: VersionedStore, day: str) -> set[LogName]:
    """The logs with a record of the day. An object lies in its first leaf's hour: the last hour before may reach in."""
    eve = f"{datetime.fromisoformat(day) - timedelta(days=1):%Y-%m-%d}"
    found: set[LogName] = set()
    for name, version in objects(store, f"{names.EVENTS}dt={eve}/hour=23"):
        if name.day > day:
            break
        if name.day == day or any(leaf["at"][:10] == day for leaf in _leaves(store, version)):
            found.add(name.log)
    return found


def _row(store: VersionedStore, log: LogName, head: tuple[int, Version], gateway: str) -> dict[str, Any]:
    size, version = head
    origin = f"{gateway}/{log.replica}/{log.epoch}"
    told = _checkpoint(store, version)
    if told[:2] != (origin, size):
        raise damaged(version.key, "a checkpoint of another place")
    first, last = _ends_of(store, log, size)
    opening = next(_leaves(store, first[1]), None)
    closing: dict[str, Any] | None = None
    end = None
    for leaf in _leaves(store, last[1]):
        if leaf["sequence"] < size:
            closing = leaf
            end = LOG_ENDS.get(leaf["kind"], end)
    if opening is None or closing is None or opening["sequence"] != 0 or closing["sequence"] != size - 1:
        raise damaged(version.key, "its leaves are not where they must be")
    return {
        "origin": origin,
        "size": size,
        "root_hash": told[2].hex(),
        "end": end,
        "first_at": opening["at"],
        "last_at": closing["at"],
    }


def _ends_of(
    store: VersionedStore, log: LogName, size: int
) -> tuple[tuple[EventsName, Version], tuple[EventsName, Version]]:
    """The objects that hold the first leaf and leaf ``size`` - 1."""
    day = f"{log.epoch[:4]}-{log.epoch[4:6]}-{log.epoch[6:8]}"
    first: tuple[EventsName, Version] | None = None
    for one in objects(store, f"{names.EVENTS}dt={day}/hour={log.epoch[9:11]}"):
        if one[0].log == log:
            first = one if one[0].first == 0 else first
            if first is not None and one[0].first < size <= one[0].last + 1:
                return first, one
    raise IntegrityError(
        f"{log.replica}/{log.epoch}: {size} leaves are signed for, not all are there; run `affidavit verify`"
    )


def _leaves(store: VersionedStore, version: Version) -> Iterator[dict[str, Any]]:
    try:
        for line in read_leaves(BytesIO(fetch(store, version))):
            yield parse_leaf(line, version.key)
    except IntegrityError as error:
        raise damaged(version.key, error.detail or "not readable") from None


def _checkpoint(store: VersionedStore, version: Version) -> tuple[str, int, bytes]:
    try:
        return read_checkpoint(open_note(fetch(store, version).decode()))
    except (IntegrityError, ValueError):
        raise damaged(version.key, "not a checkpoint") from None


def _known(store: VersionedStore, gateway: str, signer: Signer) -> Iterator[Known]:
    """The roll-ups in the store that a key of the gateway's signed: nobody else's can be part of the chain."""
    keys = keys_of(store, gateway, signer.public_key)
    for version in firsts(store, ROLLUP):
        key = _KEY.fullmatch(version.key)
        if key is None:
            continue
        raw = fetch(store, version)
        try:
            note = open_note(raw.decode())
            told = json_of(note)
            is_ours = (told["gateway"], told["day"], told["schema"]) == (gateway, key["day"], SCHEMA)
            is_ours = is_ours and any(is_signed(note, gateway, one) for one in keys)
            at, epochs = str(told["at"]), list(told["epochs"])
        except (IntegrityError, ValueError, KeyError, TypeError):
            is_ours, at, epochs = False, "", []
        if is_ours and hashlib.sha256(raw).hexdigest().startswith(key["sha16"]):
            yield Known(key["day"], version.key, hashlib.sha256(raw).hexdigest(), at, epochs)


def keys_of(store: VersionedStore, gateway: str, public_key: bytes) -> set[bytes]:
    """The key of today, and those that came before it by manifests that both keys signed.

    Raises:
        EvidenceError: the store cannot be read.
    """
    keys = {public_key}
    for version in reversed(list(firsts(store, KEYS))):
        try:
            note = open_note(fetch(store, version).decode())
            told = json_of(note)
            new, old = (base64.b64decode(told[name], validate=True) for name in ("public_key", "previous_public_key"))
            if new in keys and is_signed(note, gateway, new) and is_signed(note, gateway, old):
                keys.add(old)
        except (IntegrityError, ValueError, KeyError, TypeError):
            continue
    return keys
