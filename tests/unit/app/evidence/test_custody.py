"""`app.evidence.custody`: erase, legal-hold and keys, from the command line to the registry, the bucket and the command's log."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ext_proc.app import registry
from ext_proc.app.evidence import custody
from ext_proc.app.evidence.custody import Person
from ext_proc.audit import note
from ext_proc.audit.erasure import Order
from ext_proc.audit.rotation import accepted_keys
from ext_proc.audit.signer import LocalSigner
from ext_proc.cli import main
from ext_proc.config import load
from ext_proc.errors import AuditUnavailable, ConfigError
from ext_proc.model import Payload
from tests.fakes.configured import GATEWAY, a_config
from tests.fakes.log import on_disk
from tests.fakes.store import BadStore, FakeStore

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.config import Config

Said = pytest.CaptureFixture[str]
ORDER = ("--reason", "ticket 17", "--by", "dpo")
S3 = {"bucket": "evidence", "endpoint": "http://127.0.0.1:1", "retention_days": 10}
ISSUER = "https://login.example.com"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    a_config(tmp_path, s3=S3)
    (tmp_path / "state" / "evidence").mkdir()
    return tmp_path / "config.yaml"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    made = FakeStore(retention=timedelta(days=10))
    monkeypatch.setattr(custody, "store_of", lambda _: made)
    return made


def run(config: Path, *arguments: str) -> int:
    return main([*arguments, "--config", str(config)])


def noted(config: Path) -> list[dict[str, Any]]:
    """Every leaf of the commands' logs but those about the logs themselves."""
    folders = sorted((config.parent / "state" / "evidence").iterdir())
    leaves = [leaf for folder in folders for leaf in on_disk(folder)]
    assert {leaf["origin"].rpartition("/")[0] for leaf in leaves} <= {f"{GATEWAY}/gw-0-command"}
    return [leaf for leaf in leaves if not leaf["kind"].startswith("log.")]


def kinds(config: Path) -> list[str]:
    return [leaf["kind"] for leaf in noted(config)]


def with_key_of(config: Path, subject: str = "ada") -> str:
    """The reference of somebody who has a key."""
    keyring = registry.keyring(load(config)[0])
    reference = keyring.person_reference(ISSUER, None, subject)
    keyring.encrypt(reference, [Payload("request.raw", b"secret", "text/plain")], "o|e")
    return reference


# Who is meant ---------------------------------------------------------------------------------------------------------


def test_the_only_issuer_is_meant(config: Path):
    told = load(config)[0]
    keyring = registry.keyring(told)
    assert Person(subject="ada").reference_by(keyring, told) == keyring.person_reference(ISSUER, None, "ada")
    named = Person(subject="ada", issuer="https://gone.example", tenant="acme").reference_by(keyring, told)
    assert named == keyring.person_reference("https://gone.example", "acme", "ada")


def _issuers(config: Path, *urls: str) -> Config:
    whole = yaml.safe_load(config.read_text())
    whole["identity"]["issuers"] = [{"issuer": url, "audiences": ["a"]} for url in urls]
    config.write_text(yaml.safe_dump(whole))
    return load(config)[0]


def test_of_several_issuers_one_must_be_named(config: Path):
    told = _issuers(config, "https://a.example", "https://b.example")
    with pytest.raises(ConfigError, match=r"--issuer: subjects of which one\? https://a.example, https://b.example"):
        Person(subject="ada").reference_by(registry.keyring(told), told)


@pytest.mark.parametrize(
    ("person", "why"),
    [
        (Person(reference="ada"), "64 hex digits"),
        (Person(reference="hmac-sha256:" + "0" * 64, tenant="acme"), "leave out --issuer and --tenant"),
        (Person(), "name the person"),
        (Person(subject=""), "name the person"),
    ],
)
def test_nobody_is_meant(person: Person, why: str, config: Path):
    told = load(config)[0]
    with pytest.raises(ConfigError, match=why):
        person.reference_by(registry.keyring(told), told)


# erase ----------------------------------------------------------------------------------------------------------------


def test_erase(config: Path, capsys: Said):
    reference = with_key_of(config)
    assert run(config, "erase", "--subject", "ada", *ORDER, "--yes") == 0
    said = capsys.readouterr().out
    requested, completed = noted(config)
    assert [requested["kind"], completed["kind"]] == ["erasure.requested", "erasure.completed"]
    assert completed["subject_ref"] == reference
    assert f"as record {completed['sequence']} of {completed['origin']} says" in said
    assert "Copies of the registry" in said  # what a program cannot reach
    assert run(config, "erase", "--subject", "ada", *ORDER, "--yes") == 0
    assert f"since record {completed['sequence']} of {completed['origin']}" in capsys.readouterr().out


def test_erase_of_somebody_unknown_leaves_no_trace_and_says_what_to_check(config: Path, capsys: Said):
    assert run(config, "erase", "--subject", "nobody-here", *ORDER, "--yes") == 1
    assert "Check --issuer and --tenant" in capsys.readouterr().out
    assert kinds(config) == []


