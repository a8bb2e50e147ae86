"""Must show 7: after an erasure no key on any disk decrypts the payload, every proof holds, and people are told why."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ext_proc.app import registry
from ext_proc.audit.seal import read_pack
from ext_proc.audit.writer import binding_of
from ext_proc.config import load
from ext_proc.verify import verify
from tests.e2e.conftest import Gateway, running_gateway
from tests.e2e.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "what nobody may read any more"
NONCE, TAG, KEY = 12, 16, 32
WRAPPED = NONCE + KEY + TAG


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose bucket nobody has attacked."""
    with running_gateway(tmp_path_factory.mktemp("alone"), Upstream({}), workers=1) as made:
        yield made


class Exchange:
    """One person's exchange, with what a thief of every disk has of it."""

    def __init__(self, gateway: Gateway, subject: str) -> None:
        self.gateway = gateway
        self.subject = subject
        reply = gateway.chat(SECRET, token=gateway.stack.token(subject, ["analysts"]))
        assert reply.status == 200, reply
        self.id = reply.header("x-affidavit-exchange") or ""
        self.record = gateway.records(self.id, "inference.intent", "inference.outcome")[0]
        self.leaf = self.record[1]
        self.told: dict[str, Any] = self.leaf["payloads"][0]
        self.ciphertext = self._ciphertext()

    @property
    def reference(self) -> str:
        """The person's, as records have it."""
        return str(self.leaf["actor"]["subject_ref"])

    def _ciphertext(self) -> bytes:
        place, _, name = self.record[0].removeprefix("v1/events/").rpartition("/")
        for pack in self.gateway.store.keys(f"v1/payload/{place}/{name[:33]}-"):
            for sha256, ciphertext in read_pack(self.gateway.store.fetch(pack)):
                if sha256 == self.told["ciphertext_sha256"]:
                    return ciphertext
        raise AssertionError("no ciphertext")

    def show(self, *options: str) -> tuple[int, list[dict[str, Any]]]:
        """``affidavit records show --payloads``."""
        done = affidavit(
            "records", "show", self.id, "--payloads", "--json", "--purpose", "test", *options, config=self.gateway
        )
        assert "Traceback" not in done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    # The attack ----------------------------------------------------------------------------------------------------

    def opened_by(self, candidates: Iterator[bytes], key_encryption_key: bytes) -> bytes | None:
        """The payload in clear, if any byte string is its subject's key (wrapped or bare) or its data key."""
        wrapped = base64.b64decode(self.told["wrapped_data_key"])
        binding = binding_of(self.leaf["origin"], self.leaf["exchange_id"]).encode()
        role = binding + b"|" + self.told["role"].encode()
        label = self.told["key"].encode()

        def opens(key: bytes, sealed: bytes, bound: bytes) -> bytes | None:
            try:
                return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], bound)
            except InvalidTag:
                return None

        for candidate in candidates:
            bare = [candidate[:KEY]]
            unwrapped = opens(key_encryption_key, candidate, label) if len(candidate) == WRAPPED else None
            if unwrapped is not None:
                bare.append(unwrapped)
            for key in bare:
                data_key = opens(key, wrapped, binding)
                for last in (data_key, key):
                    if last is not None and (clear := opens(last, self.ciphertext, role)) is not None:
                        return clear
        return None


def affidavit(*arguments: str, config: Gateway) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ext_proc", *arguments, "--config", str(config.stack.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def holding(gateway: Gateway, needle: bytes) -> set[Path]:
    """The files of the gateway, the store's too, that hold these bytes."""
    found = set()
    for path in gateway.stack.folder.rglob("*"):
        with suppress(FileNotFoundError):  # it was a temporary one
            if path.is_file() and needle in path.read_bytes():
                found.add(path)
    return found


def byte_strings(paths: list[Path]) -> Iterator[bytes]:
    """Every byte string of these files that could be a key, wrapped or not; those of zeros are none."""
    seen: set[bytes] = set()
    for path in paths:
        data = path.read_bytes()
        for at in range(len(data) - KEY + 1):
            candidate = data[at : at + WRAPPED]
            if not candidate.startswith(bytes(8)) and candidate not in seen:
                seen.add(candidate)
                yield candidate


def registry_files(gateway: Gateway) -> list[Path]:
    """The registry's database with its write-ahead log and whatever else lies beside it."""
    return sorted((gateway.stack.folder / "state").glob("registry.sqlite*"))


def key_encryption_key(gateway: Gateway) -> bytes:
    return load(gateway.stack.config)[0].audit.key_encryption_key_file.read_bytes()


def erase(gateway: Gateway, *who: str) -> tuple[int, dict[str, Any]]:
    done = affidavit("erase", *who, "--reason", "ticket 17", "--by", "dpo", "--yes", "--json", config=gateway)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def wait_for_record(gateway: Gateway, place: dict[str, Any]) -> dict[str, Any]:
    """The leaf at a place, once it is in the bucket."""

    def there() -> Any:
        return [one for one in gateway.leaves() if all(one[name] == place[name] for name in ("origin", "sequence"))]

    [leaf] = gateway.wait_for(there, "the command's record is in the bucket")
    return leaf


