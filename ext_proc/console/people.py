"""Who looks at pages: roles come from the groups of the token, by the configuration, and from nothing else. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ext_proc.model import Identity


class Role(StrEnum):
    """What somebody may do here. One person can have several."""

    APPROVER = "approver"
    AUDITOR = "auditor"
    OPERATOR = "operator"
    POLICY_AUTHOR = "policy_author"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody, and their roles."""

    identity: Identity
    roles: frozenset[Role]

    @property
    def name(self) -> str:
        """What they are called here."""
        return self.identity.subject


def viewer_of(identity: Identity, groups_of: Mapping[Role, tuple[str, ...]]) -> Viewer:
    """The viewer that the token speaks of.

    Args:
        identity: as verified.
        groups_of: which groups have a role.
    """
    groups = set(identity.groups)
    return Viewer(identity, frozenset(role for role, named in groups_of.items() if not groups.isdisjoint(named)))
