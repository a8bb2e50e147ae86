"""Tokens: where the keys, the vault (`audit`) and their form (`redaction`) are joined into `ports.TokenDesk`.

The scope of a token is one caller (issuer, tenant and subject) on one connection, and in one conversation where the
request's protocol names it. A caller chooses nothing else: nobody's token ever resolves for anybody else.

Values are read from the vault for each exchange, and kept nowhere else: other replicas write there too, an erasure must
count at once, and opening a row takes two microseconds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ext_proc import telemetry
from ext_proc.audit.vault import Sealer
from ext_proc.errors import AuditUnavailable
from ext_proc.model import Tokens
from ext_proc.redaction.redact import ANY
from ext_proc.redaction.rules import is_secret
from ext_proc.redaction.tokens import LENGTHS, entity_of, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from ext_proc.audit.keys import KeyRing
    from ext_proc.audit.vault import Vault
    from ext_proc.model import Call, Decision, Wanted

RESTORABLE_MAX: Final = 4096
"""Tokens of a scope that one answer can bring back: those that were used last."""
SWEEP_SECONDS: Final = 300.0

_log = telemetry.logger()


class VaultDesk:
    """`ports.TokenDesk`.

    Args:
        keyring: has the subjects' keys.
        vault: keeps what tokens stand for.
        lifetime: of a token that nobody uses again.
    """

    def __init__(self, keyring: KeyRing, vault: Vault, lifetime: timedelta) -> None:
        self._keyring = keyring
        self._vault = vault
        self._lifetime = lifetime

    async def open(self, call: Call, decision: Decision, wanted: Wanted, now: datetime) -> Tokens:
        """See `ports.TokenDesk.open`."""
        return await asyncio.to_thread(self.open_now, call, decision, wanted, now)

    def open_now(self, call: Call, decision: Decision, wanted: Wanted, now: datetime) -> Tokens:
        """`open`, for a thread."""
        subject_ref = self._keyring.subject_reference(call.identity)
        key = self._keyring.token_key(subject_ref)
        scope = self._keyring.reference("tokens", subject_ref, call.connection.name, wanted.conversation)
        sealer = Sealer(key, scope)
        minted = self._minted(wanted.values, key, scope, now) if wanted.values else {}
        restorable: dict[str, str] = {}
        if decision.restore:
            rows = self._vault.rows(scope, now, RESTORABLE_MAX)
            opened = {name: sealer.open(name, sealed) for name, sealed in rows.items() if _may(name, decision)}
            restorable = {name: value for name, value in opened.items() if value is not None}
            restorable |= {name: value for (_, value), name in minted.items() if _may(name, decision)}
        return Tokens(minted, restorable)

    def _minted(
        self, values: Sequence[tuple[str, str]], key: bytes, scope: str, now: datetime
    ) -> Mapping[tuple[str, str], str]:
        """A token for each; a name that stands for another value gets a letter more."""
        sealer = Sealer(key, scope)
        minted: dict[tuple[str, str], str] = {}
        left = list(values)
        for length in LENGTHS:
            names: dict[str, tuple[str, str]] = {}
            for one in left:
                names.setdefault(name_of(key, scope, *one, length), one)
            sealed = {name: sealer.seal(name, value) for name, (_, value) in names.items()}
            kept = self._vault.keep(scope, sealed, now, now + self._lifetime)
            minted |= {one: name for name, one in names.items() if sealer.open(name, kept.get(name, b"")) == one[1]}
            left = [one for one in left if one not in minted]
            if not left:
                return minted
        raise AuditUnavailable("token_vault: every name is taken")

    async def sweep_forever(self, clock: Callable[[], datetime]) -> None:
        """Forget what is over, for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await asyncio.to_thread(self._vault.sweep, clock())
            except AuditUnavailable as error:  # what is over opens for nobody; the rows are forgotten next time
                _log.warning("tokens not swept", code=error.code, detail=error.detail)


def _may(name: str, decision: Decision) -> bool:
    entity = entity_of(name)
    return (entity in decision.restore or ANY in decision.restore) and not is_secret(entity)
