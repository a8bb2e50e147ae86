"""The log's key in AWS KMS.

A key of the kind ``ECC_NIST_EDWARDS25519``, for signing. Its owner grants ``kms:GetPublicKey`` and ``kms:Sign``.
"""

from __future__ import annotations

from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ext_proc import aws
from ext_proc.audit.signer import checked
from ext_proc.errors import AuditUnavailable, ConfigError

MESSAGE_MAX_BYTES: Final = 4096
"""KMS signs no more at once. No note asks for more: `note.PLAIN_MAX_BYTES`."""

_KEY_SPEC: Final = "ECC_NIST_EDWARDS25519"
_ALGORITHM: Final = "ED25519_SHA_512"
_SECONDS: Final = 5


class KmsSigner:
    """`Signer` by AWS KMS. Credentials come from the usual AWS places. Safe to use from several threads.

    Args:
        key_id: id, ARN or alias of the key. An alias is followed once: the signer stays with the key it named then.
        region: where the key is, or None: the usual AWS places say.
        endpoint: of the service, if it is not AWS's own.

    Raises:
        ConfigError: the key is not there, or of another kind.
        AuditUnavailable: the service cannot be asked.
    """

    def __init__(self, key_id: str, region: str | None = None, endpoint: str | None = None) -> None:
        settings = Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"total_max_attempts": 2})
        try:
            made = aws.session(None).client("kms", region_name=region, endpoint_url=endpoint, config=settings)
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(f"KMS: {type(error).__name__}; name the key's region") from None
        self._client: Any = aws.paced(made)
        told = self._ask("get_public_key", KeyId=key_id)
        if not {"KeyId", "KeySpec", "PublicKey"} <= set(told):
            raise AuditUnavailable("signer: KMS: an answer that cannot be read")
        if told["KeySpec"] != _KEY_SPEC or told.get("KeyUsage") != "SIGN_VERIFY":
            raise ConfigError(f"KMS key {key_id}: a key of the kind {_KEY_SPEC} for SIGN_VERIFY is needed")
        self._key_id = told["KeyId"]
        self.public_key: Final = _raw(told["PublicKey"], key_id)

    def sign(self, data: bytes) -> bytes:
        """See `Signer.sign`."""
        if len(data) > MESSAGE_MAX_BYTES:
            raise AuditUnavailable(f"signer: KMS signs {MESSAGE_MAX_BYTES} bytes at most, this has {len(data)}")
        told = self._ask("sign", KeyId=self._key_id, Message=data, MessageType="RAW", SigningAlgorithm=_ALGORITHM)
        return checked(told.get("Signature", b""), data, self.public_key)

    def _ask(self, operation: str, **asked: Any) -> dict[str, Any]:
        try:
            told: dict[str, Any] = getattr(self._client, operation)(**asked)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if operation == "get_public_key" and code in {"NotFoundException", "UnsupportedOperationException"}:
                raise ConfigError(f"KMS key {asked['KeyId']}: {code}") from None
            raise AuditUnavailable(f"signer: KMS: {code}") from None
        except BotoCoreError as error:
            raise AuditUnavailable(f"signer: KMS: {type(error).__name__}") from None
        return told


def _raw(der: bytes, key_id: str) -> bytes:
    try:
        key = load_der_public_key(der)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"KMS key {key_id}: its public key is not Ed25519")
    return key.public_bytes_raw()
