"""The log's key in OpenBao's or Vault's transit engine, over its HTTP API.

A key of the type ``ed25519``, not derived. Its policy grants ``read`` on ``transit/keys/<key>`` and ``update`` on
``transit/sign/<key>``. Rotating it there makes a new version; a signer stays with its own.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from ext_proc.audit.signer import SIGNATURE_BYTES, checked
from ext_proc.errors import AuditUnavailable, ConfigError
from ext_proc.pace import PacedResponse

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS: Final = 5
_ANSWER_MAX_BYTES: Final = 1024 * 1024
_SIGNATURE: Final = re.compile(r"(?:vault|bao):v([0-9]+):([A-Za-z0-9+/=]+)")
_PUBLIC_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class TransitKey:
    """Where the key is.

    Args:
        address: of the server, `https://host:8200`. Plain HTTP is accepted on loopback only.
        key: name of the key.
        token_file: the token to show; read at each use, so an agent may renew it.
        mount: path of the transit engine.
        namespace: the namespace, if any.
        ca_file: PEM authorities of the server's certificate, if not public.
    """

    address: str
    key: str
    token_file: Path
    mount: str = "transit"
    namespace: str | None = None
    ca_file: Path | None = None


class OpenBaoSigner:
    """`Signer` by OpenBao or Vault. Safe to use from several threads.

    Args:
        key: where it is.
        version: of the key, or None: the newest now. It does not change while the signer lives.

    Raises:
        ConfigError: the key is not there, or of another kind, or cannot be asked for in this way.
        AuditUnavailable: the server cannot be asked.
    """

    def __init__(self, key: TransitKey, version: int | None = None) -> None:
        self._key = key
        self._connection = _connector(key)
        told = self._ask("GET", f"keys/{quote(key.key, safe='')}")
        if told.get("type") != "ed25519" or told.get("derived"):
            raise ConfigError(f"transit key {key.key}: a key of the type ed25519, not derived, is needed")
        self.version: Final = version if version is not None else told.get("latest_version", 0)
        self.public_key: Final = self._public_key(told)

    def sign(self, data: bytes) -> bytes:
        """See `Signer.sign`."""
        asked = {"input": base64.b64encode(data).decode(), "key_version": self.version}
        told = self._ask("POST", f"sign/{quote(self._key.key, safe='')}", asked)
        found = _SIGNATURE.fullmatch(str(told.get("signature")))
        if found is None or int(found[1]) != self.version:
            raise AuditUnavailable("signer: OpenBao: not a signature of this key version")
        try:
            signature = base64.b64decode(found[2], validate=True)
        except ValueError:
            signature = b""
        if len(signature) != SIGNATURE_BYTES:
            raise AuditUnavailable("signer: OpenBao: not an Ed25519 signature")
        return checked(signature, data, self.public_key)

    def _public_key(self, told: dict[str, Any]) -> bytes:
        try:
            raw = base64.b64decode(told["keys"][str(self.version)]["public_key"], validate=True)
        except (KeyError, TypeError, ValueError):
            raise ConfigError(f"transit key {self._key.key}: it has no version {self.version}") from None
        if len(raw) != _PUBLIC_KEY_BYTES:
            raise ConfigError(f"transit key {self._key.key}: its public key is not Ed25519")
        return raw

    def _ask(self, method: str, path: str, asked: dict[str, Any] | None = None) -> dict[str, Any]:
        key = self._key
        body = None if asked is None else json.dumps(asked)
        connection = self._connection()
        connection.response_class = PacedResponse
        try:
            connection.request(method, f"/v1/{quote(key.mount)}/{path}", body, self._headers())
            answer = connection.getresponse()
            raw = answer.read(_ANSWER_MAX_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise AuditUnavailable(f"signer: OpenBao: {type(error).__name__}") from None
        finally:
            connection.close()
        if answer.status == http.HTTPStatus.NOT_FOUND and method == "GET":
            raise ConfigError(f"transit key {key.key}: the server has none under {key.mount}/")
        if answer.status != http.HTTPStatus.OK:
            raise AuditUnavailable(f"signer: OpenBao: HTTP status {answer.status}")
        try:
            told = json.loads(raw)["data"]
        except (ValueError, KeyError, TypeError):
            told = None
        if not isinstance(told, dict):
            raise AuditUnavailable("signer: OpenBao: an answer that cannot be read")
        return told

    def _headers(self) -> dict[str, str]:
        try:
            token = self._key.token_file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise AuditUnavailable("signer: the token file cannot be read") from None
        if not token.isascii() or not token.isprintable() or not token:
            raise AuditUnavailable("signer: the token file does not hold a token")
        headers = {"X-Vault-Token": token, "X-Vault-Request": "true", "Content-Type": "application/json"}
        return headers if self._key.namespace is None else {**headers, "X-Vault-Namespace": self._key.namespace}


def _connector(key: TransitKey) -> Any:
    """Makes connections. One a signature: there is one in some seconds, and a dead one is noticed at once."""
    try:
        parsed = urlsplit(key.address)
        host, port = parsed.hostname, parsed.port
    except ValueError:
        host, port, parsed = None, None, urlsplit("")
    if not host or parsed.scheme not in {"http", "https"} or parsed.path.strip("/") or parsed.query or parsed.username:
        raise ConfigError(f"transit address: write https://host:port, not {key.address!r}")
    if parsed.scheme == "http":
        if host not in {"127.0.0.1", "::1", "localhost"}:
            raise ConfigError("transit address: https is needed to another host, or the token is anybody's")
        return lambda: http.client.HTTPConnection(host, port, timeout=_SECONDS)
    try:
        context = ssl.create_default_context(cafile=key.ca_file)
    except OSError:  # ssl.SSLError is one
        raise ConfigError(f"transit ca_file {key.ca_file}: no PEM certificates can be read from it") from None
    return lambda: http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