def test_erase_under_a_hold(config: Path, capsys: Said):
    reference = with_key_of(config)
    assert run(config, "legal-hold", "place", "--subject", "ada", "--name", "case-1", *ORDER) == 0
    assert run(config, "erase", "--reference", reference, *ORDER, "--yes", "--json") == 1
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["outcome"], told["hold"], told["generations"]) == ("held", "case-1", [])
    assert kinds(config) == ["legalhold.placed", "erasure.refused"]
    key = registry.keyring(load(config)[0]).registry.key(reference, 1)
    assert key is not None and key.wrapped is not None


@pytest.mark.parametrize("reason", ["", " ", "x" * 201, "two\nlines"])
def test_a_reason_that_cannot_stand_in_a_leaf(reason: str, config: Path, capsys: Said):
    with_key_of(config)
    assert run(config, "erase", "--subject", "ada", "--reason", reason, "--yes") == 2
    assert "reason: one line of 1 to 200 characters" in capsys.readouterr().err
    assert kinds(config) == []


# legal-hold -----------------------------------------------------------------------------------------------------------


def test_holds(config: Path, capsys: Said):
    place = ("legal-hold", "place", "--subject", "ada", *ORDER)
    assert run(config, *place, "--name", "case-2", "--until", "2999-01-31T00:00:00+01:00") == 0
    assert run(config, *place, "--name", "case-1") == 0
    assert run(config, "legal-hold", "place", "--subject", "bob", "--name", "case-1", *ORDER) == 0
    capsys.readouterr()
    assert run(config, "legal-hold", "list", "--subject", "ada", "--json") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["hold"], one["until"]) for one in told] == [
        ("case-1", None),
        ("case-2", "2999-01-30T23:00:00.000000Z"),
    ]
    assert run(config, "legal-hold", "list") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert run(config, "legal-hold", "release", "--subject", "ada", "--name", "case-1", *ORDER) == 0
    assert run(config, "legal-hold", "release", "--subject", "ada", "--name", "case-1", *ORDER) == 2
    assert "no hold case-1 is in force" in capsys.readouterr().err
    assert kinds(config) == ["legalhold.placed"] * 3 + ["legalhold.released"]


def test_no_hold(config: Path, capsys: Said):
    assert run(config, "legal-hold", "list") == 0
    assert capsys.readouterr().out == "no hold is in force\n"
    assert run(config, "legal-hold", "list", "--json") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("until", ["soon", "2027-13-01", "2027-01-31T00:00:00"])
def test_a_hold_with_a_bad_end(until: str, config: Path, capsys: Said):
    assert run(config, "legal-hold", "place", "--subject", "ada", "--name", "c", "--until", until, *ORDER) == 2
    assert "for example 2027-01-31T00:00:00Z" in capsys.readouterr().err
    assert kinds(config) == []


# keys -----------------------------------------------------------------------------------------------------------------


