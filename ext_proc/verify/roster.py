"""Birth records: every log announced itself, with its keys, before it could serve anybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ext_proc.verify import notes
from ext_proc.verify.keys import raw_key
from ext_proc.verify.source import instant

if TYPE_CHECKING:
    from ext_proc.verify.inventory import Inventory
    from ext_proc.verify.run import Run, Small

_SCHEMA = "affidavit/roster/v1"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "origin": str,
    "at": str,
    "role": (str, int),
    "log_key": str,
    "receipt_key": (str, type(None)),
    "config_sha256": str,
}


@dataclass(frozen=True, slots=True)
class Birth:
    """A birth record that holds."""

    key: str
    sha256: str
    role: str
    receipt_key: bytes | None
    config_sha256: str


def read_rosters(run: Run, inventory: Inventory) -> dict[tuple[str, str], Birth]:
    """Every birth record by replica log and epoch."""
    found: dict[tuple[str, str], Birth] = {}
    items = [item for log in inventory.logs.values() for item in log.roster]
    for small in run.small(sorted(items, key=lambda item: item.version.last_modified)):
        log = small.item.name.log
        birth = _birth(run, small)
        if birth is None:
            continue
        if log in found:
            run.findings.add("epoch_forked", small.item.key, "The log was born twice.")
            continue
        found[log] = birth
    return found


def _birth(run: Run, small: Small) -> Birth | None:
    item = small.item
    read = run.fields(small, _SCHEMA, _FIELDS)
    if read is None:
        return None
    note, told = read
    origin = run.origin(item.name.log)
    signer = run.signer(item, note, origin)
    if told["origin"] != origin or told["at"][:10] != item.name.day:
        run.findings.add("note_replayed", item.key, f"It is the birth record of {told['origin']} of {told['at'][:10]}.")
        return None
    try:
        if instant(told["at"]) > item.version.last_modified + run.policy.tolerance:
            run.findings.add(
                "clock_backwards", item.key, "It says a later time than the store saw when it was written."
            )
    except ValueError:
        run.findings.add("object_unreadable", item.key, "It does not say when.")
    if signer is None:
        return None
    receipt_key = raw_key(told["receipt_key"]) if told["receipt_key"] is not None else None
    if raw_key(told["log_key"]) != signer or (told["receipt_key"] is not None and receipt_key is None):
        run.findings.add("roster_mismatch", item.key, "The keys that it names are not the one that signed it, or none.")
    return Birth(item.key, small.sha256, str(told["role"]), receipt_key, told["config_sha256"])


def compare_opening(run: Run, key: str, birth: Birth, opening: dict[str, Any]) -> None:
    """Does the first leaf say what the birth record said?"""
    told = opening.get("receipt_key")
    receipt_key: bytes | None = None
    if isinstance(told, str):
        try:
            receipt_key = notes.key_of_vkey(told)[1]
        except notes.NoteError:
            receipt_key = b""
    differing = [
        name
        for name, mine, other in (
            ("configuration", birth.config_sha256, opening.get("config_sha256")),
            ("role", birth.role, str(opening.get("role"))),
            ("receipt key", birth.receipt_key, receipt_key),
        )
        if mine != other
    ]
    if differing:
        what = f"The birth record {birth.key} and the log's first record differ in: {', '.join(differing)}."
        run.findings.add("roster_mismatch", key, what)
