from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ext_proc.audit import receipt
from ext_proc.errors import IntegrityError


class _Key:
    _key = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    public_key = _key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)


def test_there_and_back():
    promise = receipt.read(receipt.issue("o/r/e", 7, "ab" * 32, _Key()))
    assert (promise.origin, promise.sequence, promise.leaf_hash) == ("o/r/e", 7, "ab" * 32)
    _Key._key.public_key().verify(promise.signature, receipt.signed_text("o/r/e", 7, "ab" * 32))


@pytest.mark.parametrize("said", ["", "a;b;c", "a;x;c;AAAA", "a;1;c;!", "a;1;c;AAAA;d"])
def test_what_is_none(said):
    with pytest.raises(IntegrityError):
        receipt.read(said)
