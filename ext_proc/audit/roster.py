"""The birth of a log: a signed, locked note that it exists, before it can hold anything that somebody might miss."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ext_proc.audit import frames, segments
from ext_proc.audit.note import public_key_of, sign_json
from ext_proc.audit.origin import Origin
from ext_proc.audit.seal import SealedObject
from ext_proc.errors import IntegrityError
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.audit.note import Signer

ROSTER_SCHEMA: Final = "affidavit/roster/v1"
_HEAD_BYTES: Final = 64 * 1024
"""The first leaf is at most 16 KiB, and carries no payload."""
_CARRY_MAX_BYTES: Final = 4 * 1024 * 1024
"""A segment begins with the exchanges that are open: a hundred bytes for each."""


@dataclass(frozen=True, slots=True)
class Birth:
    """A log's birth record."""

    origin: str
    sealed: SealedObject


def birth_of(folder: Path, signer: Signer) -> Birth | None:
    """The birth record of the epoch in ``folder``, made from its first leaf; None if that is not there (yet).

    Raises:
        IntegrityError: the first leaf is not a ``log.open``.
        AuditUnavailable: the signing key cannot be used now.
    """
    leaf = _first_leaf(folder)
    if leaf is None:
        return None
    try:
        told = json.loads(leaf)
        if told["kind"] != LeafKind.LOG_OPEN or told["sequence"] != 0:
            raise IntegrityError("log does not begin with log.open")
        origin, at, receipt_key = told["origin"], told["at"], told["receipt_key"]
        fields = {
            "schema": ROSTER_SCHEMA,
            "origin": origin,
            "at": at,
            "role": told["role"],
            "log_key": base64.b64encode(signer.public_key).decode(),
            "receipt_key": base64.b64encode(public_key_of(receipt_key)).decode() if receipt_key else None,
            "config_sha256": told["config_sha256"],
        }
        name = Origin.read(origin)
        if name.epoch != folder.name:
            raise IntegrityError("log of another epoch")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise IntegrityError("first leaf is not a leaf") from None
    body = sign_json(fields, origin, signer)
    return Birth(origin, SealedObject.named(f"v1/roster/dt={at[:10]}/{name.log}.{name.epoch}.note", body))


def origin_of(folder: Path) -> str | None:
    """The origin of the epoch in ``folder``, by the segments that are still here; None: nothing says it."""
    for path in sorted(path for path in folder.iterdir() if path.suffix in {segments.SEALED, segments.WRITING}):
        with path.open("rb") as file:
            found = frames.scan(file.read(_CARRY_MAX_BYTES)).frames
        for frame in found[:1]:
            origin = frame.origin or _origin_in(frame.leaf)
            if (name := Origin.find(origin)) and name.epoch == folder.name:
                return origin
    return None


def opened_log(folder: Path) -> str | None:
    """The origin of the epoch in ``folder``, if its first leaf is durable and still here."""
    leaf = _first_leaf(folder)
    return (_origin_in(leaf) or None) if leaf is not None else None


def _origin_in(leaf: bytes) -> str:
    try:
        return str(json.loads(leaf)["origin"])
    except (ValueError, LookupError, TypeError):
        return ""


def _first_leaf(folder: Path) -> bytes | None:
    for suffix in (segments.SEALED, segments.WRITING):
        path = folder / segments.name_of(0, suffix)
        try:
            with path.open("rb") as file:
                found = frames.scan(file.read(_HEAD_BYTES)).frames
        except FileNotFoundError:
            continue
        return found[0].leaf if found and found[0].type == frames.LEAF else None
    return None
