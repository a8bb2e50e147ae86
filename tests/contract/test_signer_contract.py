"""One suite for `audit.signer.Signer`: fake, local file, AWS KMS (its wire protocol) and a real OpenBao."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ext_proc.audit import note
from ext_proc.audit.signer import LocalSigner, create_signing_key
from ext_proc.audit.signer_kms import KmsSigner
from ext_proc.audit.signer_openbao import OpenBaoSigner, TransitKey
from ext_proc.errors import AuditUnavailable, ConfigError
from ext_proc.verify import notes
from tests.contract.openbao import OpenBao
from tests.fakes.kms import FakeKms
from tests.fakes.signer import FakeSigner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ext_proc.audit.signer import Signer


@dataclass
class Setting:
    signer: Signer
    again: Callable[[], Signer]
    break_: Callable[[], Any] | None = None
    mend: Callable[[], Any] | None = None


@pytest.fixture(scope="module")
def bao(tmp_path_factory: Any) -> Iterator[OpenBao]:
    server = OpenBao(tmp_path_factory.mktemp("bao"))
    try:
        server.start()
        server.ask("POST", "transit/keys/log", {"type": "ed25519"})
        yield server
    finally:
        server.stop()


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeKms]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with FakeKms() as server:
        server.create_key("log")
        server.aliases["alias/log"] = "log"
        yield server


def kms_signer(server: FakeKms, key_id: str = "alias/log") -> KmsSigner:
    return KmsSigner(key_id, "eu-central-1", server.url)


def transit_key(server: OpenBao, **other: Any) -> TransitKey:
    return TransitKey(**{"address": server.url, "key": "log", "token_file": server.token_file, **other})


@contextmanager
def hidden(path: Path) -> Iterator[None]:
    away = path.with_suffix(".away")
    path.rename(away)
    try:
        yield
    finally:
        away.rename(path)


@pytest.fixture(params=["fake", "local", "kms", "openbao"])
def here(request: Any, tmp_path: Path) -> Setting:
    if request.param == "fake":
        fake = FakeSigner()
        return Setting(
            fake, FakeSigner, lambda: setattr(fake, "is_down", True), lambda: setattr(fake, "is_down", False)
        )
    if request.param == "local":
        create_signing_key(tmp_path / "log.key")
        return Setting(LocalSigner.from_file(tmp_path / "log.key"), lambda: LocalSigner.from_file(tmp_path / "log.key"))
    if request.param == "kms":
        kms: FakeKms = request.getfixturevalue("kms")
        return Setting(kms_signer(kms), lambda: kms_signer(kms), kms.stop, kms.start)
    bao: OpenBao = request.getfixturevalue("bao")
    token = bao.token_file.read_text()
    return Setting(
        OpenBaoSigner(transit_key(bao)),
        lambda: OpenBaoSigner(transit_key(bao)),
        lambda: bao.token_file.write_text("wrong"),
        lambda: bao.token_file.write_text(token),
    )


def test_signatures_verify(here: Setting) -> None:
    assert len(here.signer.public_key) == 32
    key = Ed25519PublicKey.from_public_bytes(here.signer.public_key)
    for data in (b"x", b"\0" * 100, "—\n".encode(), bytes(range(256)) * 16):  # 4,096 bytes: what every signer takes
        signature = here.signer.sign(data)
        key.verify(signature, data)
        assert len(signature) == 64 and here.signer.sign(data) == signature
        with pytest.raises(InvalidSignature):
            key.verify(signature, data + b"!")


def test_the_same_key_again(here: Setting) -> None:
    again = here.again()
    assert again.public_key == here.signer.public_key
    assert again.sign(b"data") == here.signer.sign(b"data")


def test_a_checkpoint(here: Setting) -> None:
    made = note.sign(note.checkpoint_text("gw/log", 3, b"r" * 32), "gw/log", here.signer)
    assert note.is_signed(note.open_note(made), "gw/log", here.signer.public_key)


@pytest.mark.parametrize("extra", [-1, 0, 1, 1_000_000])
def test_a_note_of_any_length(here: Setting, extra: int) -> None:
    """A busy log's digest names more objects than fit into what KMS signs; both readers must take the same note."""
    bare = len(note.canonical({"list": ""})) + 1
    made = note.sign_json({"list": "x" * (note.PLAIN_MAX_BYTES + extra - bare)}, "gw/log", here.signer)
    opened = note.open_note(made.decode())
    assert len(opened.text) == note.PLAIN_MAX_BYTES + extra
    assert note.is_signed(opened, "gw/log", here.signer.public_key)
    auditors = notes.parse(made)
    assert notes.signer(auditors, "gw/log", [here.signer.public_key]) == here.signer.public_key
    changed = made.replace(b"xx", b"xy", 1)
    assert not note.is_signed(note.open_note(changed.decode()), "gw/log", here.signer.public_key)
    assert notes.signer(notes.parse(changed), "gw/log", [here.signer.public_key]) == "signature_invalid"


