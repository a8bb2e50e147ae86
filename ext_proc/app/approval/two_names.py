"""Where one person can come under two names, and so be two people to the rules of approval.

A person is an issuer with a subject. Whoever calls with a client certificate and answers with a token, or has accounts
with two issuers, could agree to a call of their own. It is said and not refused: certificates are what programs call
with, and only who runs the gateway knows whether a person can have one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ext_proc.config import Config

_LEST: Final = "could agree to a call of their own: see docs/approvals.md (One person, one name)"


def warnings(config: Config) -> list[str]:
    """What to look at, in words; nothing where nobody answers holds."""
    if config.console is None:
        return []
    found = []
    by_certificate = [one.name for one in config.connections if "mtls" in one.accepts]
    if by_certificate:
        found.append(f"{', '.join(by_certificate)} accept client certificates: a person who has one as well {_LEST}")
    issuers = [one.issuer for one in config.identity.issuers]
    if len(issuers) > 1:
        found.append(f"identity.issuers: a person with an account at two of {', '.join(issuers)} {_LEST}")
    return found
