"""Envoy's own access log as it was shipped: no hole between the pieces, no line less than the log says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ext_proc.verify.lines import BadObject, inflated
from ext_proc.verify.source import Absent

if TYPE_CHECKING:
    from ext_proc.verify.claims import Claims
    from ext_proc.verify.inventory import Inventory
    from ext_proc.verify.run import Item, Run


def check_access_logs(run: Run, inventory: Inventory, claims: Claims) -> None:
    """Every piece, in the order of the file."""
    end = 0
    last: tuple[str, str] | None = None
    for item in sorted(inventory.access, key=lambda one: (one.name.replica, one.name.generation, one.name.first)):
        name = item.name
        if (name.replica, name.generation) != last:
            last, end = (name.replica, name.generation), 0
        if name.first != end:
            word = "missing" if name.first > end else "there twice"
            what = f"The bytes between {min(name.first, end)} and {max(name.first, end)} of the file are {word}."
            run.findings.add("access_log_gap", item.key, what)
        end = max(end, name.last)
        _check(run, item, claims)


def _check(run: Run, item: Item, claims: Claims) -> None:
    size = lines = 0
    tail = b"\n"
    promised = item.name.last - item.name.first
    try:
        with run.source.open(item.version) as opened:
            try:
                for part in inflated(opened):
                    size += len(part)
                    lines += part.count(b"\n")
                    tail = part[-1:] or tail
                    if size > promised:
                        break
            except BadObject as error:
                run.findings.add("object_unreadable", item.key, str(error))
            opened.drain()
    except Absent:
        run.missing(item.key)
        return
    run.seen(item, opened.sha256, opened.lock)
    told = claims.shipped.get(item.key)
    if size != promised:
        what = f"It must hold {promised} bytes of the file, and holds {'more' if size > promised else size}."
        run.findings.add("access_log_gap", item.key, what)
    if told is None:
        if run.is_settled(item.version.last_modified):
            run.findings.add("object_unexpected", item.key, "No record of the log says that it was shipped.")
        return
    claims.check_bytes(opened.sha256, item.key, "access_log_gap")
    _compare(run, item, told, lines)


def _compare(run: Run, item: Item, told: dict[str, Any], lines: int) -> None:
    name = item.name
    if told.get("lines") != lines:
        what = f"The log says that it has {told.get('lines')!r} lines, and it has {lines}."
        run.findings.add("access_log_gap", item.key, what)
    if (told.get("generation"), told.get("first_offset"), told.get("last_offset")) != (
        name.generation,
        name.first,
        name.last,
    ):
        run.findings.add("access_log_gap", item.key, "The log says that it is another part of the file.")
