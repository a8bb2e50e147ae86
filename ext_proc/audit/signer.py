"""Who signs the log: an Ed25519 key in a file, in AWS KMS (`signer_kms`) or in OpenBao or Vault (`signer_openbao`).

A signer is bound to one key: another one, or the next version of it, is another signer, and the way from one to the
other is a key manifest (`rotation`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ext_proc.audit.key_files import KEY_BYTES, read_key
from ext_proc.audit.note import Signer
from ext_proc.errors import AuditUnavailable, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LocalSigner", "Signer", "checked", "create_signing_key"]

SIGNATURE_BYTES: Final = 64


class LocalSigner:
    """`Signer` with the key in this process.

    Args:
        seed: 32 random bytes.
    """

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key: Final = self._key.public_key().public_bytes_raw()

    @classmethod
    def from_file(cls, path: Path) -> LocalSigner:
        """Read the seed.

        Raises:
            ConfigError: unreadable, or not 32 bytes, or readable by everyone.
        """
        return cls(read_key(path))

    def sign(self, data: bytes) -> bytes:
        """See `Signer.sign`. Never fails."""
        return self._key.sign(data)


def create_signing_key(path: Path) -> bytes:
    """Make a key file, readable by the owner only. Durable when it returns.

    Returns:
        The public key.

    Raises:
        ConfigError: it is there already, or cannot be written.
    """
    seed = os.urandom(KEY_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(seed)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise ConfigError(f"key file {path} is there already: what it signed could no longer be continued") from None
    except OSError as error:
        raise ConfigError(f"key file {path}: {error.strerror}") from None
    return LocalSigner(seed).public_key


def checked(signature: bytes, data: bytes, public_key: bytes) -> bytes:
    """What a service gave as a signature, if it is one of ``data``: a note that does not verify must never leave here.

    Raises:
        AuditUnavailable: it is none.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except InvalidSignature:
        raise AuditUnavailable("signer: the service's signature does not verify") from None
    return signature
