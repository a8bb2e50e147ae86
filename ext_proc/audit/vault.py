"""The vault: what the tokens of a scope stand for, sealed; and how it is sealed. `vault_sql` keeps it in a database.

A *scope* is one caller's tokens on one connection, in one conversation where the protocol names it: a keyed reference.
What is sealed opens only with the key of the scope's subject, under its own scope and name: an erasure of the subject
leaves nothing that opens, and a row that was moved stands for nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_NONCE_BYTES: Final = 12


class Vault(Protocol):
    """What token desks need. Safe from several threads and processes.

    Every method raises `AuditUnavailable` ("token_vault") when the database cannot be used.
    """

    def keep(self, scope: str, rows: Mapping[str, bytes], at: datetime, until: datetime) -> dict[str, bytes]:
        """Keep what these names stand for, durably, unless they stand for something at ``at``: the first wins.

        What stands there already is kept longer where its time is half over.

        Returns:
            What each of the names stands for now.
        """
        ...

    def rows(self, scope: str, at: datetime, limit: int) -> dict[str, bytes]:
        """What the names of a scope stand for at ``at``, those that last longest first; ``limit`` of them at most."""
        ...

    def sweep(self, at: datetime) -> int:
        """Forget what is over at ``at``; how many rows that were."""
        ...


class Sealer:
    """Seals the values of one scope.

    Args:
        key: the subject's token key.
        scope: it is bound to it.
    """

    def __init__(self, key: bytes, scope: str) -> None:
        self._cipher = AESGCM(key)
        self._scope = scope

    def seal(self, name: str, value: str) -> bytes:
        """What a name stands for (nonce, ciphertext, tag)."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, value.encode(errors="surrogatepass"), self._bound(name))

    def open(self, name: str, sealed: bytes) -> str | None:
        """The value; None for what is not of this scope, this name and this key."""
        try:
            value = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._bound(name))
        except (InvalidTag, ValueError):
            return None
        return value.decode(errors="surrogatepass")

    def _bound(self, name: str) -> bytes:
        return f"{self._scope}|{name}".encode()
