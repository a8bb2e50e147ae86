"""Field rules, where rooms are joined: what a connection and a decision say of one direction's fields, together.

Of two rules for one value the stricter counts, whoever wrote it: a decision can add to what its connection says, and
undo nothing of it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ext_proc.app.exchange.labels import public_path
from ext_proc.protocols import Fields
from ext_proc.redaction import FieldMasker, FieldValues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.model import FieldRule, RedactionRule, Removal
    from ext_proc.protocols import Document

_KEPT: Final = 256
"""Sets of rules that stay ready: there are as many as connections and answers of the policy."""


class FieldGate:
    """Makes rules ready to be asked, once for each set of them.

    Args:
        hash_key: key of the one-way pseudonyms.
    """

    def __init__(self, hash_key: bytes) -> None:
        self._values = FieldValues(hash_key)
        self._ready = lru_cache(maxsize=_KEPT)(self._made)

    def of(self, connection: Sequence[FieldRule], rules: Sequence[RedactionRule]) -> Fields | None:
        """The rules of a connection and a decision; None where there are none."""
        decision = tuple(rule.field for rule in rules if rule.field is not None)
        return self._ready((*connection, *decision)) if connection or decision else None

    def _made(self, rules: tuple[FieldRule, ...]) -> Fields:
        def masker(rule: FieldRule, path: str) -> FieldMasker:
            return FieldMasker(rule, public_path(path), self._values)

        return Fields(rules, self._values.said, masker, public_path)


def entity_rules(rules: Sequence[RedactionRule]) -> Sequence[RedactionRule]:
    """The lines of a decision that are about what the scan finds."""
    return [rule for rule in rules if rule.field is None] if any(rule.field for rule in rules) else rules


def fielded(document: Document) -> tuple[list[Removal], set[str]]:
    """What field rules took out of a document, and what must not pass."""
    done = document.fielded
    if done is None:
        return [], set()
    return [*done.removals], set(done.blocked)
