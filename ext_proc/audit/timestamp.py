"""RFC 3161 time stamps: somebody else's word that a digest note existed at a time.

A stamp is kept only after it was verified here: what is stored is locked, and a wrong one could not be replaced. An
authority that fails is no reason to stop; the next one is asked, and the caller asks again in its next round.

Known limit of the library: an answer that embeds several certificates in another order than DER sorts them is refused
(``openssl ts`` with ``certs`` makes such). Configure the authority to embed only its own; the chain is ours to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography.x509 import ObjectIdentifier, load_pem_x509_certificates
from rfc3161_client import (
    HashAlgorithm,
    PKIStatus,
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from ext_proc.audit.post import Unreachable, post
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.x509 import Certificate

DEADLINE_SECONDS: Final = 10.0
_SHA256: Final = ObjectIdentifier("2.16.840.1.101.3.4.2.1")
_QUERY: Final = "application/timestamp-query"


class StampInvalid(Exception):
    """Not a time stamp over these bytes by a trusted authority. The message is a stable word of ours."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A time-stamping authority: where to ask, and its trusted chain (as `read_certificates` gives it)."""

    url: str
    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a verified stamp says. ``der`` is the whole answer (RFC 3161 TimeStampResp): the ``.tsr`` object's bytes."""

    der: bytes
    at: datetime
    serial: int


@dataclass(frozen=True, slots=True)
class Stamped:
    """What asking came to: the first stamp that verified, if any, and what stood in the way (``url: code``)."""

    stamp: Stamp | None
    failures: tuple[str, ...]


def read_certificates(pem: bytes, where: str) -> tuple[Certificate, ...]:
    """The chain of an authority: its self-signed root, and issuers between that it does not send along.

    Args:
        pem: one or more certificates.
        where: the file or field, for the error.

    Raises:
        ConfigError: there is no certificate, or no self-signed one, under which nothing can verify.
    """
    try:
        found = tuple(load_pem_x509_certificates(pem))
    except ValueError:
        raise ConfigError(f"{where}: not PEM certificates; put in the time-stamping authority's root") from None
    if not any(one.subject == one.issuer for one in found):
        raise ConfigError(f"{where}: no self-signed certificate; put in the root that the authority's chain ends in")
    return found


def request_stamp(note: bytes, authorities: Sequence[Authority], deadline_seconds: float = DEADLINE_SECONDS) -> Stamped:
    """Ask the authorities in order until one gives a stamp over ``note`` that verifies. Blocks; raises nothing.

    Args:
        note: the digest note's bytes. Only their SHA-256 leaves the house.
        authorities: in order of preference.
        deadline_seconds: for each of them.
    """
    failures: list[str] = []
    for authority in authorities:
        query = TimestampRequestBuilder().data(note).hash_algorithm(HashAlgorithm.SHA256).build()
        try:
            reply = post(authority.url, query.as_bytes(), _QUERY, deadline_seconds)
            if reply.status != 200:
                raise StampInvalid(f"http_{reply.status}")
            stamp = verify_stamp(note, reply.body, authority.certificates, nonce=query.nonce)
        except (Unreachable, StampInvalid) as error:
            failures.append(f"{authority.url}: {error}")
        else:
            return Stamped(stamp, tuple(failures))
    return Stamped(None, tuple(failures))


def verify_stamp(note: bytes, der: bytes, certificates: Sequence[Certificate], nonce: int | None = None) -> Stamp:
    """Verify a stamp against the bytes it must be over and the trusted certificates.

    Certificates must be valid at the stamp's own time, not today: evidence outlives them.

    Args:
        note: the digest note's bytes.
        der: the ``.tsr`` object.
        certificates: trusted chains; the signer's must end in one of their self-signed roots.
        nonce: of the request, while it is known.

    Raises:
        StampInvalid: it does not verify.
    """
    if not certificates:
        raise StampInvalid("no_trusted_certificate")
    verifier = VerifierBuilder(roots=list(certificates), nonce=nonce).build()
    try:
        answer = decode_timestamp_response(der)
        if answer.status != PKIStatus.GRANTED:
            raise StampInvalid(f"status_{answer.status}")
        info = answer.tst_info
        if info.message_imprint.hash_algorithm != _SHA256 or info.message_imprint.message != sha256(note).digest():
            raise StampInvalid("of_other_bytes")
        verifier.verify(answer, sha256(note).digest())
        at, serial = info.gen_time, info.serial_number
    except VerificationError:
        raise StampInvalid("not_verified") from None
    except (ValueError, TypeError, AssertionError):  # what the parser raises for bytes that are no stamp
        raise StampInvalid("not_a_stamp") from None
    return Stamp(der, at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC), serial)
