"""What may stand in the bucket: section 2 of ``docs/record-format.md`` as one table. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

_DAY: Final = r"dt=(?P<day>\d{4}-\d\d-\d\d)"
_HOUR: Final = r"hour=(?P<hour>[01]\d|2[0-3])"
_REPLICA: Final = r"(?P<replica>[A-Za-z0-9][A-Za-z0-9._-]{0,127})"
_EPOCH: Final = r"(?P<epoch>\d{8}T\d{12}-[0-9a-f]{8})"
_SPAN: Final = r"(?P<first>\d{16})-(?P<last>\d{16})"
_SHA: Final = r"(?P<sha16>[0-9a-f]{16})"
_PLACE: Final = rf"{_DAY}/{_HOUR}/replica={_REPLICA}/epoch={_EPOCH}"
_GENERATION: Final = r"(?P<generation>[A-Za-z0-9][A-Za-z0-9._-]{0,127})"

_FORMS: Final = {
    "events": rf"v1/events/{_PLACE}/{_SPAN}-{_SHA}\.jsonl\.zst",
    "payload": rf"v1/payload/{_PLACE}/{_SPAN}-{_SHA}\.pack",
    "checkpoint": rf"v1/log/{_REPLICA}/{_EPOCH}/checkpoint/(?P<size>\d{{16}})-{_SHA}\.note",
    "cosigned": rf"v1/log/{_REPLICA}/{_EPOCH}/cosigned/(?P<size>\d{{16}})-{_SHA}\.note",
    "digest": rf"v1/digest/{_PLACE}/(?P<number>\d{{6}})-{_SHA}\.note",
    "stamp": rf"v1/digest/{_PLACE}/(?P<number>\d{{6}})-{_SHA}\.note\.tsr",
    "roster": rf"v1/roster/{_DAY}/{_REPLICA}\.{_EPOCH}\.note",
    "access": rf"v1/access/replica={_REPLICA}/{_GENERATION}/{_SPAN}-{_SHA}\.jsonl\.zst",
    "rollup": rf"v1/rollup/{_DAY}/{_SHA}\.note",
    "reconcile": rf"v1/reconcile/{_DAY}/{_SHA}\.note",
    "policy": rf"v1/policy/{_SHA}[0-9a-f]{{48}}(\.\d{{8}}T\d{{6}}Z)?\.tar\.gz",
    "keys": rf"v1/keys/(?P<number>\d{{6}})-{_SHA}\.note",
}
_PATTERNS: Final = {kind: re.compile(form, re.ASCII) for kind, form in _FORMS.items()}
_ROOMS: Final = {
    "events": ("events",),
    "payload": ("payload",),
    "log": ("checkpoint", "cosigned"),
    "digest": ("digest", "stamp"),
    "roster": ("roster",),
    "access": ("access",),
    "rollup": ("rollup",),
    "reconcile": ("reconcile",),
    "policy": ("policy",),
    "keys": ("keys",),
}
CANARY: Final = "v1/canary/"
_CANARY: Final = re.compile(r"v1/canary/[A-Za-z0-9][A-Za-z0-9._/-]{0,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Name:
    """What a key says of its object; what it does not say is empty or -1."""

    kind: str
    day: str = ""
    hour: str = ""
    replica: str = ""
    epoch: str = ""
    first: int = -1
    last: int = -1
    size: int = -1
    number: int = -1
    generation: str = ""
    sha16: str = ""

    @property
    def log(self) -> tuple[str, str]:
        """The replica log and the epoch that it belongs to."""
        return self.replica, self.epoch


def read(key: str) -> Name | None:
    """What the key says. None: nothing that the gateway writes has such a key."""
    if key.startswith(CANARY):
        return Name("canary") if _CANARY.fullmatch(key) else None
    parts = key.split("/", 2)
    if len(parts) < 3 or parts[0] != "v1":
        return None
    for kind in _ROOMS.get(parts[1], ()):
        found = _PATTERNS[kind].fullmatch(key)
        if found is not None:
            return _name(kind, found.groupdict())
    return None


def _name(kind: str, told: dict[str, str]) -> Name | None:
    numbers = {name: int(told.pop(name)) for name in ("first", "last", "size", "number") if name in told}
    if numbers.get("first", 0) > numbers.get("last", 0) or not _is_day(told.get("day", "2026-01-01")):
        return None
    return Name(kind, **told, **numbers)  # type: ignore[arg-type]


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