def test_the_length_alone_says_how_a_note_is_signed() -> None:
    """Nobody may choose: a short note signed by its hash, or a long one by its text, is signed by nobody."""
    signer, name = FakeSigner(), "gw/log"
    for text, kind in ((b"short\n", note.HASHED), (b"x" * 5000 + b"\n", note.ED25519)):
        hashed = f"affidavit note-sha256 v1\n{sha256(text).hexdigest()}\n".encode()
        signature = signer.sign(hashed if kind == note.HASHED else text)
        line = base64.b64encode(note.key_id(name, signer.public_key, kind) + signature)
        raw = text + b"\n" + "\u2014".encode() + b" gw/log " + line + b"\n"
        assert not note.is_signed(note.open_note(raw.decode()), name, signer.public_key)
        assert notes.signer(notes.parse(raw), name, [signer.public_key]) == "signature_unknown_key"


def test_from_several_threads(here: Setting) -> None:
    wanted = [str(number).encode() for number in range(24)]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(here.signer.sign, wanted))
    key = Ed25519PublicKey.from_public_bytes(here.signer.public_key)
    for data, signature in zip(wanted, made, strict=True):
        key.verify(signature, data)


@pytest.mark.parametrize("here", ["fake", "kms", "openbao"], indirect=True)
def test_unavailable_and_back(here: Setting) -> None:
    assert here.break_ is not None and here.mend is not None
    before = here.signer.sign(b"data")
    here.break_()
    try:
        with pytest.raises(AuditUnavailable, match=r"^signer"):
            here.signer.sign(b"data")
    finally:
        here.mend()
    assert here.signer.sign(b"data") == before


# KMS ----------------------------------------------------------------------------------------------------------------


def test_kms_is_asked_for_plain_ed25519(kms: FakeKms) -> None:
    kms_signer(kms).sign(b"data")
    operation, asked = kms.asked[-1]
    assert operation == "Sign"
    assert (asked["SigningAlgorithm"], asked["MessageType"]) == ("ED25519_SHA_512", "RAW")
    assert asked["KeyId"].endswith(":key/log")  # not the alias: it may be pointed elsewhere


def test_kms_alias_pointed_elsewhere_changes_nothing(kms: FakeKms) -> None:
    signer = kms_signer(kms)
    kms.create_key("other")
    kms.aliases["alias/log"] = "other"
    Ed25519PublicKey.from_public_bytes(signer.public_key).verify(signer.sign(b"data"), b"data")


@pytest.mark.parametrize("behaviour", ["throttled", "denied", "broken", "hung up", "lying"])
def test_kms_in_trouble(kms: FakeKms, behaviour: str) -> None:
    signer = kms_signer(kms)
    kms.behaviour = behaviour
    with pytest.raises(AuditUnavailable, match=r"^signer"):
        signer.sign(b"data")
    if behaviour != "lying":
        with pytest.raises(AuditUnavailable, match=r"^signer"):
            kms_signer(kms)


def test_kms_signs_no_more_than_it_takes(kms: FakeKms) -> None:
    with pytest.raises(AuditUnavailable, match="4096 bytes at most, this has 4097"):
        kms_signer(kms).sign(b"x" * 4097)


def test_kms_keys_that_will_not_do(kms: FakeKms) -> None:
    kms.create_key("ecdsa", "ECC_NIST_P256")
    with pytest.raises(ConfigError, match="ECC_NIST_EDWARDS25519"):
        kms_signer(kms, "ecdsa")
    with pytest.raises(ConfigError, match="NotFoundException"):
        kms_signer(kms, "nowhere")


def test_kms_without_a_region(kms: FakeKms, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="region"):
        KmsSigner("log")


# OpenBao ------------------------------------------------------------------------------------------------------------


