"""AWS KMS's wire protocol (JSON 1.1 over HTTP) for Ed25519 keys: GetPublicKey and Sign, as its API reference has them.

`behaviour`: "well", "throttled", "denied", "broken" (an answer that is no JSON), "hung up", "lying" (a signature of other data).
"""

from __future__ import annotations

import base64
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ACCOUNT = "arn:aws:kms:eu-central-1:111122223333"
MESSAGE_MAX_BYTES = 4096


class Refused(Exception):
    """An error answer: its type is the exception's name there."""


class FakeKms:
    """A server on loopback. ``keys``: by key id; ``aliases``: alias name to key id."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.aliases: dict[str, str] = {}
        self.behaviour = "well"
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def create_key(self, key_id: str, spec: str = "ECC_NIST_EDWARDS25519") -> None:
        """A new key of that kind."""
        self.keys[key_id] = (
            Ed25519PrivateKey.generate() if spec.endswith("25519") else ec.generate_private_key(ec.SECP256R1())
        )

    def start(self) -> None:
        """Listen, at the same port each time."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                fake._serve(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Hang up."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        service, _, operation = (request.headers["X-Amz-Target"] or "").partition(".")
        assert service == "TrentService" and request.headers["Content-Type"] == "application/x-amz-json-1.1"
        assert re.match(r"AWS4-HMAC-SHA256 Credential=", request.headers["Authorization"])
        asked = json.loads(body)
        self.asked.append((operation, asked))
        try:
            status, told = 200, json.dumps(self._answer(operation, asked)).encode()
        except Refused as refused:
            status, told = 400, json.dumps({"__type": str(refused), "message": "no"}).encode()
        if self.behaviour == "broken":
            told = b"<html>"
        if self.behaviour == "hung up":
            request.close_connection = True
            return
        request.send_response(status)
        request.send_header("Content-Type", "application/x-amz-json-1.1")
        request.send_header("Content-Length", str(len(told)))
        request.end_headers()
        request.wfile.write(told)

    def _answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        if self.behaviour in {"throttled", "denied"}:
            raise Refused({"throttled": "ThrottlingException", "denied": "AccessDeniedException"}[self.behaviour])
        name = asked["KeyId"].rpartition("key/")[2]
        key_id = self.aliases.get(name, name)
        key = self.keys.get(key_id)
        if key is None:
            raise Refused("NotFoundException")
        arn = f"{ACCOUNT}:key/{key_id}"
        is_ed25519 = isinstance(key, Ed25519PrivateKey)
        if operation == "GetPublicKey":
            der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            spec = "ECC_NIST_EDWARDS25519" if is_ed25519 else "ECC_NIST_P256"
            algorithms = ["ED25519_SHA_512", "ED25519_PH_SHA_512"] if is_ed25519 else ["ECDSA_SHA_256"]
            return {
                "KeyId": arn,
                "PublicKey": base64.b64encode(der).decode(),
                "KeySpec": spec,
                "KeyUsage": "SIGN_VERIFY",
                "SigningAlgorithms": algorithms,
            }
        assert operation == "Sign"
        message = base64.b64decode(asked["Message"])
        if not 1 <= len(message) <= MESSAGE_MAX_BYTES:
            raise Refused("ValidationException")
        if asked["SigningAlgorithm"] != "ED25519_SHA_512" or asked.get("MessageType") != "RAW" or not is_ed25519:
            raise Refused("InvalidKeyUsageException")
        signature = key.sign(b"something else" if self.behaviour == "lying" else message)
        return {"KeyId": arn, "Signature": base64.b64encode(signature).decode(), "SigningAlgorithm": "ED25519_SHA_512"}
