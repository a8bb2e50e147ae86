"""The policy bundles: each is what its whole name says, some log says that it was active, and one copy of it is locked
for as long as any record of what it decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from ext_proc.verify.claims import Claims
    from ext_proc.verify.inventory import Inventory
    from ext_proc.verify.run import Run

_BUNDLE_MAX_BYTES: Final = 64 << 20
_FOLDER: Final = "v1/policy/"
_DIGITS: Final = 64


def check_bundles(run: Run, inventory: Inventory, claims: Claims) -> None:
    """All logs were read."""
    until: dict[str, datetime] = {}
    for small in run.small(inventory.policy, _BUNDLE_MAX_BYTES):
        key, version = small.item.key, small.item.version
        promised = key[len(_FOLDER) :][:_DIGITS]
        if small.sha256 != promised and small.sha256[:16] == promised[:16]:  # else it was said already
            run.findings.add("object_changed", key, "Its bytes are not those that its name promises.")
        if not claims.is_named(key) and run.is_settled(version.last_modified):
            run.findings.add("object_unexpected", key, "No log says that this policy was ever active.")
        end = small.lock.retain_until if small.lock else None
        if small.sha256 == promised and claims.is_named(key) and end is not None:
            until[promised] = max(end, until.get(promised, end))
    for digest, (wanted, key) in claims.policies.items():
        found = until.get(digest)
        if found is not None and found < wanted - run.policy.tolerance:
            what = f"The lock of its last copy ends {found}, and that of a record that names it {wanted} ({key})."
            run.findings.add("policy_lock_short", f"{_FOLDER}{digest}", what)