def test_openbao_stays_with_its_version(bao: OpenBao) -> None:
    bao.ask("POST", "transit/keys/turning", {"type": "ed25519"})
    old = OpenBaoSigner(transit_key(bao, key="turning"))
    bao.ask("POST", "transit/keys/turning/rotate")
    new = OpenBaoSigner(transit_key(bao, key="turning"))
    assert (old.version, new.version) == (1, 2) and old.public_key != new.public_key
    for signer in (old, new):
        Ed25519PublicKey.from_public_bytes(signer.public_key).verify(signer.sign(b"data"), b"data")
    assert OpenBaoSigner(transit_key(bao, key="turning"), 1).public_key == old.public_key
    with pytest.raises(ConfigError, match="no version 3"):
        OpenBaoSigner(transit_key(bao, key="turning"), 3)


def test_openbao_with_the_least_rights(bao: OpenBao, tmp_path: Path) -> None:
    rules = 'path "transit/keys/log" { capabilities = ["read"] }\npath "transit/sign/log" { capabilities = ["update"] }'
    bao.ask("PUT", "sys/policies/acl/signer", {"policy": rules})
    token = bao.ask("POST", "auth/token/create", {"policies": ["signer"]})["auth"]["client_token"]
    (tmp_path / "token").write_text(token)
    signer = OpenBaoSigner(transit_key(bao, token_file=tmp_path / "token"))
    assert signer.sign(b"data") == OpenBaoSigner(transit_key(bao)).sign(b"data")
    bao.ask("POST", "transit/keys/other", {"type": "ed25519"})
    with pytest.raises(AuditUnavailable, match="403"):
        OpenBaoSigner(transit_key(bao, token_file=tmp_path / "token", key="other"))


def test_openbao_signs_a_large_note(bao: OpenBao) -> None:
    OpenBaoSigner(transit_key(bao)).sign(b"x" * 1_000_000)


def test_openbao_keys_that_will_not_do(bao: OpenBao) -> None:
    bao.ask("POST", "transit/keys/aes", {"type": "aes256-gcm96"})
    bao.ask("POST", "transit/keys/derived", {"type": "ed25519", "derived": True})
    for key in ("aes", "derived"):
        with pytest.raises(ConfigError, match="of the type ed25519"):
            OpenBaoSigner(transit_key(bao, key=key))
    with pytest.raises(ConfigError, match="has none under transit/"):
        OpenBaoSigner(transit_key(bao, key="nowhere"))
    with pytest.raises(ConfigError, match="has none under elsewhere/"):
        OpenBaoSigner(transit_key(bao, mount="elsewhere"))


def test_openbao_tokens_that_are_none(bao: OpenBao, tmp_path: Path) -> None:
    signer = OpenBaoSigner(transit_key(bao))
    with hidden(bao.token_file), pytest.raises(AuditUnavailable, match=r"^signer: the token file"):
        signer.sign(b"data")
    for said in ("", "two\nlines", "pass\u00e9"):
        (tmp_path / "token").write_text(said)
        with pytest.raises(AuditUnavailable, match=r"^signer: the token file"):
            OpenBaoSigner(transit_key(bao, token_file=tmp_path / "token"))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://bao.example:8200", "https is needed"),
        ("ftp://127.0.0.1", "write https"),
        ("127.0.0.1:8200", "write https"),
        ("https://[", "write https"),
        ("https://host:port", "write https"),
        ("https://user@host", "write https"),
        ("https://host/path", "write https"),
    ],
)
def test_openbao_addresses_that_will_not_do(address: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        OpenBaoSigner(TransitKey(address, "log", tmp_path / "token"))


def test_openbao_authorities_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("none")
    for name in ("ca", "nowhere"):
        with pytest.raises(ConfigError, match="ca_file"):
            OpenBaoSigner(TransitKey("https://127.0.0.1:1", "log", tmp_path / "token", ca_file=tmp_path / name))


def test_openbao_sealed_and_gone(tmp_path: Path) -> None:
    server = OpenBao(tmp_path)
    try:
        server.start()
        server.ask("POST", "transit/keys/log", {"type": "ed25519"})
        signer = OpenBaoSigner(transit_key(server))
        server.pause()
        with pytest.raises(AuditUnavailable, match=r"^signer: OpenBao: HTTP status 503"):
            signer.sign(b"data")
        server.stop()
        with pytest.raises(AuditUnavailable, match=r"^signer: OpenBao: Connection"):
            signer.sign(b"data")
    finally:
        server.stop()
