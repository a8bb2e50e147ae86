"""What only an export has: files that hold no evidence, files that nothing lists, and the trees for other tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ext_proc.verify import notes
from ext_proc.verify.directory import BUCKET, INVENTORY, LOGS, SUMS, DirectorySource
from ext_proc.verify.source import Absent
from ext_proc.verify.tiles import LogFolder

if TYPE_CHECKING:
    from ext_proc.verify.epoch import Epoch
    from ext_proc.verify.inventory import Inventory
    from ext_proc.verify.run import Run
    from ext_proc.verify.source import Version


def check_files(
    run: Run, source: DirectorySource, inventory: Inventory, epochs: dict[tuple[str, str], Epoch], *, with_packs: bool
) -> None:
    """Every file of the directory that was not read before."""
    left: dict[str, Version] = {one.place: one for one in inventory.others}
    for item in inventory.by_key.values():
        if item.version.place not in run.places_read and (with_packs or item.name.kind != "payload"):
            left[item.version.place] = item.version
    for version in left.values():
        _check_bytes(run, source, version)
    known = {INVENTORY, SUMS, BUCKET} | left.keys() | {item.version.place for item in inventory.by_key.values()}
    logs: dict[str, list[str]] = {}
    for name in source.files():
        parts = name.split("/", 3)
        if parts[0] == LOGS and len(parts) == 4:
            logs.setdefault("/".join(parts[1:3]), []).append(parts[3])
        elif name not in known:
            run.findings.add("object_unexpected", name, "The inventory does not list this file.")
    _check_logs(run, source, inventory, epochs, logs)


def _check_bytes(run: Run, source: DirectorySource, version: Version) -> None:
    try:
        with source.open(version) as opened:
            opened.drain()
    except Absent:
        run.missing(version.key)
        return
    if opened.sha256 != version.sha256 or opened.size_bytes != version.size_bytes:
        run.findings.add("object_changed", version.key, "Its bytes are not those that the inventory lists.")


def _check_logs(
    run: Run,
    source: DirectorySource,
    inventory: Inventory,
    epochs: dict[tuple[str, str], Epoch],
    logs: dict[str, list[str]],
) -> None:
    for path, names in sorted(logs.items()):
        replica, _, epoch_name = path.partition("/")
        folder = f"{LOGS}/{path}/"
        epoch = epochs.get((replica, epoch_name))
        note = _newest(run, source, inventory, (replica, epoch_name))
        if epoch is None or note is None:
            run.findings.add("tile_mismatch", folder, "There is no such log in the bucket, or no checkpoint of it.")
            continue
        keys = [key for key in run.accepted if isinstance(notes.signer(notes.parse(note), epoch.origin, [key]), bytes)]
        checker = LogFolder(source, folder, lambda name, what: run.findings.add("tile_mismatch", name, what))
        checker.check(names, epoch.origin, note, keys)
    if not logs:
        return
    for log, epoch in epochs.items():
        if epoch.size and "/".join(log) not in logs and inventory.logs[log].checkpoint:
            run.findings.add("tile_mismatch", f"{LOGS}/{'/'.join(log)}/", "The export has no tree of this log.")


def _newest(run: Run, source: DirectorySource, inventory: Inventory, log: tuple[str, str]) -> bytes | None:
    """The newest checkpoint that holds."""
    objects = inventory.logs.get(log)
    for item in sorted(objects.checkpoint if objects else (), key=lambda one: -one.name.size):
        try:
            data = source.read(item.version.place, notes.NOTE_MAX_BYTES)
            head = notes.checkpoint(notes.parse(data))
        except (Absent, ValueError):
            continue
        signer = notes.signer(notes.parse(data), run.origin(log), run.accepted)
        if isinstance(signer, bytes) and head.origin == run.origin(log) and head.size == item.name.size:
            return data
    return None
