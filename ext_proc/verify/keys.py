"""Which keys count: those that the auditor pinned, and those that key manifests introduce (rotation)."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ext_proc.verify import notes

if TYPE_CHECKING:
    from ext_proc.verify.inventory import Inventory
    from ext_proc.verify.run import Run, Small

_SCHEMA = "affidavit/keys/v1"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "gateway": str,
    "number": int,
    "public_key": str,
    "previous_public_key": str,
    "previous_until": str,
    "previous_sha256": (str, type(None)),
    "at": str,
}


def accept_rotations(run: Run, inventory: Inventory) -> None:
    """Follow the manifests in order: each must be signed by the key before it, and by its own."""
    previous: str | None = None
    current: str | None = None
    expected = 0
    for small in run.small(sorted(inventory.keys, key=lambda item: (item.name.number, item.version.last_modified))):
        key, number = small.item.key, small.item.name.number
        if number < expected:
            run.findings.add("epoch_forked", key, f"There are two key manifests with the number {number}.")
            continue
        if number > expected:
            run.findings.add("object_missing", key, f"The key manifests from {expected} to {number - 1} are not there.")
        expected = number + 1
        found = run.fields(small, _SCHEMA, _FIELDS)
        if found is not None:
            _accept(run, small, *found, previous, current)
            current = found[1]["public_key"]
        previous = small.sha256


def _accept(
    run: Run, small: Small, note: notes.Note, told: dict[str, Any], previous: str | None, current: str | None
) -> None:
    key, gateway = small.item.key, run.policy.gateway
    new, old = raw_key(told["public_key"]), raw_key(told["previous_public_key"])
    if told["gateway"] != gateway or told["number"] != small.item.name.number:
        run.findings.add("note_replayed", key, "The key manifest is of another gateway or has another number.")
    elif told["previous_sha256"] != previous:
        run.findings.add("note_replayed", key, "The key manifest does not continue the one before it.")
    elif new is None or old is None:
        run.findings.add("object_unreadable", key, "The key manifest holds no Ed25519 keys.")
    elif current not in (None, told["previous_public_key"]):
        run.findings.add("signature_retired_key", key, "The key that signed it was replaced by an earlier manifest.")
    elif run.signer(small.item, note, gateway) is None:
        return
    elif old not in run.accepted or not isinstance(notes.signer(note, gateway, [old]), bytes):
        run.findings.add("signature_unknown_key", key, "The key before did not sign the new one.")
    elif not isinstance(notes.signer(note, gateway, [new]), bytes):
        run.findings.add("signature_invalid", key, "The new key did not sign its own manifest.")
    elif (until := _instant(told["previous_until"])) is None:
        run.findings.add("object_unreadable", key, "The key manifest does not say until when the key before counts.")
    else:
        run.retire(old, until)
        if new not in run.accepted:
            run.accepted.append(new)


def _instant(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def raw_key(text: str) -> bytes | None:
    """The 32 bytes of a base64 key."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == 32 else None
