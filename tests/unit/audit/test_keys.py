from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.audit.keys import NOBODY, KeyRing, create_key_files, read_key
from ext_proc.errors import AuditUnavailable, ConfigError, IntegrityError
from ext_proc.model import Identity, Payload
from tests.fakes.log import ADA, a_keyring

PAYLOADS = (Payload("request.raw", b"secret words", "application/json"), Payload("request.forwarded", b"", "text/x"))

OTHER = """
import sys
from pathlib import Path
from ext_proc.audit.keys import KeyRing
from ext_proc.model import Payload
import json
ring = KeyRing(b"k" * 32, b"p" * 32, Path(sys.argv[1]))
told, sealed = ring.encrypt("subject-1", [Payload("request.raw", b"from the other", "a/b")], "o|x")
print(json.dumps([told[0], sealed[0].hex()]))
"""


def test_payloads_come_back(tmp_path):
    keys = a_keyring(tmp_path)
    told, sealed = keys.encrypt("s", PAYLOADS, "o|x")
    assert [keys.decrypt(one, body, "o|x") for one, body in zip(told, sealed, strict=True)] == [b"secret words", b""]
    assert b"secret" not in sealed[0]
    assert [one["plaintext_bytes"] for one in told] == [12, 0]
    assert keys.encrypt("s", (), "o|x") == ([], [])


def test_nothing_is_encrypted_alike_twice(tmp_path):
    keys = a_keyring(tmp_path)
    (one,), (body,) = keys.encrypt("s", PAYLOADS[:1], "o|x")
    (other,), (again,) = keys.encrypt("s", PAYLOADS[:1], "o|x")
    assert body != again
    assert one["wrapped_data_key"] != other["wrapped_data_key"]
    nonces = [sealed[:12] for sealed in keys.encrypt("s", PAYLOADS * 2, "o|x")[1]]
    assert len(set(nonces)) == 4, "no nonce twice under one data key"


@pytest.mark.parametrize("moved", ["exchange", "role", "subject", "bytes", "data key"])
def test_a_moved_or_changed_payload_does_not_decrypt(tmp_path, moved):
    keys = a_keyring(tmp_path)
    (told, other), (sealed, _) = keys.encrypt("s", PAYLOADS, "o|x")
    elsewhere, _ = keys.encrypt("s2", PAYLOADS, "o|x")
    binding = "o|y" if moved == "exchange" else "o|x"
    if moved == "role":
        told = told | {"role": other["role"]}
    if moved == "subject":
        told = told | {"key": "subject:s2"}
    if moved == "bytes":
        sealed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    if moved == "data key":
        told = told | {"wrapped_data_key": elsewhere[0]["wrapped_data_key"]}
    with pytest.raises(IntegrityError):
        keys.decrypt(told, sealed, binding)


@pytest.mark.parametrize("wrapped", ["", "AAAA", "not base64!", "A"])
def test_a_wrapped_key_of_nonsense_is_an_integrity_error(tmp_path, wrapped):
    keys = a_keyring(tmp_path)
    (told, _), (sealed, _) = keys.encrypt("s", PAYLOADS, "o|x")
    with pytest.raises(IntegrityError):
        keys.decrypt(told | {"wrapped_data_key": wrapped}, sealed, "o|x")


def test_a_subject_whose_key_is_destroyed_cannot_be_read_and_others_can(tmp_path):
    keys = a_keyring(tmp_path)
    (gone,), (sealed,) = keys.encrypt("s", PAYLOADS[:1], "o|x")
    (kept,), (other,) = keys.encrypt("t", PAYLOADS[:1], "o|x")
    with sqlite3.connect(tmp_path / "registry.sqlite") as database:
        database.execute("DELETE FROM subject_keys WHERE subject_ref = 's'")
    database.close()
    fresh = a_keyring(tmp_path)
    with pytest.raises(IntegrityError, match="gone"):
        fresh.decrypt(gone, sealed, "o|x")
    assert fresh.decrypt(kept, other, "o|x") == b"secret words"


def test_another_key_encryption_key_reads_nothing_and_writes_nothing(tmp_path):
    (told,), (sealed,) = a_keyring(tmp_path).encrypt("s", PAYLOADS[:1], "o|x")
    other = a_keyring(tmp_path, b"x" * 32)
    with pytest.raises(IntegrityError):
        other.decrypt(told, sealed, "o|x")
    with pytest.raises(AuditUnavailable):
        other.encrypt("s", PAYLOADS, "o|x")


