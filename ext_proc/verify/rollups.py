"""The daily roll-ups: their chain, and every epoch of the day at a signed size."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ext_proc.verify import notes
from ext_proc.verify.source import instant

if TYPE_CHECKING:
    from ext_proc.verify.claims import Claims
    from ext_proc.verify.epoch import Epoch
    from ext_proc.verify.inventory import Inventory
    from ext_proc.verify.run import Item, Run

_SCHEMA: Final = "affidavit/rollup/v1"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "gateway": str,
    "day": str,
    "epochs": list,
    "previous_sha256": (str, type(None)),
    "at": str,
}
_ROW: dict[str, type | tuple[type, ...]] = {
    "origin": str,
    "size": int,
    "root_hash": str,
    "end": (str, type(None)),
    "first_at": str,
    "last_at": str,
}
_LATE: Final = timedelta(hours=6)
"""How long after midnight a roll-up may come."""
Log = tuple[str, str]


@dataclass(frozen=True, slots=True)
class RollUp:
    """A roll-up whose signature holds."""

    item: Item
    sha256: str
    day: str
    at: datetime
    rows: list[dict[str, Any]]
    previous_sha256: str | None


def read_rollups(run: Run, inventory: Inventory) -> list[RollUp]:
    """Those that are signed and stand where they belong, by day."""
    made = []
    for small in run.small(inventory.rollup):
        item = small.item
        found = run.fields(small, _SCHEMA, _FIELDS)
        if found is None:
            continue
        note, told = found
        if run.signer(item, note, run.policy.gateway) is None:
            continue
        if told["gateway"] != run.policy.gateway or told["day"] != item.name.day:
            run.findings.add("note_replayed", item.key, f"It is the roll-up of {told['gateway']}, {told['day']}.")
            continue
        try:
            at = instant(told["at"])
        except ValueError:
            run.findings.add("object_unreadable", item.key, "It does not say when it was made.")
            continue
        rows = [row for row in told["epochs"] if _is_row(row)]
        if len(rows) != len(told["epochs"]) or [row["origin"] for row in rows] != sorted(
            {row["origin"] for row in rows}
        ):
            run.findings.add("rollup_mismatch", item.key, "Its list of logs is not in order.")
        made.append(RollUp(item, small.sha256, told["day"], at, rows, told["previous_sha256"]))
    return sorted(made, key=lambda one: (one.day, one.at))


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and all(notes.is_a(row.get(name), kind) for name, kind in _ROW.items())


def named_sizes(run: Run, rollups: list[RollUp]) -> dict[Log, set[int]]:
    """Which roots the roll-ups speak of."""
    found: dict[Log, set[int]] = {}
    for one in rollups:
        for row in one.rows:
            log = run.log_of(row["origin"])
            if log is not None:
                found.setdefault(log, set()).add(row["size"])
    return found


def check_rollups(run: Run, rollups: list[RollUp], epochs: dict[Log, Epoch], claims: Claims) -> None:
    """Each against the one before, and against the epochs."""
    previous: str | None = None
    for one in rollups:
        if one.previous_sha256 != previous:
            code = "rollup_missing" if previous is None else "rollup_mismatch"
            run.findings.add(code, one.item.key, "The roll-up that it continues is not there, or is another.")
        previous = one.sha256
        claims.check_bytes(one.sha256, one.item.key, "rollup_mismatch")
        _check_rows(run, one, epochs)
        _check_whole(run, one, epochs)
    if rollups:
        _check_days(run, rollups, epochs)


def _check_rows(run: Run, rollup: RollUp, epochs: dict[Log, Epoch]) -> None:
    for row in rollup.rows:
        log = run.log_of(row["origin"])
        epoch = epochs.get(log) if log else None
        if epoch is None or not epoch.size:
            run.findings.add("epoch_missing", row["origin"], f"It is named by the roll-up {rollup.item.key}.")
            continue
        fault = _fault(row, epoch, rollup.day)
        if fault:
            run.findings.add("rollup_mismatch", rollup.item.key, f"What it says of {row['origin']} is not so: {fault}.")


def _fault(row: dict[str, Any], epoch: Epoch, day: str) -> str:
    size = row["size"]
    if size > epoch.size:
        return f"{size} records, where there are {epoch.size}"
    root = epoch.roots.get(size)
    if root is None:
        return f"no checkpoint of {size} records can be checked"
    if root.hex() != row["root_hash"]:
        return f"another root of {size} records"
    if row["end"] != (epoch.end if size == epoch.size else None) and not (row["end"] is None and size == epoch.size):
        return f"the end is {row['end']}"
    if (row["first_at"], row["last_at"]) != (epoch.first_at, epoch.last_at[size]):
        return "other instants"
    return "" if day in epoch.days else "it has no record on that day"


def _check_whole(run: Run, rollup: RollUp, epochs: dict[Log, Epoch]) -> None:
    """Every epoch of the day that the store had by then must be in it."""
    named = {row["origin"] for row in rollup.rows}
    cut = min(rollup.at, rollup.item.version.last_modified) - run.policy.grace
    for epoch in epochs.values():
        had = epoch.first_stored is not None and epoch.first_stored < cut
        if rollup.day in epoch.days and had and epoch.origin not in named:
            run.findings.add("rollup_mismatch", rollup.item.key, f"It leaves out {epoch.origin}, which was there.")
    sizes = {row["origin"]: row["size"] for row in rollup.rows}
    for epoch in epochs.values():
        was_done = epoch.last_stored is not None and epoch.last_stored < cut
        if was_done and epoch.origin in sizes and sizes[epoch.origin] < epoch.size:
            run.findings.add("rollup_mismatch", rollup.item.key, f"It names only a beginning of {epoch.origin}.")


def _check_days(run: Run, rollups: list[RollUp], epochs: dict[Log, Epoch]) -> None:
    there = {one.day for one in rollups}
    first = min(there)
    for day in sorted({day for epoch in epochs.values() for day in epoch.days}):
        due = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1) + _LATE
        if day > first and day not in there and due < run.now:
            run.findings.add("rollup_missing", f"v1/rollup/dt={day}/", f"There are records of {day} and no roll-up.")
