"""The key in a file. What every signer does: the contract suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ext_proc.audit.signer import LocalSigner, checked, create_signing_key
from ext_proc.errors import AuditUnavailable, ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_key_file(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    public_key = create_signing_key(path)
    assert LocalSigner.from_file(path).public_key == public_key and len(public_key) == 32
    assert path.stat().st_mode & 0o777 == 0o600 and len(path.read_bytes()) == 32
    with pytest.raises(ConfigError, match="there already"):
        create_signing_key(path)
    assert LocalSigner.from_file(path).public_key == public_key
    with pytest.raises(ConfigError, match="No such file"):
        create_signing_key(tmp_path / "nowhere" / "log.key")


def test_key_files_that_will_not_do(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    with pytest.raises(ConfigError, match="is not there; put your copy of it back"):
        LocalSigner.from_file(path)
    create_signing_key(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        LocalSigner.from_file(path)


def test_the_known_answer() -> None:
    """RFC 8032 section 7.1, test 2."""
    signer = LocalSigner(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert signer.public_key.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert signer.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


def test_a_service_that_lies() -> None:
    signer = LocalSigner(b"s" * 32)
    signature = signer.sign(b"data")
    assert checked(signature, b"data", signer.public_key) == signature
    for wrong in (b"", b"\0" * 64, signature[:-1], signer.sign(b"other")):
        with pytest.raises(AuditUnavailable, match="does not verify"):
            checked(wrong, b"data", signer.public_key)