def test_processes_share_one_key_for_one_subject(tmp_path):
    registry = tmp_path / "registry.sqlite"
    others = [
        subprocess.Popen([sys.executable, "-c", OTHER, str(registry)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    mine = KeyRing(b"k" * 32, b"p" * 32, registry)
    mine.encrypt("subject-1", PAYLOADS, "o|x")
    for other in others:
        told, sealed = json.loads(other.communicate(timeout=60)[0])
        assert other.returncode == 0
        assert mine.decrypt(told, bytes.fromhex(sealed), "o|x") == b"from the other"


def test_only_the_owner_can_read_the_registry_and_what_sqlite_puts_beside_it(tmp_path):
    keys = a_keyring(tmp_path)
    keys.encrypt("s", PAYLOADS, "o|x")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert "registry.sqlite-wal" in modes
    assert set(modes.values()) == {0o600}, modes


def test_a_key_is_on_the_disk_before_it_is_used(tmp_path):
    keys = a_keyring(tmp_path)
    assert keys._database.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"


def test_a_registry_that_cannot_be_opened_is_a_configuration_error(tmp_path):
    (tmp_path / "registry.sqlite").write_bytes(b"this is no database, and long enough to be seen as none" * 10)
    with pytest.raises(ConfigError, match="registry"):
        a_keyring(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="registry"):
        KeyRing(b"k" * 32, b"p" * 32, tmp_path / "file" / "registry.sqlite")


def test_a_registry_that_fails_is_audit_unavailable(tmp_path):
    keys = a_keyring(tmp_path)
    with sqlite3.connect(tmp_path / "registry.sqlite") as database:
        database.execute("DROP TABLE subject_keys")
    database.close()
    with pytest.raises(AuditUnavailable):
        keys.encrypt("new", PAYLOADS, "o|x")


def test_many_subjects_do_not_grow_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("ext_proc.audit.keys._KEPT_SUBJECTS", 3)
    keys = a_keyring(tmp_path)
    made = [(f"s{n}", keys.encrypt(f"s{n}", PAYLOADS[:1], "o|x")) for n in range(8)]
    for who in range(8):
        keys.subject_reference(replace(ADA, subject=str(who)))
    assert len(keys._kept) <= 3 and len(keys._subjects) <= 3
    for _, ((told,), (sealed,)) in made:
        assert keys.decrypt(told, sealed, "o|x") == b"secret words"


TEXTS = st.lists(st.text(st.characters(codec=None)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    return a_keyring(tmp_path_factory.mktemp("keys"))


@given(one=TEXTS, other=TEXTS)
def test_references_are_equal_exactly_where_the_parts_are(ring, one, other):
    assert (ring.reference(*one) == ring.reference(*other)) == (one == other)


def test_people_of_two_tenants_are_never_one(ring):
    one = Identity("iss", "u", "oidc", tenant="t\0s")
    other = Identity("iss", "s\0u", "oidc", tenant="t")
    assert ring.subject_reference(one) != ring.subject_reference(other)
    assert ring.subject_reference(None) == NOBODY


def test_the_pepper_makes_the_reference(tmp_path, ring):
    other = KeyRing(b"k" * 32, b"q" * 32, tmp_path / "registry.sqlite")
    assert other.reference("ada") != ring.reference("ada")
    assert "ada" not in ring.reference("ada")


def test_key_files_are_the_owner_s_and_never_overwritten(tmp_path):
    [path] = create_key_files(tmp_path, "pepper")
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(read_key(path)) == 32
    with pytest.raises(FileExistsError):
        create_key_files(tmp_path, "pepper")


def test_bad_key_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_key(tmp_path / "absent")
    path = tmp_path / "key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="32 bytes"):
        read_key(path)
    path.write_bytes(b"x" * 32)
    path.chmod(0o604)
    with pytest.raises(ConfigError, match="others may read"):
        read_key(path)
    path.chmod(0o640)
    assert read_key(path) == b"x" * 32
    with pytest.raises(ConfigError):
        read_key(tmp_path)
