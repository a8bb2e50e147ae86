"""What a caller can keep and any auditor can redeem: a signed promise that the log holds a leaf. Pure.

``<origin>;<sequence>;<leaf hash>;<signature>``: Ed25519, by a key of the gateway's that signs nothing else, so that a
stolen receipt key makes no checkpoints and the log's key need not be in the workers.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ext_proc.errors import IntegrityError

if TYPE_CHECKING:
    from ext_proc.audit.note import Signer

_PARTS: Final = 4


@dataclass(frozen=True, slots=True)
class Promise:
    """A receipt taken apart; nothing about it is verified yet."""

    origin: str
    sequence: int
    leaf_hash: str
    signature: bytes


def signed_text(origin: str, sequence: int, leaf_hash: str) -> bytes:
    """What is signed."""
    return f"affidavit receipt v1\n{origin}\n{sequence}\n{leaf_hash}\n".encode()


def issue(origin: str, sequence: int, leaf_hash: str, signer: Signer) -> str:
    """The receipt, for the header ``x-affidavit-receipt``."""
    signature = signer.sign(signed_text(origin, sequence, leaf_hash))
    return f"{origin};{sequence};{leaf_hash};{base64.b64encode(signature).decode()}"


def read(receipt: str) -> Promise:
    """Take a receipt apart.

    Raises:
        IntegrityError: it is none.
    """
    parts = receipt.strip().split(";")
    try:
        if len(parts) != _PARTS or not parts[1].isascii():
            raise IntegrityError("not a receipt")
        return Promise(parts[0], int(parts[1]), parts[2], base64.b64decode(parts[3], validate=True))
    except (ValueError, binascii.Error):
        raise IntegrityError("not a receipt") from None
