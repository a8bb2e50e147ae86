"""Where messages may go: https, and not into our own network unless somebody configured that. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
"""Hosts that may be asked without TLS."""
_NAT64: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


class BadAddress(Exception):
    """No URL that we would send anything to; the message says why, in words of ours."""


def check_url(url: str) -> None:
    """May this be asked at all?

    Raises:
        BadAddress: no.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise BadAddress("not a URL") from None
    if parts.scheme not in {"https", "http"} or not host:
        raise BadAddress("an https URL is wanted")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise BadAddress("no user, password or fragment can be in it")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise BadAddress("https is wanted (http: on loopback only)")


def is_public(address: str) -> bool:
    """Is it an address of the public network, not of ours, however it is written?"""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found.sixtofour is not None or found.teredo is not None or any(found in net for net in _NAT64):
            return False  # another address is inside, and would be reached
    return found.is_global and not found.is_multicast and not found.is_reserved


def is_literal(host: str) -> bool:
    """Is it an address already? Then nobody resolves it. (Odd ways to write one, `0x7f.1`, are names, and resolved.)"""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
