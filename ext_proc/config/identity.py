"""``identity``: who may ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from ext_proc.config.addresses import Open, url_without_user
from ext_proc.config.fields import Algorithm, Name, Section, Text

PAIRWISE_HOSTS: Final = frozenset(
    {"login.microsoftonline.com", "sts.windows.net", "login.microsoftonline.us", "login.partner.microsoftonline.cn"}
)
"""Of issuers whose `sub` is another for each client, as they document."""


ClaimPath = Text | Annotated[list[Text], Field(min_length=1)]


class Claims(Section):
    """Which claims of a token mean what. A list walks into nested objects."""

    subject: ClaimPath = "sub"
    """Who the caller is: a claim that tokens for the console have too, so that one's own calls are known there."""
    groups: ClaimPath = "groups"
    """A list of texts, or one text."""
    client: ClaimPath = "azp"
    """The application that asked for the token."""
    tenant: ClaimPath = "tid"
    """The organisation. A token that has this claim, and not as a text, is refused: who has none leaves it out."""


class Issuer(Section):
    """An OIDC issuer whose tokens are accepted."""

    issuer: Annotated[
        Text,
        Open(  # a name may have an @, an address before its host may not
            r"[^/]*(/([^/].*)?)?|[^/]*//[^/?#@]*([/?#].*)?",
            "the token's iss; an address without a user or a password: a token belongs in bearer_token_file",
            "a token belongs in bearer_token_file",
        ),
    ]
    """Exactly the token's `iss`."""
    audiences: Annotated[list[Text], Field(min_length=1)]
    """One of these must be in the token's `aud`."""
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["RS256", "ES256"]
    """Signature algorithms accepted; symmetric ones and `none` are not among them."""
    jwks_uri: Annotated[str, url_without_user("a token belongs in bearer_token_file")] | None = None
    """Where the keys are. Left out: found by OIDC discovery at the issuer."""
    claims: Claims = Claims()
    """Which claims mean what."""
    leeway_seconds: Annotated[int, Field(ge=0, le=300)] = 30
    """Clock difference tolerated for `exp`, `nbf` and `iat`."""
    ca_file: Path | None = None
    """PEM authorities for the issuer's own TLS, if not public (a Kubernetes API server's, for example)."""
    bearer_token_file: Path | None = None
    """A token to show when fetching the keys (a Kubernetes API server asks for one)."""
    unsafe_allow_http: bool = False
    """Fetch keys over plain HTTP from another host than loopback. Whoever owns the network then owns every identity."""

    def names_people_by_sub_to(self, client_id: str) -> bool:
        """Are people known by `sub`, and may it be another for this client than for those that callers use?"""
        return self.claims.subject in ("sub", ["sub"]) and client_id not in self.audiences


class Mtls(Section):
    """Client certificates as identity."""

    name: Name = "mtls"
    """The identity's issuer is `mtls:<name>`."""
    subject_from: Annotated[list[Literal["uri", "dns", "subject"]], Field(min_length=1)] = ["uri", "dns"]
    """Where the subject is taken from, in order of preference."""


class IdentitySection(Section):
    """Who may ask."""

    issuers: list[Issuer] = []
    """Accepted OIDC issuers."""
    mtls: Mtls | None = None
    """Accept client certificates, on connections that list `mtls` under `accepts`."""
