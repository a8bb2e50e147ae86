"""Reading a request's or a response's head: what must be single, and what is refused. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ext_proc.errors import BadHeaders, BadToken
from ext_proc.model import Presented, Secret, Source

if TYPE_CHECKING:
    from ext_proc.model import Headers
    from ext_proc.phases.events import Attributes

# RFC 6750 section 2.1 (b64token); one space, no comma: Envoy joins repeated fields with one (measured).
_BEARER: Final = re.compile(rb"[Bb]earer ([A-Za-z0-9\-._~+/]+=*)")
_TOKEN: Final = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_STATUS: Final = re.compile(r"[1-5][0-9]{2}", re.ASCII)

_SINGLE: Final = (":method", ":path", ":authority", "content-length", "content-type", "content-encoding")

# Where a caller's own words may stand beside the body: scanned. `ext_proc.phases.fields` says in what form they pass.
VARIABLE: Final = ("accept", "anthropic-beta", "anthropic-version", "content-type", "openai-beta", "traceparent")

TARGET_MAX_BYTES: Final = 8 * 1024
"""Of path and query (RFC 9112 section 3 asks for as much): longer ones are only there to fill something."""
USER_AGENT_MAX: Final = 512
"""Characters kept of what a program says it is: it is held in memory and put to the policy for every caller."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head, read once."""

    method: str
    path: str
    content_type: str
    content_length: int | None
    is_upgrade: bool
    source: Source
    headers: Headers


def read_head(headers: Headers, attributes: Attributes) -> Head:
    """Read what must be there exactly once.

    Raises:
        BadHeaders: a field that must be single is repeated, missing or malformed.
    """
    values = {name: [value for key, value in headers if key == name] for name in _SINGLE}
    if any(len(found) > 1 for found in values.values()):
        raise BadHeaders("repeated")
    if not (values[":method"] and values[":path"] and values[":authority"]):
        raise BadHeaders("pseudo_header_missing")
    try:
        method, path = values[":method"][0].decode("ascii"), values[":path"][0].decode("ascii")
    except UnicodeDecodeError:
        raise BadHeaders("not_ascii") from None
    if len(path) > TARGET_MAX_BYTES:
        raise BadHeaders("target")
    if any(name == "transfer-encoding" and value.lower() != b"chunked" for name, value in headers):
        raise BadHeaders("transfer_encoding")
    return Head(
        method=method,
        path=path,
        content_type=_text(values["content-type"]),
        content_length=_length(values["content-length"]),
        is_upgrade=method == "CONNECT" or any(name == "upgrade" for name, _ in headers),
        source=Source(attributes.source_address, _text([v for k, v in headers if k == "user-agent"])[:USER_AGENT_MAX]),
        headers=headers,
    )


def read_credential(head: Head, attributes: Attributes) -> Presented:
    """What the caller shows: ``Authorization: Bearer`` (OpenAI's client) or ``x-api-key`` (Anthropic's), never both.

    Raises:
        BadToken: repeated, joined by a comma, both at once, or not a bearer token.
    """
    bearer = [value for name, value in head.headers if name == "authorization"]
    key = [value for name, value in head.headers if name == "x-api-key"]
    certificate = [value for name, value in head.headers if name == "x-forwarded-client-cert"]
    shown = certificate[0].decode("latin-1") if attributes.is_mtls and len(certificate) == 1 else None
    if len(bearer) + len(key) > 1:
        raise BadToken("credential_repeated")
    if not bearer and not key:
        return Presented(token=None, certificate=shown)
    match = _BEARER.fullmatch(bearer[0]) if bearer else _TOKEN.fullmatch(key[0])
    if match is None:
        raise BadToken("credential_malformed")
    return Presented(token=Secret(match.group(match.lastindex or 0).decode("ascii")), certificate=shown)


def status_of(headers: Headers) -> int:
    """The answer's status; 0 where there is none, or none that is a status (RFC 9110 section 15): never released."""
    found = _text([value for name, value in headers if name == ":status"])
    return int(found) if _STATUS.fullmatch(found) else 0


def _text(values: list[bytes]) -> str:
    return values[0].decode("latin-1") if values else ""


def _length(values: list[bytes]) -> int | None:
    if not values:
        return None
    if not values[0].isdigit() or len(values[0]) > 18:  # 18 digits: an int64, as Envoy's codec
        raise BadHeaders("content_length")
    return int(values[0])


@dataclass(frozen=True, slots=True)
class Preference:
    """What the caller prefers where the answer takes time (RFC 7240 sections 4.1 and 4.3): to be told at once to come
    back later, or to wait ``wait_seconds`` at most (None: as long as it takes).
    """

    is_async: bool = False
    wait_seconds: int | None = None


def read_preference(headers: Headers) -> Preference:
    """From ``Prefer``. What cannot be read is no preference: it changes nothing about what is recorded or masked."""
    is_async, wait = False, None
    said = b",".join(value for name, value in headers if name == "prefer").decode("latin-1")
    for one in said.split(","):
        name, _, told = (part.strip().lower() for part in one.partition(";")[0].partition("="))
        is_async = is_async or name == "respond-async"
        if name == "wait" and wait is None and _SECONDS.fullmatch(told):
            wait = int(told)
    return Preference(is_async, wait)


_SECONDS: Final = re.compile(r"[0-9]{1,6}", re.ASCII)
