"""`ports.Identities`: the token if one is shown, else the client certificate, as the connection accepts."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ext_proc.errors import BadToken
from ext_proc.identity import certificate, token

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ext_proc.identity.keys import KeySet
    from ext_proc.model import Connection, Identity, Presented

REMEMBERED_SECONDS: Final = 60
"""How long a verified token is not verified again. It still ends with its own ``exp``, and with its key."""
REMEMBERED_MAX: Final = 4096
"""About 1 KB each."""


@dataclass(frozen=True, slots=True)
class MtlsTrust:
    """How client certificates name their holder: see `certificate.identify`."""

    name: str
    subject_from: tuple[str, ...] = ("uri", "dns")


@dataclass(frozen=True, slots=True)
class _Remembered:
    identity: Identity
    since: float
    until: float
    generation: int


class Authenticator:
    """Verifies what callers show. Call from one event loop.

    Args:
        trusts: accepted issuers, each with its keys.
        mtls: how client certificates count; None: not at all.
    """

    def __init__(self, trusts: Sequence[tuple[token.Trust, KeySet]], mtls: MtlsTrust | None = None) -> None:
        self._trusts = {trust.issuer: (trust, keys) for trust, keys in trusts}
        self._mtls = mtls
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()

    async def start(self) -> None:
        """Fetch the keys of every issuer, so that the first caller need not wait. Never fails."""
        async with asyncio.TaskGroup() as group:
            for _, keys in self._trusts.values():
                group.create_task(keys.refresh())

    def recall(self, presented: Presented, connection: Connection, now: datetime) -> Identity | None:
        """See `ports.Identities.recall`: for the very bytes of a token that verified just before."""
        if presented.token is None or "oidc" not in connection.accepts:
            return None
        shown = presented.token.reveal()
        return self._recall(_name(shown), now.timestamp()) if _may_be_token(shown) else None

    async def authenticate(self, presented: Presented, connection: Connection, now: datetime) -> Identity:
        """See `ports.Identities.authenticate`."""
        if presented.token is not None and "oidc" in connection.accepts:
            return await self._by_token(presented.token.reveal(), now)
        if presented.certificate is not None and "mtls" in connection.accepts and self._mtls is not None:
            return certificate.identify(presented.certificate, self._mtls.name, self._mtls.subject_from)
        shown = presented.token is not None or presented.certificate is not None
        raise BadToken("not_accepted_here" if shown else "missing")

    async def close(self) -> None:
        """Stop fetching keys."""
        for _, keys in self._trusts.values():
            await keys.close()

    async def _by_token(self, shown: str, now: datetime) -> Identity:
        if not _may_be_token(shown):
            raise BadToken("too_large" if shown.isascii() else "malformed")  # before it costs a hash
        name = _name(shown)
        kept = self._recall(name, now.timestamp())
        if kept is not None:
            return kept
        said = token.read_unverified(shown)
        found = self._trusts.get(said.issuer)
        if found is None:
            raise BadToken("issuer")
        trust, keys = found
        if said.algorithm not in trust.algorithms:
            raise BadToken("algorithm")  # before it can make us fetch
        key = await keys.key(said)
        generation = keys.generation
        identity = token.verify(shown, said, key, trust, now)
        self._remember(name, identity, generation, now.timestamp())
        return identity

    def _recall(self, name: bytes, now: float) -> Identity | None:
        kept = self._remembered.get(name)
        if kept is None:
            return None
        keys = self._trusts[kept.identity.issuer][1]
        if kept.since <= now < kept.until and kept.generation == keys.generation and keys.is_usable:
            self._remembered.move_to_end(name)
            return kept.identity
        del self._remembered[name]
        return None

    def _remember(self, name: bytes, identity: Identity, generation: int, now: float) -> None:
        """Only what verified is kept: refused tokens cannot fill the memory."""
        ends = identity.expires_at.timestamp() if identity.expires_at else 0.0
        # `since`: should the clock be set back, ``nbf`` is checked again.
        self._remembered[name] = _Remembered(identity, now, min(ends, now + REMEMBERED_SECONDS), generation)
        self._remembered.move_to_end(name)
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)


def _may_be_token(shown: str) -> bool:
    return len(shown) <= token.TOKEN_MAX_BYTES and shown.isascii()


def _name(shown: str) -> bytes:
    """What a verified token is remembered by: its digest, so that the memory holds no credential."""
    return hashlib.sha256(shown.encode()).digest()
