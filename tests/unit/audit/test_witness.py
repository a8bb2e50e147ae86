"""Cosignatures and keys without any witness: a published example, and forgeries."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ext_proc.audit.witness import (
    CosignatureInvalid,
    Witness,
    Witnesses,
    WitnessKey,
    cosignatures_of,
    parse_witness_key,
    verify_cosignature,
)
from ext_proc.errors import ConfigError
from tests.foreign.tiles import checkpoint

ORIGIN = "demo.example/affidavit/gw-0-1/e"
LOG = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\2" * 32)
NAME = "witness.example/w1"
AT = 1_795_608_000
NOTE = checkpoint(ORIGIN, 7, b"\7" * 32, LOG)
TEXT = NOTE.rpartition(b"\n\n")[0] + b"\n"


def key_id(name: str = NAME, kind: bytes = b"\4", private: Ed25519PrivateKey = PRIVATE) -> bytes:
    return sha256(name.encode() + b"\n" + kind + private.public_key().public_bytes_raw()).digest()[:4]


def vkey(name: str = NAME, kind: bytes = b"\4") -> str:
    key = base64.b64encode(kind + PRIVATE.public_key().public_bytes_raw()).decode()
    return f"{name}+{key_id(name, kind).hex()}+{key}"


def line(text: bytes = TEXT, at: int = AT, name: str = NAME, label: str = "cosignature/v1") -> str:
    signature = PRIVATE.sign(f"{label}\ntime {at}\n".encode() + text)
    return f"\u2014 {name} {base64.b64encode(key_id() + at.to_bytes(8, 'big') + signature).decode()}"


KEY = parse_witness_key(vkey())


def test_a_key_is_parsed():
    assert parse_witness_key(f" {vkey()}\n") == WitnessKey(NAME, key_id(), PRIVATE.public_key().public_bytes_raw())


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "witness",
        "a+b",
        "a+zz+AAAA",
        f"{NAME}+{key_id().hex()}+AAAA",
        vkey(kind=b"\1"),  # a log's key is no witness's
        vkey().replace("w1", "w2"),
        vkey().replace("+", "+0", 1),
        vkey(name="two words"),
        vkey()[:-4],
    ],
)
def test_a_bad_key_is_refused_with_its_name(bad: str):
    with pytest.raises(ConfigError, match="witness key '"):
        parse_witness_key(bad)


def test_a_cosignature_verifies_and_tells_its_time():
    found = verify_cosignature(TEXT, line(), KEY)
    assert found.at == datetime.fromtimestamp(AT, UTC)
    assert (found.name, found.line) == (NAME, line())


def flipped(text: str, index: int) -> str:
    """The line with one bit of its base64-encoded part flipped."""
    start, _, encoded = text.rpartition(" ")
    blob = bytearray(base64.b64decode(encoded))
    blob[index] ^= 1
    return f"{start} {base64.b64encode(blob).decode()}"


@pytest.mark.parametrize("index", range(4 + 8 + 64))
def test_one_flipped_bit_anywhere(index: int):
    with pytest.raises(CosignatureInvalid):
        verify_cosignature(TEXT, flipped(line(), index), KEY)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (line(TEXT.replace(b"\n7\n", b"\n8\n")), "cosignature_invalid"),
        (line(label="cosignature/v2"), "cosignature_invalid"),
        (line(at=0), "cosignature_without_time"),
        (line(at=2**63), "cosignature_without_time"),
        (line(name="witness.example/w2"), "cosignature_of_another"),
        (line().removeprefix("\u2014 "), "cosignature_of_another"),
        ("\u2014 " + NAME, "cosignature_of_another"),
        (f"\u2014 {NAME} !!!!", "cosignature_unreadable"),
        (line() + " x", "cosignature_unreadable"),
        (f"\u2014 {NAME} {base64.b64encode(key_id()).decode()}", "cosignature_unreadable"),
        (NOTE.decode().splitlines()[-1], "cosignature_of_another"),  # the log's own signature is none
        ("", "cosignature_of_another"),
    ],
)
def test_no_cosignature(bad: str, code: str):
    with pytest.raises(CosignatureInvalid, match=code):
        verify_cosignature(TEXT, bad, KEY)


def test_a_witness_counts_once_however_often_it_signs():
    note = NOTE + f"{line()}\n{line(at=AT + 1)}\n".encode()
    assert [one.name for one in cosignatures_of(note, [KEY, KEY])] == [NAME]
    assert cosignatures_of(NOTE, [KEY]) == ()
    assert cosignatures_of(b"", [KEY]) == ()
    assert cosignatures_of(b"\xff\n\n\xff\n", [KEY]) == ()
    assert cosignatures_of(note.replace(b"\n7\n", b"\n8\n"), [KEY]) == ()


def test_a_quorum_that_cannot_be_met_is_refused():
    one = Witness("http://127.0.0.1:1", KEY)
    for witnesses, quorum in (([one], 2), ([], 1), ([one], -1), ([one, one], 1)):
        with pytest.raises(ConfigError, match="witnesses: "):
            Witnesses(witnesses, quorum)
