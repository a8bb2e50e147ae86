"""The statements of completeness: signed, of their day, and the same in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.verify import notes

if TYPE_CHECKING:
    from ext_proc.verify.claims import Claims
    from ext_proc.verify.inventory import Inventory
    from ext_proc.verify.run import Run

_SCHEMA: Final = "affidavit/reconcile/v1"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "gateway": str,
    "day": str,
    "envoy": int,
    "audited": int,
    "orphans": int,
    "explained": list,
    "gaps": list,
    "at": str,
}
_SAME: Final = ("day", "envoy", "audited", "orphans")


def check_statements(run: Run, inventory: Inventory, claims: Claims) -> None:
    """Every statement, and every leaf that names one."""
    there = set()
    for small in run.small(inventory.reconcile):
        key = small.item.key
        there.add(small.sha256)
        found = run.fields(small, _SCHEMA, _FIELDS)
        if found is None:
            continue
        note, told = found
        signer = notes.signer(note, run.policy.gateway, run.accepted)
        if not isinstance(signer, bytes) or run.is_late(signer, small.item):
            run.findings.add("reconcile_mismatch", key, "No key that counted then signed it, or its text was edited.")
        elif told["gateway"] != run.policy.gateway or told["day"] != small.item.name.day:
            run.findings.add("note_replayed", key, f"It is the statement of {told['gateway']}, {told['day']}.")
        else:
            _compare(run, key, told, claims.statements.get(small.sha256))
            if small.sha256 not in claims.statements and run.is_settled(small.item.version.last_modified):
                run.findings.add("object_unexpected", key, "No record of the log says that it was made.")
    for sha256 in claims.statements:
        if sha256 not in there:
            what = f"The log names a statement with SHA-256 {sha256}, and it is not there."
            run.findings.add("object_missing", "v1/reconcile/", what)


def _compare(run: Run, key: str, told: dict[str, Any], leaf: dict[str, Any] | None) -> None:
    if leaf is not None and any(leaf.get(name) != told[name] for name in _SAME):
        run.findings.add("reconcile_mismatch", key, "The log gives other figures for it.")
    if told["envoy"] != told["audited"] and not told["orphans"] and not told["explained"] and not told["gaps"]:
        what = f"Envoy counted {told['envoy']} calls and the log {told['audited']}, and nothing explains it."
        run.findings.add("reconcile_mismatch", key, what)