def test_create(tmp_path: Path, capsys: Said):
    path = tmp_path / "key"
    assert main(["keys", "create", str(path)]) == 0
    public_key = base64.b64encode(LocalSigner.from_file(path).public_key).decode()
    assert public_key in capsys.readouterr().out
    assert path.stat().st_mode & 0o777 == 0o600
    assert main(["keys", "create", str(path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["keys", "create", str(tmp_path / "no" / "folder")]) == 2


def next_config(config: Path, name: str, **changes: Any) -> Path:
    """A copy of the configuration that names another key."""
    key = config.parent / name
    if not key.exists():
        key.touch(0o600)
        key.write_bytes(hashlib.sha256(name.encode()).digest())
    whole = yaml.safe_load(config.read_text())
    whole["audit"] = {**whole["audit"], "signing": {"file": str(key)}, **changes}
    copy = config.parent / f"{name}.yaml"
    copy.write_text(yaml.safe_dump(whole))
    return copy


def public(config: Path) -> bytes:
    return registry.log_signer(load(config)[0]).public_key


def test_rotation_twice_makes_a_chain_that_an_auditor_follows(config: Path, store: FakeStore, capsys: Said):
    first = public(config)
    second, third = next_config(config, "second"), next_config(config, "third")
    assert run(config, "keys", "rotate", "--new-config", str(second)) == 0
    assert "put audit.signing of" in capsys.readouterr().out
    assert run(second, "keys", "rotate", "--new-config", str(third)) == 0
    chain = [store.fetch(key).decode() for key in store.keys("v1/keys/")]
    assert [key.removeprefix("v1/keys/")[:7] for key in store.keys("v1/keys/")] == ["000000-", "000001-"]
    accepted = accepted_keys([first], chain, GATEWAY)
    assert [one.public_key for one in accepted] == [first, public(second), public(third)]
    told = noted(config)
    assert [leaf["kind"] for leaf in told] == ["key.rotated"] * 2
    for number, (leaf, manifest) in enumerate(zip(told, chain, strict=True)):
        assert leaf["number"] == number
        assert leaf["manifest_sha256"] == hashlib.sha256(manifest.encode()).hexdigest()
        assert leaf["public_key"] == note.json_of(note.open_note(manifest))["public_key"]


@pytest.mark.parametrize(("more", "hours"), [((), 24), (("--handover-hours", "0"), 0)])
def test_rotation_says_until_when_the_old_key_counts(
    more: tuple[str, ...], hours: int, config: Path, store: FakeStore, capsys: Said
):
    assert run(config, "keys", "rotate", "--new-config", str(next_config(config, "second")), *more) == 0
    [key] = store.keys("v1/keys/")
    told = note.json_of(note.open_note(store.fetch(key).decode()))
    at, until = (datetime.fromisoformat(told[name]) for name in ("at", "previous_until"))
    assert until - at == timedelta(hours=hours)
    assert told["previous_until"] in capsys.readouterr().out


def test_rotation_that_was_broken_off_goes_on(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said):
    store = BadStore(retention=timedelta(days=10), fault="persisted but error", strikes="v1/keys/", times=1)
    monkeypatch.setattr(custody, "store_of", lambda _: store)
    second = next_config(config, "second")
    assert run(config, "keys", "rotate", "--new-config", str(second)) == 2
    assert "run it again" in capsys.readouterr().err
    assert kinds(config) == []
    assert run(config, "keys", "rotate", "--new-config", str(second)) == 0
    assert len(list(store.keys("v1/keys/"))) == 1
    assert kinds(config) == ["key.rotated"]


@pytest.mark.parametrize("fault", ["no lock", "governance", "short lock", "lying", "refused"])
def test_rotation_is_not_on_record_before_its_manifest_is_kept(
    fault: str, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
):
    store = BadStore(retention=timedelta(days=10), fault=fault, strikes="v1/keys/")
    monkeypatch.setattr(custody, "store_of", lambda _: store)
    assert run(config, "keys", "rotate", "--new-config", str(next_config(config, "second"))) == 2
    assert "bucket evidence: " in capsys.readouterr().err
    assert kinds(config) == []


def test_rotation_without_a_store(config: Path, capsys: Said):
    assert run(config, "keys", "rotate", "--new-config", str(next_config(config, "second"))) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert kinds(config) == []


def test_rotation_to_the_same_key(config: Path, store: FakeStore, capsys: Said):
    copy = config.parent / "copy.yaml"
    shutil.copy(config, copy)
    assert run(config, "keys", "rotate", "--new-config", str(copy)) == 2
    assert "audit.signing is the same" in capsys.readouterr().err
    key = config.parent / "keys" / "log-key"
    shutil.copy(key, config.parent / "second")  # under another name
    assert run(config, "keys", "rotate", "--new-config", str(next_config(config, "second"))) == 2
    assert "the new key is the old one" in capsys.readouterr().err
    assert store.puts == []


@pytest.mark.parametrize(("name", "value"), [("origin", "another/gateway"), ("s3", {**S3, "bucket": "another"})])
def test_rotation_of_another_gateway(name: str, value: Any, config: Path, store: FakeStore, capsys: Said):
    second = next_config(config, "second", **{name: value})
    assert run(config, "keys", "rotate", "--new-config", str(second)) == 2
    assert f"audit.{name} differs; only audit.signing may" in capsys.readouterr().err
    assert store.puts == []


def test_rotation_from_a_key_that_was_replaced_before(config: Path, store: FakeStore, capsys: Said):
    second, third = next_config(config, "second"), next_config(config, "third")
    assert run(config, "keys", "rotate", "--new-config", str(second)) == 0
    assert run(config, "keys", "rotate", "--new-config", str(third)) == 2
    assert "it was replaced before" in capsys.readouterr().err


def test_rotation_back_to_an_old_key(config: Path, store: FakeStore, capsys: Said):
    second = next_config(config, "second")
    assert run(config, "keys", "rotate", "--new-config", str(second)) == 0
    assert run(second, "keys", "rotate", "--new-config", str(config)) == 2
    assert "make another one" in capsys.readouterr().err
    assert len(store.puts) == 1


@pytest.mark.parametrize("there", [b"not a note", b"{}\n\n\xe2\x80\x94 x AAAA\n", b"\xff\xfe"])
def test_rotation_over_a_manifest_that_is_none(there: bytes, config: Path, store: FakeStore, capsys: Said):
    store.write_over("v1/keys/000000-0000000000000000.note", there)
    assert run(config, "keys", "rotate", "--new-config", str(next_config(config, "second"))) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert store.puts == []


def test_a_record_that_cannot_be_made_is_no_success(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said):
    with_key_of(config)

    def full(*_: object) -> None:
        raise AuditUnavailable("full")

    monkeypatch.setattr("ext_proc.app.logs.Journal.note", full)
    assert run(config, "erase", "--subject", "ada", *ORDER, "--yes") == 2
    assert "full" in capsys.readouterr().err
    keyring = registry.keyring(load(config)[0])
    key = keyring.registry.newest(keyring.person_reference(ISSUER, None, "ada"))
    assert key is not None and key.wrapped is not None  # no record, no erasure


def test_order_is_checked_before_anything_is_opened():
    with pytest.raises(ConfigError):
        Order("", "dpo")
