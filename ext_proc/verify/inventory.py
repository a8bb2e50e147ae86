"""All versions of all objects, sorted by what they are. The oldest version is the evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ext_proc.verify import names
from ext_proc.verify.run import Item, Run

if TYPE_CHECKING:
    from ext_proc.verify.source import Version


@dataclass(slots=True)
class LogObjects:
    """The objects of one epoch."""

    events: list[Item] = field(default_factory=list)
    payload: list[Item] = field(default_factory=list)
    checkpoint: list[Item] = field(default_factory=list)
    cosigned: list[Item] = field(default_factory=list)
    digest: list[Item] = field(default_factory=list)
    stamp: list[Item] = field(default_factory=list)
    roster: list[Item] = field(default_factory=list)


@dataclass(slots=True)
class Inventory:
    """The bucket, sorted. ``others``: versions that are no evidence (later ones, bait, what does not belong)."""

    logs: dict[tuple[str, str], LogObjects] = field(default_factory=dict)
    access: list[Item] = field(default_factory=list)
    rollup: list[Item] = field(default_factory=list)
    reconcile: list[Item] = field(default_factory=list)
    policy: list[Item] = field(default_factory=list)
    keys: list[Item] = field(default_factory=list)
    by_key: dict[str, Item] = field(default_factory=dict)
    others: list[Version] = field(default_factory=list)


def take_inventory(run: Run) -> Inventory:
    """Walk all versions."""
    made = Inventory()
    oldest: dict[str, Version] = {}
    for version in run.source.versions(run.findings):
        if not version.key.startswith("v1/"):
            if not version.is_delete_marker:
                made.others.append(version)  # not ours: an export's bytes are checked all the same
            continue
        is_bait = version.key.startswith(names.CANARY)
        if version.is_delete_marker:
            if not is_bait:
                what = f"The object was hidden behind a delete marker on {version.last_modified}."
                run.findings.add("delete_marker", version.key, what)
            continue
        kept = oldest.get(version.key)
        if kept is None:
            oldest[version.key] = version
            continue
        older, newer = _by_age(run, kept, version)
        oldest[version.key] = older
        made.others.append(newer)
        if not is_bait:
            what = f"The object was written again on {newer.last_modified} (version {newer.version})."
            run.findings.add("version_extra", version.key, what)
    for version in oldest.values():
        _sort_in(run, made, version)
    run.objects_total = len(oldest)
    return made


def _sort_in(run: Run, made: Inventory, version: Version) -> None:
    name = names.read(version.key)
    if name is None:
        run.findings.add("object_unexpected", version.key, "Nothing that the gateway writes has such a name.")
        made.others.append(version)
        return
    if name.kind == "canary":
        made.others.append(version)
        return
    item = Item(name, version)
    made.by_key[version.key] = item
    if name.epoch:
        getattr(made.logs.setdefault(name.log, LogObjects()), name.kind).append(item)
    else:
        getattr(made, name.kind).append(item)


def _by_age(run: Run, first: Version, second: Version) -> tuple[Version, Version]:
    """The older one before the newer one; of two of the same time the order of the list decides."""
    if first.last_modified == second.last_modified:
        return (second, first) if run.source.is_newest_first else (first, second)
    return (first, second) if first.last_modified < second.last_modified else (second, first)
