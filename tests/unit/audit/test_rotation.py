"""Key manifests: both keys sign, and a chain from a pinned key brings in no key that an accepted one did not name."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ext_proc.audit import note
from ext_proc.audit.rotation import AcceptedKey, accepted_keys, rotate
from ext_proc.errors import AuditUnavailable, ConfigError, IntegrityError
from tests.fakes.signer import FakeSigner

GATEWAY = "demo.example/affidavit"
T0 = datetime(2026, 11, 25, tzinfo=UTC)
K = [FakeSigner(f"key {number}") for number in range(4)]


@dataclass
class Chain:
    notes: list[str] = field(default_factory=list)

    def add(self, old: FakeSigner, new: FakeSigner, **change: Any) -> Chain:
        told = {
            "gateway": GATEWAY,
            "number": len(self.notes),
            "previous_sha256": hashlib.sha256(self.notes[-1].encode()).hexdigest() if self.notes else None,
            "at": T0 + timedelta(days=len(self.notes)),
            **change,
        }
        self.notes.append(rotate(old, new, **told))
        return self


def accepted(pinned: list[FakeSigner], notes: list[str]) -> tuple[AcceptedKey, ...]:
    return accepted_keys([key.public_key for key in pinned], notes, GATEWAY)


def test_the_note() -> None:
    [raw] = Chain().add(K[0], K[1]).notes
    opened = note.open_note(raw)
    assert note.json_of(opened) == {
        "schema": "affidavit/keys/v1",
        "gateway": GATEWAY,
        "number": 0,
        "public_key": base64.b64encode(K[1].public_key).decode(),
        "previous_public_key": base64.b64encode(K[0].public_key).decode(),
        "previous_until": "2026-11-26T00:00:00.000000Z",
        "previous_sha256": None,
        "at": "2026-11-25T00:00:00.000000Z",
    }
    assert len(opened.signatures) == 2
    assert all(note.is_signed(opened, GATEWAY, key.public_key) for key in K[:2])


def test_a_chain() -> None:
    notes = Chain().add(K[0], K[1]).add(K[1], K[2]).notes
    one = timedelta(days=1)
    assert accepted([K[0]], []) == (AcceptedKey(K[0].public_key, None, None),)
    assert accepted([K[0]], notes) == (
        AcceptedKey(K[0].public_key, None, T0 + one),
        AcceptedKey(K[1].public_key, T0, T0 + 2 * one),
        AcceptedKey(K[2].public_key, T0 + one, None),
    )
    assert [key.public_key for key in accepted([K[1]], notes)] == [
        K[1].public_key,
        K[2].public_key,
    ]  # nothing before it
    assert [key.public_key for key in accepted([K[3]], notes)] == [K[3].public_key]  # none that he names
    assert len(accepted([K[0], K[1]], notes)) == 3


def resigned(raw: str, *signers: FakeSigner, **change: Any) -> str:
    return note.sign_json({**note.json_of(note.open_note(raw)), **change}, GATEWAY, *signers).decode()


def broken_chains() -> dict[str, list[str]]:
    first = Chain().add(K[0], K[1]).notes[0]
    second = Chain([first]).add(K[1], K[2]).notes[1]
    thief = FakeSigner("thief")
    stolen = base64.b64encode(thief.public_key).decode()
    flipped = second.replace('"number":1', '"number":2')
    return {
        "swapped": [second, first],
        "one missing": [second],
        "twice": [first, first],
        "forked": [first, second, Chain([first]).add(K[1], K[3]).notes[1]],
        "flipped": [first, flipped],
        "old key only": [resigned(first, K[0])],
        "new key only": [resigned(first, K[1])],
        "thief's key, named by nobody": [first, resigned(second, thief, K[2], public_key=stolen)],
        "thief after a true one": Chain([first]).add(thief, K[2]).notes,
        "old key again": Chain([first]).add(K[1], K[0]).notes,
        "replaced key rotates": Chain([first]).add(K[0], K[2]).notes,
        "other gateway": Chain().add(K[0], K[1], gateway="other").notes,
        "other previous": [first, resigned(second, K[1], K[2], previous_sha256="00" * 32)],
        "other schema": [resigned(first, K[0], K[1], schema="affidavit/keys/v2")],
        "more fields": [resigned(first, K[0], K[1], more=1)],
        "short key": [resigned(first, K[0], K[1], public_key="AAAA")],
        "no base64": [resigned(first, K[0], K[1], public_key="!")],
        "number of another type": [resigned(first, K[0], K[1], number="0")],
        "true is no number": [first, resigned(second, K[1], K[2], number=True)],
        "no time": [resigned(first, K[0], K[1], at="yesterday")],
        "time without zone": [resigned(first, K[0], K[1], at="2026-11-25T00:00:00")],
        "same key": [resigned(first, K[0], K[1], previous_public_key=base64.b64encode(K[1].public_key).decode())],
        "no note": ["something"],
        "empty": [""],
    }


@pytest.mark.parametrize("name", list(broken_chains()))
def test_chains_that_do_not_hold(name: str) -> None:
    with pytest.raises(IntegrityError):
        accepted([K[0]], broken_chains()[name])


def test_rotations_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="the new key is the old one"):
        rotate(K[0], FakeSigner("key 0"), GATEWAY, 0, None, T0)
    for number, before in ((0, "00" * 32), (1, None), (-1, None)):
        with pytest.raises(ConfigError, match="number 0"):
            rotate(K[0], K[1], GATEWAY, number, before, T0)
    down = FakeSigner("key 1")
    down.is_down = True
    with pytest.raises(AuditUnavailable, match="signer"):
        rotate(K[0], down, GATEWAY, 0, None, T0)
