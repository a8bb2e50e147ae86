"""Who called, as a record names them: by keyed references, which the last callers keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ext_proc.audit.keys import KeyRing
    from ext_proc.model import Entry, Identity

TENANT: Final = "tenant"
"""What a reference to a tenant is of. Of its name alone: as holds know tenants, whichever issuer speaks of them."""
_KNOWN_MAX: Final = 1024


class People:
    """References to callers: the two records of an exchange have the same, so they are made once."""

    def __init__(self, keyring: KeyRing) -> None:
        self._keyring = keyring
        self._known: dict[tuple[Identity | None, tuple[str, str] | None], dict[str, Any]] = {}

    def of(self, entry: Entry, subject: str) -> dict[str, Any]:
        """The fields ``actor`` and ``source`` of a record's leaf; ``subject``: the caller's own reference."""
        source = entry.source
        # Without the port, which no reference is of: another connection of the same caller is known, too.
        place = None if source is None else (source.address.rpartition(":")[0] or source.address, source.user_agent)
        known = (entry.identity, place)
        people = self._known.get(known)
        if people is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            people = self._known[known] = self._referenced(*known, subject)
        return people

    def _referenced(self, identity: Identity | None, place: tuple[str, str] | None, subject: str) -> dict[str, Any]:
        reference = self._keyring.reference
        people: dict[str, Any] = {"actor": None, "source": None}
        if identity is not None:
            people["actor"] = {
                "subject_ref": subject,
                "issuer": identity.issuer,
                "method": identity.method,
                "client": reference("client", identity.client) if identity.client else None,
                "groups_ref": reference("groups", *identity.groups),
                "token_ref": reference("token", identity.token_id) if identity.token_id else None,
                # Only where there is one: whoever may read one tenant's exchanges finds them by it.
                **({"tenant_ref": reference(TENANT, identity.tenant)} if identity.tenant else {}),
            }
        if place is not None:
            address, user_agent = place
            people["source"] = {
                "address_ref": reference("address", address),
                "user_agent_ref": reference("user-agent", user_agent),
            }
        return people
