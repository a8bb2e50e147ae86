"""Time stamps from a real authority (``openssl ts``), by a second implementation that verifies them, and from bad ones."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ext_proc.audit.timestamp import Authority, Stamp, StampInvalid, request_stamp, verify_stamp
from tests.fakes.tsa import FakeTsa

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTE = b'{"schema":"affidavit/digest/v1"}\n\n\xe2\x80\x94 demo.example/affidavit/gw-0-1 AAAA\n'


@pytest.fixture
def tsa(tmp_path: Path) -> Iterator[FakeTsa]:
    with FakeTsa(tmp_path) as running:
        yield running


@pytest.fixture
def other(tmp_path: Path) -> Iterator[FakeTsa]:
    with FakeTsa(tmp_path, "other") as running:
        yield running


def trusted(tsa: FakeTsa) -> Authority:
    return Authority(tsa.url, (tsa.root,))


def stamp(tsa: FakeTsa, note: bytes = NOTE) -> Stamp:
    made = request_stamp(note, [trusted(tsa)])
    assert made.failures == ()
    assert made.stamp is not None
    return made.stamp


def test_a_stamp_verifies_and_tells_the_time(tsa: FakeTsa):
    made = stamp(tsa)
    assert verify_stamp(NOTE, made.der, [tsa.root]) == made
    assert abs(made.at - datetime.now(UTC)) < timedelta(minutes=5)
    assert made.at.tzinfo is UTC


def test_openssl_accepts_what_we_keep(tsa: FakeTsa, tmp_path: Path):
    for name, data in (("n", NOTE), ("n.tsr", stamp(tsa).der), ("ca.pem", tsa.root.public_bytes(Encoding.PEM))):
        (tmp_path / name).write_bytes(data)
    command = ["openssl", "ts", "-verify", "-data", "n", "-in", "n.tsr", "-CAfile", "ca.pem"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "n").write_bytes(NOTE + b" ")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_only_the_hash_leaves_the_house_and_each_query_is_fresh(tsa: FakeTsa):
    stamp(tsa)
    stamp(tsa)
    first, second = tsa.queries
    assert first != second  # the nonce
    assert b"affidavit" not in first


def test_a_stamp_of_other_bytes_is_refused(tsa: FakeTsa):
    swapped = stamp(tsa, b"another digest")
    with pytest.raises(StampInvalid, match="of_other_bytes"):
        verify_stamp(NOTE, swapped.der, [tsa.root])


def test_a_stamp_by_another_authority_is_refused(tsa: FakeTsa, other: FakeTsa):
    with pytest.raises(StampInvalid, match="not_verified"):
        verify_stamp(NOTE, stamp(other).der, [tsa.root])
    assert verify_stamp(NOTE, stamp(other).der, [tsa.root, other.root])


def test_no_flipped_bit_and_no_truncation_changes_what_a_stamp_says(tsa: FakeTsa):
    made = stamp(tsa)
    unread = 0
    for index in range(len(made.der)):
        forged = bytearray(made.der)
        forged[index] ^= 1
        try:
            found = verify_stamp(NOTE, bytes(forged), [tsa.root])
        except StampInvalid:
            continue
        unread += 1  # a name of an algorithm that no verifier reads, for example: then nothing may differ
        assert (found.at, found.serial) == (made.at, made.serial)
    assert unread < len(made.der) // 20
    for length in range(0, len(made.der), 7):
        with pytest.raises(StampInvalid):
            verify_stamp(NOTE, made.der[:length], [tsa.root])


@pytest.mark.parametrize(
    ("misbehaviour", "code"),
    [
        ("error", "http_500"),
        ("redirect", "http_307"),
        ("garbage", "not_a_stamp"),
        ("long", "answer_too_long"),
        ("replay", "not_verified"),
        ("slow", "too_slow"),
        ("trickle", "too_slow"),
    ],
)
def test_an_authority_that_fails_is_told_and_the_next_one_is_asked(
    tsa: FakeTsa, other: FakeTsa, misbehaviour: str, code: str
):
    stamp(tsa)
    tsa.misbehaviour = misbehaviour
    patience = 1 if code == "too_slow" else 60
    alone = request_stamp(NOTE, [trusted(tsa)], deadline_seconds=patience)
    assert alone.stamp is None
    assert alone.failures == (f"{tsa.url}: {code}",)
    for patience in (3, 10, 20) if code == "too_slow" else (60,):  # the next one may be slow itself on a busy machine
        made = request_stamp(NOTE, [trusted(tsa), trusted(other)], deadline_seconds=patience)
        if made.stamp is not None:
            break
    assert made.stamp is not None
    assert made.failures == alone.failures
    assert verify_stamp(NOTE, made.stamp.der, [other.root])


def test_a_stamp_that_does_not_verify_is_not_kept(tsa: FakeTsa, other: FakeTsa):
    made = request_stamp(NOTE, [Authority(tsa.url, (other.root,))])
    assert made.stamp is None
    assert made.failures == (f"{tsa.url}: not_verified",)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/tsr", "not a url", "ftp://127.0.0.1/tsr", ""])
def test_nobody_there(tsa: FakeTsa, url: str):
    made = request_stamp(NOTE, [Authority(url, (tsa.root,))])
    assert made.stamp is None
    assert len(made.failures) == 1
