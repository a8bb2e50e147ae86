"""A bearer token, verified against keys that are at hand (RFC 7519, RFC 8725). Pure: the time is an argument.

 1. the size is bounded before anything is parsed, and the form is three parts of base64url;
 2. the header is read only to choose: algorithm from the issuer's own list, key by ``kid``; a token that
    brings a key or an address of one (``jwk``, ``jku``, ``x5c``, ``x5u``) or a critical extension is refused;
 3. the issuer is one of the configured, by exact comparison, before any key is looked for;
 4. the key must be of the kind that the algorithm wants (no confusion of the two);
 5. signature, ``iss``, ``aud``, ``exp`` (required), ``nbf``, ``iat``, ``sub`` are checked; the tenant if it is there.

The detail of a `BadToken` is one of a fixed set of words: never a claim.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ext_proc.errors import BadToken, ConfigError
from ext_proc.model import Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jwt.types import Options

    PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

TOKEN_MAX_BYTES: Final = 16 * 1024
"""Larger than any that fits in Envoy's header limits by default; Entra's with 200 groups have about 12 KB."""

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
RSA_BITS_MIN: Final = 2048
"""RFC 7518 section 3.3."""
KEYS_MAX: Final = 64
"""Of one key set. Large issuers publish fewer than ten."""

_FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_BRINGS_A_KEY: Final = frozenset({"jwk", "jku", "x5c", "x5u", "crit"})
_YEAR_10000: Final = 253_402_300_800
_CURVES: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}

# Times are checked by us, against the clock that was handed in.
_OPTIONS: Final[Options] = {
    "require": ["exp", "sub"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (jwt.InvalidAudienceError, "audience"),
    (jwt.InvalidIssuerError, "issuer"),
    (jwt.exceptions.InvalidSubjectError, "subject"),
    (jwt.MissingRequiredClaimError, "claim_missing"),
    (jwt.InvalidSignatureError, "signature"),
    (jwt.InvalidAlgorithmError, "algorithm"),
)


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Which claim means what; a path of several names walks into objects."""

    subject: tuple[str, ...] = ("sub",)
    groups: tuple[str, ...] = ("groups",)
    client: tuple[str, ...] = ("azp",)
    tenant: tuple[str, ...] = ("tid",)


