"""``affidavit replay``: send what was forwarded once more, and hold the answer against the recorded one.

The call goes straight to the upstream that is named, not through the gate: it is a test by somebody who may read the
payload, and that reading is on record before it happens.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiohttp

from ext_proc.errors import CredentialUnavailable
from ext_proc.evidence.compare import Answer, compare
from ext_proc.evidence.show import open_payloads
from ext_proc.evidence.versions import EvidenceError
from ext_proc.model import Secret
from ext_proc.record_kinds import PayloadRole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ext_proc.audit.erasure import Journal
    from ext_proc.audit.keys import KeyRing
    from ext_proc.evidence.compare import Comparison
    from ext_proc.evidence.show import Located, Opened
    from ext_proc.evidence.versions import VersionedStore

PURPOSE: Final = "replay"
ANSWER_MAX_BYTES: Final = 64 << 20
_CREDENTIAL_MAX_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where to send it.

    Args:
        url: of the server; the recorded path follows, unless the URL has a path of its own.
        credential_file: holds the credential; None: none is sent.
        header: that carries it.
        prefix: before it in the header.
        timeout_seconds: for the whole answer.
    """

    url: str
    credential_file: Path | None = None
    header: str = "authorization"
    prefix: str = "Bearer "
    timeout_seconds: float = 300

    def address(self, path: str) -> str:
        """The URL of the call.

        Raises:
            EvidenceError: it is no HTTP URL.
        """
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise EvidenceError(f"{self.url}: name a server, such as https://models.example or http://127.0.0.1:8000")
        return self.url if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}{path}"

    def headers(self) -> Mapping[str, Secret]:
        """The credential's header.

        Raises:
            CredentialUnavailable: the file cannot be read, or holds no credential.
        """
        if self.credential_file is None:
            return {}
        try:
            raw = self.credential_file.read_bytes()
        except OSError as error:
            raise CredentialUnavailable(f"{self.credential_file}: {error.strerror}") from None
        text = raw.strip().decode("ascii", "replace")
        if not text or len(raw) > _CREDENTIAL_MAX_BYTES or not text.isascii() or not text.isprintable():
            raise CredentialUnavailable(f"{self.credential_file}: holds no credential of one line")
        return {self.header: Secret(self.prefix + text)}


def replay(
    store: VersionedStore,
    keyring: KeyRing,
    journal: Journal,
    located: Sequence[Located],
    upstream: Upstream,
    *,
    by: str,
) -> Comparison:
    """Send the exchange's forwarded request again and compare the answers.

    Args:
        store: the bucket.
        keyring: the keys.
        journal: where the reading is recorded.
        located: the exchange's leaves.
        upstream: where to send it.
        by: who asks, as it may stand in a leaf for ever.

    Raises:
        EvidenceError: request or answer is not on record (any more), or the upstream does not answer.
        CredentialUnavailable: the credential cannot be read.
        AuditUnavailable: the reading cannot be recorded. Nothing was read or sent.
    """
    request = _part(located, "request")
    method, path = request.get("method"), request.get("path")
    if not isinstance(method, str) or not isinstance(path, str):
        raise EvidenceError("this call was refused before its operation was known: nothing was forwarded")
    address, headers = upstream.address(path), upstream.headers()
    opened = {
        one.role: one
        for one in open_payloads(
            store,
            keyring,
            journal,
            located,
            by=by,
            purpose=PURPOSE,
            roles=(PayloadRole.REQUEST_FORWARDED, PayloadRole.RESPONSE_UPSTREAM),
        )
    }
    sent, answered = _body(opened, PayloadRole.REQUEST_FORWARDED), _body(opened, PayloadRole.RESPONSE_UPSTREAM)
    recorded = Answer(
        _part(located, "upstream").get("status"), opened[PayloadRole.RESPONSE_UPSTREAM].content_type, answered
    )
    kind = opened[PayloadRole.REQUEST_FORWARDED].content_type
    replayed = asyncio.run(_send(method, address, headers, kind, sent, upstream.timeout_seconds))
    return compare(str(request.get("protocol") or "generic"), sent, recorded, replayed)


def _body(opened: Mapping[str, Opened], role: str) -> bytes:
    one = opened.get(role)
    if one is None:
        raise EvidenceError(f"{role} is not on record: the policy did not ask for payloads, or there was none")
    if one.body is None:
        raise EvidenceError(f"{role} cannot be read: {one.state}, {one.why}")
    return one.body


def _part(located: Sequence[Located], name: str) -> dict[str, Any]:
    found = (one.leaf.get(name) for one in located if str(one.leaf.get("kind", "")).startswith("inference."))
    return next((one for one in found if isinstance(one, dict) and one), {})


async def _send(
    method: str, address: str, secrets: Mapping[str, Secret], content_type: str, body: bytes, timeout_seconds: float
) -> Answer:
    headers = {"content-type": content_type or "application/json", "accept-encoding": "identity"}
    headers |= {name: secret.reveal() for name, secret in secrets.items()}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_seconds)) as session,
            session.request(method, address, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            parts: list[bytes] = []
            size = 0
            async for chunk in answer.content.iter_chunked(1 << 16):
                size += len(chunk)
                if size > ANSWER_MAX_BYTES:
                    raise EvidenceError(f"{address}: the answer is larger than {ANSWER_MAX_BYTES} bytes")
                parts.append(chunk)
            return Answer(answer.status, answer.headers.get("content-type", ""), b"".join(parts))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise EvidenceError(f"{address}: no answer ({type(error).__name__})") from None
