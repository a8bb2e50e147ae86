"""What needs no authority: certificates, and bytes that are no stamp."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ext_proc.audit.timestamp import StampInvalid, read_certificates, request_stamp, verify_stamp
from ext_proc.errors import ConfigError
from tests.fakes.tsa import FakeTsa


@pytest.fixture(scope="module")
def tsa(tmp_path_factory) -> FakeTsa:
    return FakeTsa(tmp_path_factory.mktemp("tsa"))  # its certificates only: it is never started


@pytest.mark.parametrize("body", [b"", b"\x30", b"\x30\x80", b"<html></html>", bytes(4096), os.urandom(512)])
def test_bytes_that_are_no_stamp(tsa: FakeTsa, body: bytes):
    with pytest.raises(StampInvalid, match="not_a_stamp"):
        verify_stamp(b"note", body, [tsa.root])


def test_nothing_verifies_under_no_certificate():
    with pytest.raises(StampInvalid, match="no_trusted_certificate"):
        verify_stamp(b"note", b"", [])


def test_no_authority_no_stamp():
    assert request_stamp(b"note", []).stamp is None


def test_chains_are_read_from_pem(tsa: FakeTsa):
    root, signer = (one.public_bytes(Encoding.PEM) for one in (tsa.root, tsa.signer))
    assert read_certificates(signer + root, "field") == (tsa.signer, tsa.root)
    with pytest.raises(ConfigError, match="field: no self-signed certificate; put in the root"):
        read_certificates(signer, "field")
    for bad in (b"", b"hello", root.replace(b"M", b"N")):
        with pytest.raises(ConfigError, match="field: not PEM certificates"):
            read_certificates(bad, "field")
