"""The real OPA, given its bundles by the gate: signed ones, each newer. Whoever attacks finds the old policy deciding."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ext_proc.app.serving.bundle_door import BundleDoor
from ext_proc.app.serving.distribution import Distribution, Distributor, write_opa_config
from ext_proc.config import Config, load
from ext_proc.policy import bundle
from ext_proc.policy.bundle import Signing, read_facts
from ext_proc.policy.opa import OpaPolicy
from tests.fakes.asked import POLICY, write_policy
from tests.fakes.configured import a_config
from tests.fakes.policy import RealOpa, a_call, opa_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ext_proc.model import Decision

SECONDS = 40.0
KEY_ID = "policy-2026"


def a_key(folder: Path, name: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)
    (folder / name).write_bytes(private)
    return folder / name


def repacked(raw: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The same archive with other files."""
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        files = {one.name: archive.extractfile(one).read() for one in archive if one.isfile()}
    change(files)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


@dataclass
class Gate:
    """The part of the gate that gives OPA its bundles, and an OPA with the configuration that it wrote."""

    folder: Path
    config: Config
    notes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    distributor: Any = None
    door: Any = None
    opa: RealOpa | None = None

    def open(self) -> None:
        section = self.config.policy.distribution
        write_opa_config(self.config, section)
        self.distributor = Distributor(
            Distribution.of(self.config), lambda kind, facts: self.notes.append((kind, dict(facts)))
        )
        self.door = BundleDoor(self.distributor, "127.0.0.1:0", self.config.run_dir / "opa" / "token")
        path = self.config.run_dir / "opa" / "config.yaml"
        told = yaml.safe_load(path.read_text())
        told["services"]["affidavit"]["url"] = f"http://127.0.0.1:{self.door.port}"
        path.write_text(yaml.safe_dump(told))

    def start_opa(self) -> None:
        at = self.folder / "opa.sock"
        at.unlink(missing_ok=True)
        command = [
            *(str(opa_program()), "run", "--server", "--addr", f"unix://{at}", "--unix-socket-perm", "600"),
            *(
                "--skip-version-check",
                "--log-level",
                "error",
                "--config-file",
                str(self.config.run_dir / "opa" / "config.yaml"),
            ),
        ]
        with (self.folder / "opa.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.opa = RealOpa(process, Path("/nowhere-at-all"), at, self.config.policy.bundle_file)
        self.until(lambda: self.opa.request("GET", "/health")[0] == 200)

    def stop_opa(self) -> None:
        if self.opa is not None:
            self.opa.stop()

    def close(self) -> None:
        self.stop_opa()
        self.door.close()

    def until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not is_so():
            self.distributor.round()
            assert time.monotonic() < deadline, (self.folder / "opa.log").read_text()[-2000:]
            time.sleep(0.05)

    def publish(self, raw: bytes) -> str:
        beside = self.folder / "new"
        beside.write_bytes(raw)
        beside.replace(self.config.policy.bundle_file)
        return hashlib.sha256(raw).hexdigest()

    def built(self, number: int | None, key: str | None = "key", key_id: str = KEY_ID, text: str = POLICY) -> bytes:
        with tempfile.TemporaryDirectory() as name:
            signing = None if key is None else Signing(self.folder / key, key_id)
            target = Path(name) / "b.tar.gz"
            bundle.build(opa_program(), write_policy(Path(name) / "s", text), target, number=number, signing=signing)
            return target.read_bytes()

    def accepted(self, digest: str) -> bool:
        found = self.distributor._publishing.accepted
        return found is not None and found.digest == digest

    def refused(self) -> list[dict[str, Any]]:
        return [facts for kind, facts in self.notes if kind == "policy.refused"]

    async def decide(self) -> Decision:
        copies = Distribution.of(self.config).copies
        policy = OpaPolicy(self.opa.socket, "inference", "decision", self.config.policy.bundle_file, 10.0, copies)
        await policy.start()
        try:
            return await policy.decide(a_call())
        finally:
            await policy.close()


@contextmanager
def a_gate(*, starts_opa: bool = True) -> Iterator[Gate]:
    folder = Path(tempfile.mkdtemp(prefix="aff-dist-", dir="/tmp"))
    try:
        a_key(folder, "key")
        a_key(folder, "other")
        config, _ = a_config(folder)
        told = yaml.safe_load((folder / "config.yaml").read_text())
        told["policy"]["distribution"] = {
            "public_key_file": str(folder / "key.pub"),
            "key_id": KEY_ID,
            "poll_seconds": 1,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(told))
        config, _ = load(folder / "config.yaml")
        gate = Gate(folder, config)
        gate.open()
        try:
            first = gate.publish(gate.built(7))
            if starts_opa:
                gate.start_opa()
                gate.until(lambda: gate.accepted(first))
            yield gate
        finally:
            gate.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    with a_gate() as made:
        yield made


def _edit_rule(files: dict[str, bytes]) -> None:
    name = next(name for name in files if name.endswith("decision.rego"))
    files[name] = files[name].replace(b"analysts", b"guests  ")


def _appended(raw: bytes, name: str, content: bytes, kind: bytes) -> bytes:
    """One member more at the end, of a kind that Python reads as a file and Go, perhaps, does not."""
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(raw)) as old, tarfile.open(fileobj=made, mode="w:gz") as new:
        for one in old:
            new.addfile(one, old.extractfile(one))
        member = tarfile.TarInfo(name)
        member.size, member.type = len(content), kind
        new.addfile(member, io.BytesIO(content))
    return made.getvalue()


