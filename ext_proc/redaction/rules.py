"""The rules as they are built in: the packs beside this module, read when it is imported.

What a rule is: `ext_proc.redaction.rule`; what a pack may say and how it is checked: `ext_proc.redaction.packs`.
"""

from __future__ import annotations

import hashlib
import pkgutil
from typing import TYPE_CHECKING, Final

from ext_proc.redaction.packs import Pack, read_pack
from ext_proc.redaction.rule import KEY_MARK, SECRET_PREFIX, YIELDING, Rule, is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ENTITIES", "KEY_MARK", "PACKS", "RULES", "RULES_VERSION", "SECRET_PREFIX", "YIELDING", "Rule", "is_secret",
    "version_of",
]  # fmt: skip

BUILT_IN: Final = ("core", "secrets")


def version_of(rules: Iterable[Rule]) -> str:
    """Names rules as they are: part of every record."""
    said = (f"{r.id} {r.entity} {r.anchor} {r.pattern.pattern} {r.before} {r.after} {r.version}" for r in rules)
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]


def _built_in(name: str) -> Pack:
    data = pkgutil.get_data(__package__, f"packs/{name}.yaml")
    if data is None:
        raise FileNotFoundError(f"the package lacks packs/{name}.yaml")
    return read_pack(data, f"built-in pack {name}", is_known_safe=True)


PACKS: Final = tuple(_built_in(name) for name in BUILT_IN)
RULES: Final = tuple(rule for pack in PACKS for rule in pack.rules)
ENTITIES: Final = tuple(sorted({rule.entity for rule in RULES}))
RULES_VERSION: Final = version_of(RULES)
"""Names the built-in rules as they are: part of every record."""
