"""What the logs say of one another and of other objects: births and ends of epochs, what was shipped and made.

A log can be removed together with everything that it says of itself; not with what the others say of it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ext_proc.verify.source import instant

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ext_proc.verify.epoch import Epoch
    from ext_proc.verify.inventory import Inventory
    from ext_proc.verify.roster import Birth
    from ext_proc.verify.run import Item, Run
    from ext_proc.verify.source import Lock

_MADE: Final = {
    "access.shipped": ("key", "sha256", "access_log_gap"),
    "digest.made": ("key", "sha256", "digest_broken"),
    "rollup.made": ("key", "sha256", "rollup_mismatch"),
    "policy.activated": ("key", "digest", "object_changed"),
    "policy.kept": ("key", "digest", "object_changed"),
}
_DECIDED: Final = timedelta(days=2)
"""So long after a record at the latest the policy that decided is put once more (a day; and it may take a while)."""
_POLICIES_MAX: Final = 10_000
_KEPT_MAX: Final = 500_000
_STORES_MAX: Final = 1000


class Claims:
    """Collected while the logs are read, checked when all of them were."""

    def __init__(self, run: Run, inventory: Inventory) -> None:
        self.shipped: dict[str, dict[str, Any]] = {}
        self.statements: dict[str, dict[str, Any]] = {}
        self._run = run
        self._inventory = inventory
        self._made: dict[str, tuple[str, str]] = {}
        self._epochs: list[tuple[str, str, dict[str, Any]]] = []
        self._canaries: dict[str, tuple[datetime, str, bool]] = {}
        self._manifests: list[tuple[str, str]] = []
        self.policies: dict[str, tuple[datetime, str]] = {}
        """Of each policy that decided, until when the longest-kept record that names it is locked, and where it is."""
        self._lost: set[str] = set()
        self._gaps: set[tuple[str, Any, Any]] = set()
        self._kept = 0

    def take(self, log: tuple[str, str], key: str, sequence: int, told: dict[str, Any]) -> None:  # noqa: ARG002
        """One leaf that says something about something else. ``key``: of the object that holds it."""
        kind = told["kind"]
        where = f"record {sequence} in {key}"
        if kind in _MADE:
            self._take_made(kind, where, told)
        elif kind == "worm.canary":
            self._take_canary(key, sequence, told)
        elif self._kept >= _KEPT_MAX:
            self._run.findings.add("leaf_invalid", key, "The logs say more of one another than can be so.")
        elif kind == "reconcile.result":
            self.statements.setdefault(str(told.get("statement_sha256")), told)
        elif kind == "key.rotated":
            self._manifests.append((where, str(told.get("manifest_sha256"))))
        elif kind == "log.lost":
            self._take_lost(where, told)
        elif kind in ("epoch.born", "epoch.ended"):
            self._epochs.append((kind, where, told))
        self._kept += kind != "worm.canary"

    def take_policies(self, digests: Iterable[str], item: Item, lock: Lock) -> None:
        """What decided, as records in one object tell it."""
        until = lock.retain_until
        if until is None or item.version.last_modified > self._run.now - _DECIDED:
            return
        for digest in digests:
            known = self.policies.get(digest)
            if (known is None or until > known[0]) and len(self.policies) < _POLICIES_MAX:
                self.policies[digest] = (until, item.key)

    def _take_lost(self, where: str, told: dict[str, Any]) -> None:
        """The gateway admits it: a finding all the same, once for each gap and not for each record that fills it."""
        origin, first, last = str(told.get("lost_origin")), told.get("first_sequence"), told.get("last_sequence")
        self._lost.add(origin)
        if (origin, first, last) in self._gaps:
            return
        self._gaps.add((origin, first, last))
        reason = str(told.get("reason"))[:100]
        what = f"The gateway's own log says that records {first} to {last} are lost ({where}): {reason}."
        self._run.findings.add("sequence_gap", origin, what)

    def _take_made(self, kind: str, where: str, told: dict[str, Any]) -> None:
        made, sha256 = (str(told.get(name)) for name in _MADE[kind][:2])
        item = self._inventory.by_key.get(made)
        if item is None:
            self._run.findings.add("object_missing", made, f"The log names it ({where}), and it is not there.")
            return
        self._made[made] = (sha256, where)
        if kind == "access.shipped":
            self.shipped[made] = told
        if not sha256.startswith(item.name.sha16):
            self._run.findings.add(_MADE[kind][2], made, f"The log names it with other bytes ({where}).")

    def _take_canary(self, key: str, sequence: int, told: dict[str, Any]) -> None:
        try:
            at, is_well, store = instant(told["at"]), told["ok"] is True, str(told["store"])
        except (ValueError, KeyError):
            self._run.findings.add("leaf_invalid", key, f"Record {sequence} is no result of a canary.")
            return
        known = self._canaries.get(store)
        if (known is None or at >= known[0]) and len(self._canaries) < _STORES_MAX:
            checks = told.get("checks")
            rows = [one for one in checks if isinstance(one, dict)] if isinstance(checks, list) else []
            failed = ", ".join(str(one.get("name")) for one in rows if not one.get("ok"))
            self._canaries[store] = (at, f"record {sequence} in {key}: {failed}", is_well)

    def check(self, epochs: dict[tuple[str, str], Epoch], births: dict[tuple[str, str], Birth]) -> None:
        """All logs were read."""
        for kind, where, told in self._epochs:
            if kind == "epoch.born":
                self._check_born(where, told, epochs, births)
            else:
                self._check_ended(where, told, epochs)
        self._check_previous(epochs)
        self._check_births(epochs, births)
        for store, (_, where, is_well) in self._canaries.items():
            if not is_well:
                self._run.findings.add("canary_failed", store, f"The newest trial of the store failed ({where}).")
        manifests = {item.name.sha16 for item in self._inventory.keys}
        for where, sha256 in self._manifests:
            if sha256[:16] not in manifests:
                self._run.findings.add("object_missing", "v1/keys/", f"The key manifest of {where} is not there.")

    def _check_births(self, epochs: dict[tuple[str, str], Epoch], births: dict[tuple[str, str], Birth]) -> None:
        """A birth for every log, a log for every birth."""
        for log, epoch in epochs.items():
            if epoch.size and log not in births and not self._inventory.logs[log].roster:
                self._run.findings.add("roster_missing", epoch.origin, "Nothing says that this log was ever to exist.")
        for log, birth in births.items():
            is_here = log in epochs and epochs[log].size
            if not is_here and self._run.is_settled(self._inventory.by_key[birth.key].version.last_modified):
                self._missing(self._run.origin(log), f"its birth record {birth.key}")

    def check_bytes(self, sha256: str, key: str, code: str) -> None:
        """The log named this object with its whole SHA-256."""
        made = self._made.get(key)
        if made is not None and made[0] != sha256:
            self._run.findings.add(code, key, f"The log names it with other bytes ({made[1]}).")

    def is_named(self, key: str) -> bool:
        """Does any log say that it made this object?"""
        return key in self._made

    def _missing(self, origin: str, named_by: str) -> None:
        admitted = " The gateway's own log admits that it is lost." if origin in self._lost else ""
        self._run.findings.add("epoch_missing", origin, f"It is named by {named_by}, and has no log.{admitted}")

    def _check_born(
        self,
        where: str,
        told: dict[str, Any],
        epochs: dict[tuple[str, str], Epoch],
        births: dict[tuple[str, str], Birth],
    ) -> None:
        log = self._run.log_of(told.get("born_origin"))
        if log is None or log not in births:
            if log is None or not self._inventory.logs.get(log) or not self._inventory.logs[log].roster:
                self._run.findings.add("roster_missing", str(told.get("born_origin")), f"Its birth is told in {where}.")
        elif births[log].sha256 != told.get("roster_sha256"):
            self._run.findings.add("roster_mismatch", births[log].key, f"Another birth record is named in {where}.")
        is_here = log is not None and log in epochs and epochs[log].size
        if not is_here and self._is_old(told):
            self._missing(str(told.get("born_origin")), where)

    def _is_old(self, told: dict[str, Any]) -> bool:
        try:
            return self._run.is_settled(instant(told["at"]))
        except ValueError:
            return True

    def _check_ended(self, where: str, told: dict[str, Any], epochs: dict[tuple[str, str], Epoch]) -> None:
        log = self._run.log_of(told.get("ended_origin"))
        epoch = epochs.get(log) if log else None
        if epoch is None or not epoch.size:
            self._missing(str(told.get("ended_origin")), where)
        elif told.get("leaves") != epoch.size:
            what = f"It ended with {told.get('leaves')!r} records ({where}), and has {epoch.size}."
            self._run.findings.add("checkpoint_stale", epoch.origin, what)
        elif epoch.root_hash is not None and told.get("root_hash") != epoch.root_hash.hex():
            self._run.findings.add("root_mismatch", epoch.origin, f"It ended with another root ({where}).")
        elif told.get("end") != epoch.end:
            self._run.findings.add("leaf_misplaced", epoch.origin, f"It ended in another way ({where}).")

    def _check_previous(self, epochs: dict[tuple[str, str], Epoch]) -> None:
        followers: dict[tuple[str, str], str] = {}
        for (replica, _), epoch in sorted(epochs.items()):
            named = (epoch.opening or {}).get("previous")
            if named is None:
                continue
            before = (replica, str(named).rpartition("/")[2])
            if before not in epochs or not epochs[before].size:
                self._missing(self._run.origin(before), f"the log {epoch.origin}, which follows it")
            elif before in followers:
                what = f"It names the same predecessor as {followers[before]}."
                self._run.findings.add("epoch_forked", epoch.origin, what)
            followers.setdefault(before, epoch.origin)
