"""The witness client against ``aics-witness``, a real one by others, and against a fake that can misbehave.

What a witness promises is asked of both; what a witness must not do, of the fake.
"""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ext_proc.audit.witness import Cosigned, Witness, Witnesses, cosignatures_of, parse_witness_key
from ext_proc.demo.programs import answers, free_ports, start, tool
from tests.fakes.witness import FakeWitness
from tests.foreign.tiles import Tree, checkpoint, vkey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORIGIN = "demo.example/affidavit/gw-0-1/e1"
UNKNOWN = "demo.example/affidavit/gw-9-9/e9"
KEY = Ed25519PrivateKey.generate()
TREE = Tree([f"leaf {number}".encode() for number in range(600)])
FORK = Tree([f"other {number}".encode() for number in range(600)])


@dataclass
class Log:
    """A log that counts what is asked of it."""

    tree: Tree = TREE
    origin: str = ORIGIN
    key: Ed25519PrivateKey = KEY
    asked: list[tuple[int, int]] = field(default_factory=list)

    def note(self, size: int) -> bytes:
        return checkpoint(self.origin, size, self.tree.root(size), self.key)

    def proof(self, old: int, new: int) -> list[bytes]:
        self.asked.append((old, new))
        return self.tree.consistency(old, new)

    def cosign(self, witnesses: Witnesses, size: int) -> Cosigned:
        return witnesses.cosign(self.note(size), self.proof)


@contextmanager
def real_witness(folder: Path) -> Iterator[Witness]:
    program, config = tool("aics-witness"), folder / "witness.json"
    [port] = free_ports(1)

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments, "--config", config], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()

    said = command("init", "--name", "witness.example/real", "--listen", f"127.0.0.1:{port}")
    command("add-log", "--origin", ORIGIN, "--vkey", vkey(ORIGIN, KEY))
    running = start("aics-witness", (program, "serve", "--config", config), folder / "logs")
    try:
        running.wait_until(answers(port, "/healthz"))
        yield Witness(f"http://127.0.0.1:{port}/", parse_witness_key(said))
    finally:
        running.stop()


@pytest.fixture
def fake() -> Iterator[FakeWitness]:
    with FakeWitness() as running:
        running.trust(ORIGIN, KEY.public_key().public_bytes_raw())
        yield running


def of(fake: FakeWitness) -> Witness:
    return Witness(fake.url, parse_witness_key(fake.vkey))


@pytest.fixture(params=["fake", "aics-witness"])
def witness(request, tmp_path, fake) -> Iterator[Witness]:
    if request.param == "fake":
        yield of(fake)
        return
    with real_witness(tmp_path) as running:
        yield running


def test_a_growing_log_is_cosigned(witness: Witness):
    log, witnesses = Log(), Witnesses([witness], quorum=1)
    for size in (1, 2, 3, 255, 256, 257, 600):
        made = log.cosign(witnesses, size)
        assert (made.failures, made.has_quorum) == ((), True)
        assert made.note.startswith(log.note(size))
        assert cosignatures_of(made.note, [witness.key]) == made.cosignatures
    # One proof for each step, and none to begin with.
    assert log.asked == [(1, 2), (2, 3), (3, 255), (255, 256), (256, 257), (257, 600)]


def test_the_same_checkpoint_twice(witness: Witness):
    log, witnesses = Log(), Witnesses([witness], quorum=1)
    assert [log.cosign(witnesses, 5).has_quorum for _ in range(2)] == [True, True]
    assert log.asked == []


def test_who_forgot_asks_the_witness(witness: Witness):
    log = Log()
    assert log.cosign(Witnesses([witness], quorum=1), 300).has_quorum
    assert log.cosign(Witnesses([witness], quorum=1), 600).has_quorum
    assert log.asked == [(300, 600)]


def test_a_log_that_was_cut_is_told(witness: Witness):
    log = Log()
    log.cosign(Witnesses([witness], quorum=1), 600)
    made = log.cosign(Witnesses([witness], quorum=1), 300)
    assert made.failures == (f"{witness.key.name}: witness_is_ahead",)
    assert (made.note, made.has_quorum) == (log.note(300), False)


