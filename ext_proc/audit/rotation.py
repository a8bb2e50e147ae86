"""From one key of the log to the next: a manifest signed by both, and what a chain of them lets one accept. Pure.

The old key's signature says that its owner names the new one; the new key's, that the new one is held, not just named.
The manifest says too until when the old one counts: what it signs later was signed by a thief.
Fields: record-format, section 5.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ext_proc.audit import note
from ext_proc.audit.record import instant
from ext_proc.errors import ConfigError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ext_proc.audit.note import Signer

SCHEMA: Final = "affidavit/keys/v1"
_FIELDS: Final = frozenset(
    {"schema", "gateway", "number", "public_key", "previous_public_key", "previous_until", "previous_sha256", "at"}
)
_PUBLIC_KEY_BYTES: Final = 32
HANDOVER: Final = timedelta(days=1)
"""Time to restart every replica with the new key."""


@dataclass(frozen=True, slots=True)
class AcceptedKey:
    """A key and the time in which it is the log's: ``since`` None: pinned. ``until`` None: still."""

    public_key: bytes
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class _Manifest:
    number: int
    public_key: bytes
    previous_public_key: bytes
    previous_until: datetime
    previous_sha256: str | None
    at: datetime


def rotate(
    old: Signer,
    new: Signer,
    gateway: str,
    number: int,
    previous_sha256: str | None,
    at: datetime,
    handover: timedelta = HANDOVER,
) -> str:
    """The note of manifest ``number``, signed by both keys.

    Args:
        old: the key until now.
        new: the key from now on.
        gateway: under whose name.
        number: 0 for the first rotation.
        previous_sha256: of the note of manifest ``number`` - 1, lower-case hex; None for the first.
        at: now, in aware UTC.
        handover: how long the old key still counts: every replica must sign with the new one by then.

    Raises:
        ConfigError: the keys are the same, or the number and the previous manifest do not fit.
        AuditUnavailable: a key cannot be used now.
    """
    if old.public_key == new.public_key:
        raise ConfigError("rotation: the new key is the old one; make another one first")
    if number < 0 or (number == 0) != (previous_sha256 is None):
        raise ConfigError("rotation: number 0 has no previous manifest, every other one has")
    fields = {
        "schema": SCHEMA,
        "gateway": gateway,
        "number": number,
        "public_key": base64.b64encode(new.public_key).decode(),
        "previous_public_key": base64.b64encode(old.public_key).decode(),
        "previous_until": instant(at + handover),
        "previous_sha256": previous_sha256,
        "at": instant(at),
    }
    return note.sign_json(fields, gateway, old, new).decode()


def accepted_keys(pinned: Iterable[bytes], manifests: Iterable[str], gateway: str) -> tuple[AcceptedKey, ...]:
    """The keys that may sign, from those pinned and the manifests in order of their number, from 0.

    A manifest brings in its key only if an accepted one signed it. One from before the oldest pinned key brings in
    nothing, but must hold all the same.

    Raises:
        IntegrityError: a manifest is not one, or not of this gateway, is out of order, or a signature does not verify.
    """
    keys = {key: AcceptedKey(key, None, None) for key in pinned}
    before: str | None = None
    current: bytes | None = None
    used: set[bytes] = set()
    for number, raw in enumerate(manifests):
        manifest = _read(raw, gateway)
        if manifest.number != number or manifest.previous_sha256 != before:
            raise IntegrityError(f"key manifest {number}: it does not follow the one before it")
        if current is not None and manifest.previous_public_key != current:
            raise IntegrityError(f"key manifest {number}: signed by a key that is no longer the log's")
        used.add(manifest.previous_public_key)
        if manifest.public_key in used:
            raise IntegrityError(f"key manifest {number}: it brings back an old key")
        before, current = hashlib.sha256(raw.encode()).hexdigest(), manifest.public_key
        old = keys.get(manifest.previous_public_key)
        if old is not None:
            keys[old.public_key] = AcceptedKey(old.public_key, old.since, manifest.previous_until)
            keys[current] = AcceptedKey(current, manifest.at, None)
    return tuple(keys.values())


def _read(raw: str, gateway: str) -> _Manifest:
    opened = note.open_note(raw)
    told = note.json_of(opened)
    if set(told) != _FIELDS or told["schema"] != SCHEMA:
        raise IntegrityError("not a key manifest")
    if told["gateway"] != gateway:
        raise IntegrityError("key manifest of another gateway")
    manifest = _manifest(told)
    if manifest.public_key == manifest.previous_public_key:
        raise IntegrityError("key manifest that changes nothing")
    for key in (manifest.previous_public_key, manifest.public_key):
        if not note.is_signed(opened, gateway, key):
            raise IntegrityError(f"key manifest {manifest.number}: not signed by both keys")
    return manifest


def _manifest(told: dict[str, Any]) -> _Manifest:
    before = told["previous_sha256"]
    try:
        keys = [base64.b64decode(told[name], validate=True) for name in ("public_key", "previous_public_key")]
        at, until = (datetime.fromisoformat(told[name]) for name in ("at", "previous_until"))
    except (TypeError, ValueError, binascii.Error):
        raise IntegrityError("not a key manifest") from None
    if (
        any(len(key) != _PUBLIC_KEY_BYTES for key in keys)
        or type(told["number"]) is not int
        or at.tzinfo is None
        or until.tzinfo is None
        or until < at
        or not (before is None or isinstance(before, str))
    ):
        raise IntegrityError("not a key manifest")
    return _Manifest(told["number"], keys[0], keys[1], until, before, at)