@dataclass(frozen=True, slots=True)
class Trust:
    """An issuer whose tokens are accepted, and how.

    Raises:
        ConfigError: no audience, no algorithm, or one that is symmetric, ``none`` or unknown.
    """

    issuer: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...]
    leeway_seconds: int = 30
    claims: ClaimNames = ClaimNames()

    def __post_init__(self) -> None:
        wrong = sorted(set(self.algorithms) - ALGORITHMS)
        if wrong:
            raise ConfigError(f"identity.issuers: {self.issuer}: cannot use algorithms {', '.join(wrong)}")
        if not self.algorithms or not self.audiences or not all(self.audiences):
            raise ConfigError(f"identity.issuers: {self.issuer}: name an audience and an algorithm")


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key of an issuer; ``algorithm`` is the only one the issuer means it for, if it says so."""

    key_id: str | None
    algorithm: str | None
    public: PublicKey
    fingerprint: bytes

    def fits(self, algorithm: str) -> bool:
        """May a signature of ``algorithm`` be checked with this key?"""
        if self.algorithm not in (None, algorithm):
            return False
        if isinstance(self.public, RSAPublicKey):
            return algorithm.startswith(("RS", "PS"))
        if isinstance(self.public, EllipticCurvePublicKey):
            return _CURVES.get(algorithm) == self.public.curve.name
        return algorithm == "EdDSA"


@dataclass(frozen=True, slots=True)
class Unverified:
    """What a token says of itself: used to choose a key, believed in nothing."""

    issuer: str
    key_id: str | None
    algorithm: str


def read_keys(document: Mapping[str, Any]) -> tuple[VerificationKey, ...]:
    """The usable keys of a JWK set (RFC 7517 section 5); others are passed over, as the standard asks.

    Raises:
        ValueError: it is not a key set.
    """
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ValueError("not a key set")  # noqa: TRY004 - a document of the wrong shape, not a wrong call
    found = (_read_key(one) for one in listed[:KEYS_MAX] if isinstance(one, dict))
    return tuple(key for key in found if key is not None)


def read_unverified(token: str) -> Unverified:
    """Steps 1 and 2.

    Raises:
        BadToken: too large, not a signed token, or it brings its own key.
    """
    if len(token) > TOKEN_MAX_BYTES:
        raise BadToken("too_large")
    parts = _FORM.fullmatch(token)
    if parts is None:
        # An unsecured token (RFC 7519 section 6) has an empty third part and ends here as well.
        raise BadToken("malformed")
    header, claims = _object(parts[1]), _object(parts[2])
    if not _BRINGS_A_KEY.isdisjoint(header):
        raise BadToken("brings_a_key")
    algorithm, key_id, issuer = header.get("alg"), header.get("kid"), claims.get("iss")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise BadToken("algorithm")
    if not isinstance(issuer, str) or not (key_id is None or isinstance(key_id, str)):
        raise BadToken("malformed")
    return Unverified(issuer, key_id, algorithm)


def choose(keys: Iterable[VerificationKey], said: Unverified) -> VerificationKey | None:
    """Step 4: the key that the token names and its algorithm fits; without a name, the only key there is.

    Raises:
        BadToken: it names no key although there are several, or names one of another kind.
    """
    known = tuple(keys)
    if said.key_id is None and len(known) > 1:
        raise BadToken("key_not_named")
    named = [key for key in known if said.key_id is None or key.key_id == said.key_id]
    fitting = [key for key in named if key.fits(said.algorithm)]
    if named and not fitting:
        raise BadToken("key_unfit")
    return fitting[0] if fitting else None


def verify(token: str, said: Unverified, key: VerificationKey, trust: Trust, now: datetime) -> Identity:
    """Step 5, with the key that `choose` chose. Steps 3 and 4 are checked again: nobody can leave them out.

    Raises:
        BadToken: ``detail`` says which check failed.
    """
    claims, expires_at = _verified(token, said, key, trust, now)
    return _identity(claims, expires_at, trust)


def verify_id_token(
    token: str, said: Unverified, key: VerificationKey, trust: Trust, now: datetime, *, nonce: str
) -> Identity:
    """Step 5 for an ID token, which is for one client alone and answers one question of its (OpenID Connect Core 1.0,
    section 3.1.3.7).

    Args:
        token: it.
        said: what it says of itself.
        key: as chosen.
        trust: its only audience is the client's id.
        now: the time.
        nonce: what the client asked with.

    Raises:
        BadToken: ``detail`` says which check failed.
    """
    claims, expires_at = _verified(token, said, key, trust, now)
    if not hmac.compare_digest(str(claims.get("nonce")).encode(errors="replace"), nonce.encode()):
        raise BadToken("nonce")
    audiences, party = claims["aud"], claims.get("azp")
    is_shared = isinstance(audiences, list) and len(audiences) > 1
    if (party is not None or is_shared) and party not in trust.audiences:
        raise BadToken("audience")
    return _identity(claims, expires_at, trust)


def _verified(
    token: str, said: Unverified, key: VerificationKey, trust: Trust, now: datetime
) -> tuple[dict[str, Any], datetime]:
    """The claims of a token that is good for ``trust``, and its end."""
    if said.algorithm not in trust.algorithms:
        raise BadToken("algorithm")
    if not key.fits(said.algorithm):
        raise BadToken("key_unfit")
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key=key.public,
            algorithms=[said.algorithm],
            audience=list(trust.audiences),
            issuer=trust.issuer,
            options=_OPTIONS,
        )
    except jwt.PyJWTError as error:
        words = (word for kind, word in _REASONS if isinstance(error, kind))
        raise BadToken(next(words, "invalid")) from None
    except (ValueError, RecursionError):
        raise BadToken("malformed") from None
    return claims, _check_times(claims, now.timestamp(), trust.leeway_seconds)


def _identity(claims: Mapping[str, Any], expires_at: datetime, trust: Trust) -> Identity:
    subject = _text(_at(claims, trust.claims.subject))
    if subject is None or not claims["sub"]:
        raise BadToken("subject")
    return Identity(
        issuer=trust.issuer,
        subject=subject,
        method="oidc",
        groups=_texts(_at(claims, trust.claims.groups)),
        client=_text(_at(claims, trust.claims.client)),
        tenant=_tenant(claims, trust.claims.tenant),
        token_id=_text(claims.get("jti")),
        expires_at=expires_at,
    )


def _check_times(claims: Mapping[str, Any], now: float, leeway: int) -> datetime:
    """RFC 7519 sections 4.1.4 to 4.1.6."""
    times: dict[str, float] = {}
    for name in ("exp", "nbf", "iat"):
        if name not in claims:
            continue  # `exp` was required above
        value = claims[name]
        # NaN fails the comparison too: Python's JSON accepts it.
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _YEAR_10000:
            raise BadToken("time_malformed")
        times[name] = float(value)
    if now >= times["exp"] + leeway:
        raise BadToken("expired")
    if now < times.get("nbf", 0.0) - leeway:
        raise BadToken("not_yet_valid")
    if now < times.get("iat", 0.0) - leeway:
        raise BadToken("issued_at")
    return datetime.fromtimestamp(times["exp"], tz=UTC)


def _read_key(jwk: Mapping[str, Any]) -> VerificationKey | None:
    key_id, algorithm, operations = jwk.get("kid"), jwk.get("alg"), jwk.get("key_ops", ["verify"])
    is_for_signatures = jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    # `oct`: a shared secret cannot tell who signed.
    if not is_for_signatures or jwk.get("kty") == "oct" or not (key_id is None or isinstance(key_id, str)):
        return None
    if not (algorithm is None or (isinstance(algorithm, str) and algorithm in ALGORITHMS)):
        return None
    # A private part, published by mistake, is left out rather than loaded.
    shown = {name: value for name, value in jwk.items() if name in ("kty", "crv", "n", "e", "x", "y")}
    try:
        public = jwt.PyJWK(shown).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
        return None
    if isinstance(public, RSAPublicKey) and public.key_size < RSA_BITS_MIN:
        return None
    if not isinstance(public, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey):
        return None
    fingerprint = repr((key_id, algorithm, sorted(shown.items()))).encode()
    return VerificationKey(key_id, algorithm, public, fingerprint)


def _object(part: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise BadToken("malformed") from None
    if not isinstance(found, dict):
        raise BadToken("malformed")
    return found


def _at(claims: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = claims
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _tenant(claims: Mapping[str, Any], path: tuple[str, ...]) -> str | None:
    """The tenant; None only where the token says nothing of one.

    Who has no tenant may be let see every tenant's: a claim that names one in a way that nobody can read must not make
    somebody that.

    Raises:
        BadToken: there is such a claim, and it is no text.
    """
    found: Any = claims
    for name in path:
        if not isinstance(found, dict):
            raise BadToken("tenant")
        if name not in found:
            return None
        found = found[name]
    tenant = _text(found)
    if tenant is None:
        raise BadToken("tenant")
    return tenant


def _text(value: Any) -> str | None:
    """A text that can be written down again: half of a surrogate pair cannot (JSON lets it in, escaped)."""
    if not isinstance(value, str) or not value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadToken("malformed") from None
    return value


def _texts(value: Any) -> tuple[str, ...]:
    """Groups as a sorted set. Anything that is not a text grants nothing."""
    listed = value if isinstance(value, list) else [value]
    return tuple(sorted({text for text in map(_text, listed) if text is not None}))