def findings(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    s3 = gateway.stack.s3
    for name, value in {
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_DEFAULT_REGION": s3.region,
    }.items():
        monkeypatch.setenv(name, value)
    report = verify(f"s3://{s3.bucket}/", gateway.stack.auditor_policy, jobs=1)
    assert report.leaves > 0
    return [(one.code, one.object) for one in report.findings]


def test_after_an_erasure_no_key_on_any_disk_opens_the_payload(alone: Gateway, monkeypatch: pytest.MonkeyPatch):
    gone, other = Exchange(alone, "to-be-forgotten"), Exchange(alone, "somebody-else")
    kek = key_encryption_key(alone)
    keyring = registry.keyring(load(alone.stack.config)[0])
    wrapped = keyring.registry.key(gone.reference, 1).wrapped  # type: ignore[union-attr]
    # The attack is a good one: it works as long as the key is there, and it is there.
    assert holding(alone, wrapped)
    assert holding(alone, wrapped) <= set(registry_files(alone))
    assert SECRET.encode() in (gone.opened_by(byte_strings(registry_files(alone)), kek) or b"")
    assert gone.show()[0] == 0

    status, told = erase(alone, "--subject", "to-be-forgotten")
    assert (status, told["outcome"], told["generations"]) == (0, "erased", [1])

    assert holding(alone, wrapped) == set()
    files = registry_files(alone)
    assert files
    assert gone.opened_by(byte_strings(files), kek) is None
    assert SECRET.encode() in (other.opened_by(byte_strings(files), kek) or b"")  # it still can, where a key is left

    leaf = wait_for_record(alone, told["record"])
    assert (leaf["kind"], leaf["subject_ref"], leaf["reason"], leaf["by"]) == (
        "erasure.completed", gone.reference, "ticket 17", "dpo",
    )  # fmt: skip
    status, shown = gone.show()
    assert status == 1
    why = f"shredded by record {told['record']['sequence']} of {told['record']['origin']}"
    unreadable = [one for record in shown for one in record.get("unreadable", {}).values()]
    assert unreadable
    assert {(one["state"], one["why"]) for one in unreadable} == {("shredded", why)}
    assert other.show()[0] == 0
    assert findings(alone, monkeypatch) == []


def test_the_person_may_come_back_and_an_erasure_is_not_repeated(alone: Gateway):
    first = Exchange(alone, "comes-back")
    status, told = erase(alone, "--reference", first.reference)
    assert status == 0
    again, same = erase(alone, "--reference", first.reference)
    assert (again, same["outcome"], same["record"]) == (0, "already", told["record"])
    later = Exchange(alone, "comes-back")
    assert later.told["key"] == f"subject:{later.reference}#2"
    assert later.show()[0] == 0
    assert first.show()[0] == 1


def test_a_legal_hold_forbids_it(alone: Gateway):
    kept = Exchange(alone, "under-dispute")
    order = ("--reason", "ticket 18", "--by", "legal")
    place = ("legal-hold", "place", "--subject", "under-dispute", "--name", "case-1", *order)
    assert affidavit(*place, config=alone).returncode == 0
    listed = affidavit("legal-hold", "list", "--json", config=alone)
    assert [json.loads(line) for line in listed.stdout.splitlines()] == [
        {"subject_ref": kept.reference, "hold": "case-1", "until": None}
    ]
    status, told = erase(alone, "--subject", "under-dispute")
    assert (status, told["outcome"], told["hold"]) == (1, "held", "case-1")
    assert kept.show()[0] == 0
    release = ("legal-hold", "release", "--subject", "under-dispute", "--name", "case-1", *order)
    assert affidavit(*release, config=alone).returncode == 0
    assert erase(alone, "--subject", "under-dispute")[0] == 0


@pytest.mark.parametrize("lie", ["blanked", "another record", "no record"])
def test_a_key_that_went_another_way_is_unexplained(alone: Gateway, lie: str):
    """Whoever owns the registry can destroy a key; that it was an erasure, only the log can say."""
    victim = Exchange(alone, f"victim-{lie.replace(' ', '-')}")
    places = {
        "blanked": (None, None),
        "another record": (victim.leaf["origin"], victim.leaf["sequence"]),
        "no record": (victim.leaf["origin"], 10**9),
    }
    origin, sequence = places[lie]
    with closing(sqlite3.connect(alone.stack.folder / "state" / "registry.sqlite")) as database, database:
        database.execute(
            "UPDATE subject_keys SET wrapped = NULL, requested_origin = ?1, requested_sequence = ?2, "
            "completed_origin = ?1, completed_sequence = ?2 WHERE subject_ref = ?3",
            (origin, sequence, victim.reference),
        )
    status, shown = victim.show()
    assert status == 1
    unreadable = [one for record in shown for one in record.get("unreadable", {}).values()]
    assert {one["state"] for one in unreadable} == {"damaged"}
    assert all("unexplained" in one["why"] or "no erasure explains it" in one["why"] for one in unreadable)


def test_without_a_terminal_and_without_yes_nothing_is_done(alone: Gateway):
    kept = Exchange(alone, "not-confirmed")
    command = ("erase", "--subject", "not-confirmed", "--reason", "x", "--config", str(alone.stack.config))
    done = subprocess.run(
        [sys.executable, "-m", "ext_proc", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "add --yes" in done.stderr
    assert kept.show()[0] == 0


@pytest.mark.parametrize(("answer", "is_gone"), [("y\n", True), ("\n", False), ("no\n", False)])
def test_on_a_terminal_it_asks(alone: Gateway, answer: str, is_gone: bool):
    subject = f"asked-{answer.strip() or 'nothing'}"
    person = Exchange(alone, subject)
    ours, theirs = os.openpty()
    command = ("erase", "--subject", subject, "--reason", "x", "--config", str(alone.stack.config))
    with subprocess.Popen(
        [sys.executable, "-m", "ext_proc", *command],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as asking:
        os.write(ours, answer.encode())
        out, _ = asking.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert "[y/N]" in out
    assert (asking.returncode, person.show()[0]) == ((0, 1) if is_gone else (2, 0))
