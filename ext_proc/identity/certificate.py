"""Identity from Envoy's ``x-forwarded-client-cert`` element (Envoy, "HTTP header manipulation"). Pure.

Only ever given what Envoy wrote itself: with ``SANITIZE_SET`` it drops a caller's header, and the driver
passes the element on only if Envoy says that the connection is mutual TLS.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ext_proc.errors import BadToken
from ext_proc.model import Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

ELEMENT_MAX_CHARS: Final = 8192
"""Hash, subject and names take a few hundred; whole certificates (``Cert``, ``Chain``) are not asked for."""
_PAIR: Final = re.compile(r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^;,"]*)(?:;|\Z)', re.ASCII)
_ESCAPE: Final = re.compile(r"\\(.)")


def read_element(element: str) -> dict[str, list[str]]:
    """Lower-case key to values of one element.

    Raises:
        BadToken: not one well-formed element (two would be two certificates: a proxy in front of us).
    """
    if len(element) > ELEMENT_MAX_CHARS or not element.isascii() or not element.isprintable():
        raise BadToken("certificate_malformed")
    found: dict[str, list[str]] = {}
    at = 0
    while at < len(element):
        match = _PAIR.match(element, at)
        if match is None:
            raise BadToken("certificate_malformed")
        value = match.group(2)
        if value.startswith('"'):
            value = _ESCAPE.sub(r"\1", value[1:-1])
        if value:
            found.setdefault(match.group(1).lower(), []).append(value)
        at = match.end()
    return found


def identify(element: str, name: str, subject_from: Sequence[str]) -> Identity:
    """Who holds the certificate: the first of ``subject_from`` (``uri``, ``dns``, ``subject``) that it has.

    A certificate with several addresses (``uri``) is refused, as SPIFFE asks (X.509-SVID section 2), and
    so is one whose address was written so that it looks like two. Of several host names the first counts.

    Raises:
        BadToken: malformed, ambiguous, or it has none of the wanted names.
    """
    found = read_element(element)
    for source in subject_from:
        values = found.get(source, [])
        if len(values) > 1 and source != "dns":
            raise BadToken("certificate_ambiguous")
        if values:
            fingerprints = found.get("hash", [])
            return Identity(
                issuer=f"mtls:{name}",
                subject=values[0],
                method="mtls",
                token_id=fingerprints[0] if fingerprints else None,
            )
    raise BadToken("certificate_unnamed")
