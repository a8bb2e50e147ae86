"""`audit.signer.Signer` with a key that follows from a name, so that a test can say who signed."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ext_proc.errors import AuditUnavailable


class FakeSigner:
    """``is_down``: behave as if the key could not be used. ``signed``: what was signed, in order."""

    def __init__(self, name: str = "log") -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self.public_key = self._key.public_key().public_bytes_raw()
        self.is_down = False
        self.signed: list[bytes] = []

    def sign(self, data: bytes) -> bytes:
        """See `Signer.sign`."""
        if self.is_down:
            raise AuditUnavailable("signer: down")
        self.signed.append(data)
        return self._key.sign(data)
