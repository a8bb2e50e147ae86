"""`ports.Identities` without keys: tokens are names in a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ext_proc.errors import BadToken, KeysUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ext_proc.model import Connection, Identity, Presented


class FakeIdentities:
    """Knows the identities it was given, by token and by certificate element.

    ``is_down``: behave as if no keys could be had. ``asked`` counts questions.
    """

    def __init__(self, tokens: Mapping[str, Identity], certificates: Mapping[str, Identity] | None = None) -> None:
        self.tokens = dict(tokens)
        self.certificates = dict(certificates or {})
        self.is_down = False
        self.recalled: set[str] = set()
        self.recall_error: BaseException | None = None
        self.asked = 0

    def recall(self, presented: Presented, connection: Connection, now: datetime) -> Identity | None:
        """See `ports.Identities.recall`. Knows only those in ``recalled``; raises ``recall_error``."""
        if self.recall_error is not None:
            raise self.recall_error
        token = presented.token.reveal() if presented.token is not None else ""
        return self.tokens.get(token) if token in self.recalled else None

    async def authenticate(self, presented: Presented, connection: Connection, now: datetime) -> Identity:
        """See `ports.Identities.authenticate`."""
        self.asked += 1
        if presented.token is not None and "oidc" in connection.accepts:
            if self.is_down:
                raise KeysUnavailable("never_fetched")
            found = self.tokens.get(presented.token.reveal())
            if found is None:
                raise BadToken("signature")
            if found.expires_at is not None and now >= found.expires_at:
                raise BadToken("expired")
            return found
        if presented.certificate is not None and "mtls" in connection.accepts:
            found = self.certificates.get(presented.certificate)
            if found is None:
                raise BadToken("certificate_unnamed")
            return found
        shown = presented.token is not None or presented.certificate is not None
        raise BadToken("not_accepted_here" if shown else "missing")