def _newer(raw: bytes) -> bytes:
    """The manifest of a bundle, with a number that is larger than any."""
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        manifest = json.loads(archive.extractfile("/.manifest").read())
    manifest["metadata"]["affidavit_number"] = 99
    return json.dumps(manifest).encode()


def _signatures(raw: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        return archive.extractfile("/.signatures.json").read()


def _bomb() -> bytes:
    """Little to fetch, and more than a bundle may have unpacked; OPA would unpack any number of gigabytes."""
    made = io.BytesIO()
    with gzip.GzipFile(fileobj=made, mode="wb", compresslevel=1) as packed:
        member = tarfile.TarInfo("/data.json")
        member.size = 1 << 28
        packed.write(member.tobuf())
        for _ in range(member.size >> 20):
            packed.write(bytes(1 << 20))
    return made.getvalue()


def _delta() -> bytes:
    """It changes data of the bundle that is there."""
    manifest = {"revision": "delta", "roots": [""], "metadata": {"affidavit_number": 99}}
    patch = {"data": [{"op": "upsert", "path": "/inference", "value": {"everybody": True}}]}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, told in (("/.manifest", manifest), ("/patch.json", patch)):
            content = json.dumps(told).encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def _token(files: dict[str, bytes]) -> tuple[dict[str, Any], dict[str, Any]]:
    [token] = json.loads(files["/.signatures.json"])["signatures"]
    head, payload = (json.loads(base64.urlsafe_b64decode(one + "==")) for one in token.split(".")[:2])
    return head, payload


def _resigned(files: dict[str, bytes], head: dict[str, Any], payload: dict[str, Any], mac: bytes | None) -> None:
    def text(told: bytes) -> str:
        return base64.urlsafe_b64encode(told).decode().rstrip("=")

    signed = f"{text(json.dumps(head).encode())}.{text(json.dumps(payload).encode())}"
    made = b"" if mac is None else hmac.digest(mac, signed.encode(), "sha256")
    files["/.signatures.json"] = json.dumps({"signatures": [f"{signed}.{text(made)}"]}).encode()


def _signed_with(gate: Gate, algorithm: str) -> bytes:
    def change(files: dict[str, bytes]) -> None:
        head, payload = _token(files)
        mac = (gate.folder / "key.pub").read_bytes() if algorithm == "HS256" else None
        _resigned(files, {**head, "alg": algorithm}, payload, mac)

    return repacked(gate.built(8), change)


def _attacks(gate: Gate) -> dict[str, tuple[bytes, str]]:
    good, old = gate.built(8), gate.built(6)
    return {
        "unsigned": (gate.built(8, key=None), "unsigned"),
        "signature taken off": (repacked(good, lambda files: files.pop("/.signatures.json")), "unsigned"),
        "another key": (gate.built(8, key="other"), "wrong_key"),
        "another key's id": (gate.built(8, key="other", key_id="mine"), "wrong_key"),
        "a rule changed": (repacked(good, _edit_rule), "tampered"),
        "a file more": (repacked(good, lambda files: files.update({"/inference/x.rego": b"package x"})), "extra_file"),
        "a file less": (
            repacked(gate.built(8), lambda files: files.pop("/data.json")), "missing_file",
        ),
        "signatures emptied": (
            repacked(good, lambda files: files.update({"/.signatures.json": b'{"signatures": []}'})), "unreadable",
        ),
        "a signature of none": (_signed_with(gate, "none"), "wrong_key"),
        "the public key as a password": (_signed_with(gate, "HS256"), "wrong_key"),
        "another bundle's signature": (
            repacked(gate.built(8, text=POLICY.replace("1000", "9999")), lambda files: files.update(
                {"/.signatures.json": _signatures(good)}
            )), "tampered",
        ),
        "an older one with a newer label": (_appended(old, "/.manifest", _newer(old), tarfile.CONTTYPE), "odd_archive"),
        "an older one with a second label": (_appended(old, "//.manifest", _newer(old), tarfile.REGTYPE), "odd_archive"),
        "data for the one that is there": (_delta(), "odd_archive"),
        "a bomb": (_bomb(), "unreadable"),
        "a link": (_appended(good, "/x.rego", b"", tarfile.SYMTYPE), "odd_archive"),
        "a way out": (_appended(good, "/../x.rego", b"package x", tarfile.REGTYPE), "odd_archive"),
        "older": (old, "older"),
        "the same number": (gate.built(7, text=POLICY.replace("1000", "999")), "number_reused"),
        "without a number": (gate.built(None), "unnumbered"),
        "no archive": (b"no", "unreadable"),
        "cut off": (good[: len(good) // 2], "unreadable"),
    }  # fmt: skip


ATTACKS = (
    "signatures emptied", "a signature of none", "the public key as a password", "another bundle's signature",
    "an older one with a newer label", "an older one with a second label", "data for the one that is there", "a bomb",
    "a link", "a way out",
    "unsigned", "signature taken off", "another key", "another key's id", "a rule changed", "a file more", "a file less", "older",
    "the same number", "without a number", "no archive", "cut off",
)  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_is_refused_recorded_and_visible(gate: Gate, name: str) -> None:
    raw, reason = _attacks(gate)[name]
    before = await gate.decide()
    told = len(gate.refused())
    digest = gate.publish(raw)
    gate.until(lambda: len(gate.refused()) > told)
    refused = gate.refused()[-1]
    assert (refused["digest"], refused["reason"]) == (digest, reason)
    assert refused["active"] == {"revision": before.policy.revision, "digest": before.policy.digest}
    assert gate.distributor.degraded == f"bundle {digest[:16]} refused: {reason}"
    assert gate.opa is not None
    assert gate.opa.request("GET", "/health?bundles=true")[0] == 200, "OPA itself says that all is well"
    after = await gate.decide()
    assert (after.allow, after.policy) == (True, before.policy), "the old one goes on deciding"
    gate.distributor.round()
    assert len(gate.refused()) == told + 1, "it is said once"


@pytest.mark.asyncio
async def test_a_newer_one_is_taken_and_the_one_before_is_a_way_back_that_is_closed() -> None:
    with a_gate() as gate:
        first = gate.config.policy.bundle_file.read_bytes()
        gate.publish(gate.built(8, key="other"))
        gate.until(lambda: gate.distributor.degraded is not None)
        second = gate.publish(gate.built(8, text=POLICY.replace('"analysts"', '"nobody"')))
        gate.until(lambda: gate.accepted(second))
        assert gate.distributor.degraded is None
        decided = await gate.decide()
        assert (decided.allow, decided.policy.digest) == (False, second)
        gate.publish(first)
        gate.until(lambda: gate.distributor.degraded is not None)
        assert gate.refused()[-1]["reason"] == "older"
        again = gate.publish(gate.built(9))  # the old rules, published as new ones: that is how one goes back
        gate.until(lambda: gate.accepted(again))
        assert (await gate.decide()).allow


@pytest.mark.asyncio
async def test_both_may_be_started_again_with_an_attack_in_place() -> None:
    with a_gate() as gate:
        before = await gate.decide()
        gate.publish(gate.built(6))
        gate.until(lambda: gate.distributor.degraded is not None)
        gate.stop_opa()
        gate.door.close()
        gate.distributor = None
        shutil.rmtree(gate.config.state_dir / "policy" / "opa")  # not even a copy of its own
        gate.open()
        gate.start_opa()
        gate.until(lambda: b'"revision"' in gate.opa.request("POST", "/v1/data?provenance=true", b"{}")[1])
        assert (await gate.decide()).policy == before.policy
        assert gate.distributor.degraded is not None


def test_a_bundle_that_opa_says_it_loaded_and_did_not() -> None:
    with a_gate(starts_opa=False) as gate:
        gate.distributor.round()
        digest, raw = gate.distributor.serving()
        gate.distributor.gave(digest)
        persisted = Distribution.of(gate.config).persisted
        persisted.parent.mkdir(parents=True)
        persisted.write_bytes(b"something else")
        status = {"bundles": {"policy": {"active_revision": read_facts(raw).revision}}}
        gate.distributor.heard(status)
        gate.distributor.round()
        assert [one["reason"] for one in gate.refused()] == ["other_bytes"]
        assert not gate.accepted(digest)


def test_the_door_opens_only_to_who_knows_the_word() -> None:
    import http.client

    with a_gate(starts_opa=False) as gate:
        gate.distributor.round()
        word = (gate.config.run_dir / "opa" / "token").read_text()

        def ask(method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", gate.door.port, timeout=10)
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

        known = {"authorization": f"Bearer {word}"}
        digest, raw = gate.distributor.serving()
        assert ask("GET", "/bundle", **known) == (200, raw)
        assert ask("GET", "/bundle", **known, **{"if-none-match": f'"{digest}"'}) == (304, b"")
        assert ask("GET", "/bundle")[0] == 404
        assert ask("GET", "/bundle", authorization="Bearer no")[0] == 404
        assert ask("GET", "/other", **known)[0] == 404
        status = json.dumps({"bundles": {"policy": {"active_revision": read_facts(raw).revision}}}).encode()
        for body, headers in ((status, {}), (b"no", known), (b"[]", known), (b"[" * 100_000, known)):
            assert ask("POST", "/status", body, **headers)[0] == 400
        assert not gate.accepted(digest), "nobody else says what OPA loaded"
        assert ask("POST", "/status", status, **known)[0] == 200
        assert gate.accepted(digest)