@pytest.mark.parametrize("size", [300, 600])
def test_a_fork_is_not_cosigned(witness: Witness, size: int):
    Log().cosign(Witnesses([witness], quorum=1), 300)
    made = Log(FORK).cosign(Witnesses([witness], quorum=1), size)
    assert made.failures == (f"{witness.key.name}: witness_inconsistent",)
    assert not made.has_quorum
    assert Log().cosign(Witnesses([witness], quorum=1), 600).has_quorum


def test_a_log_or_key_that_the_witness_does_not_know(witness: Witness):
    witnesses = Witnesses([witness], quorum=1)
    assert Log(origin=UNKNOWN).cosign(witnesses, 3).failures == (f"{witness.key.name}: witness_log_unknown",)
    other = Log(key=Ed25519PrivateKey.generate())
    assert other.cosign(witnesses, 3).failures == (f"{witness.key.name}: witness_key_unknown",)


@pytest.mark.parametrize(
    ("misbehaviour", "code"),
    [
        ("error", "http_500"),
        ("slow", "too_slow"),
        ("long", "answer_too_long"),
        ("garbage", "cosignature_missing"),
        ("empty", "cosignature_missing"),
        ("forged", "cosignature_invalid"),
        ("other_text", "cosignature_invalid"),
        ("other_name", "cosignature_missing"),
        ("no_time", "cosignature_without_time"),
        ("ahead", "witness_is_ahead"),
        ("lost", "witness_conflict"),
        ("stubborn", "witness_conflict"),
    ],
)
def test_a_witness_that_misbehaves_is_told_and_does_not_count(fake: FakeWitness, misbehaviour: str, code: str):
    fake.misbehaviour = misbehaviour
    log, witnesses = Log(), Witnesses([of(fake)], quorum=1, deadline_seconds=1 if misbehaviour == "slow" else 60)
    made = log.cosign(witnesses, 7)
    assert made.failures == (f"{fake.name}: {code}",)
    assert (made.note, made.cosignatures, made.has_quorum) == (log.note(7), (), False)
    assert len(fake.requests) <= 2
    fake.misbehaviour = ""
    if misbehaviour == "slow":  # with its second a busy machine may be late itself
        witnesses = Witnesses([of(fake)], quorum=1, deadline_seconds=60)
    assert log.cosign(witnesses, 8).has_quorum  # and the next round finds the way again


def test_a_remembered_size_saves_the_second_question(fake: FakeWitness):
    log, witnesses = Log(), Witnesses([of(fake)], quorum=1)
    for count, size in enumerate((3, 4, 300), 1):
        assert log.cosign(witnesses, size).has_quorum
        assert len(fake.requests) == count


def test_a_quorum_of_two_in_three(fake: FakeWitness):
    with FakeWitness("witness.example/second") as second, FakeWitness("witness.example/third") as third:
        second.trust(ORIGIN, KEY.public_key().public_bytes_raw())
        third.misbehaviour = "error"
        log, witnesses = Log(), Witnesses([of(third), of(fake), of(second)], quorum=2)
        made = log.cosign(witnesses, 4)
        assert [one.name for one in made.cosignatures] == [fake.name, second.name]
        assert made.failures == ("witness.example/third: http_500",)
        assert made.has_quorum
        second.misbehaviour = "forged"
        assert not log.cosign(witnesses, 5).has_quorum
        keys = [of(one).key for one in (fake, second, third)]
        assert len(cosignatures_of(made.note, keys)) == 2


def test_nobody_there(fake: FakeWitness):
    [port] = free_ports(1)
    for url in (f"http://127.0.0.1:{port}", "no url"):
        made = Log().cosign(Witnesses([Witness(url, of(fake).key)], quorum=0), 3)
        assert len(made.failures) == 1
        assert (made.cosignatures, made.has_quorum) == ((), True)  # a quorum of none is no demand
