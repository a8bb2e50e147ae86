"""A log that real outsiders attest: ``openssl ts`` and ``aics-witness``; the auditor who demands both is content."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding

from ext_proc.app import registry
from ext_proc.app.evidence.auditing import auditor_policy
from ext_proc.app.logs import Journal
from ext_proc.app.process import clock
from ext_proc.app.serving.shipping import store_of
from ext_proc.audit.attest import Attestor
from ext_proc.audit.desk import Desk, Terms
from ext_proc.audit.note import vkey_of
from ext_proc.audit.shipper import Shipper
from ext_proc.demo.programs import answers, free_ports, start, tool
from ext_proc.demo.seaweed import start_seaweed
from ext_proc.verify import verify
from tests.fakes.configured import a_config
from tests.fakes.s3_section import s3_section
from tests.fakes.tsa import FakeTsa

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ext_proc.config import Config
    from ext_proc.demo.programs import Program
    from ext_proc.demo.seaweed import Seaweed


@dataclass
class RealWitness:
    """``aics-witness``: it must be told of each log."""

    url: str
    vkey: str
    _config: Path
    _running: Program

    def trust(self, origin: str, public_key: bytes) -> None:
        _command(self._config, "add-log", "--origin", origin, "--vkey", vkey_of(origin, public_key))
        self._running.process.send_signal(1)  # SIGHUP: reads its list again
        deadline = time.monotonic() + 30
        while b"reloaded" not in self._running.log.read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _command(config: Path, *arguments: str) -> str:
    command = [tool("aics-witness"), *arguments, "--config", config]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@contextmanager
def real_witness(folder: Path) -> Iterator[RealWitness]:
    config = folder / "witness.json"
    [port] = free_ports(1)
    vkey = _command(config, "init", "--name", "witness.example/real", "--listen", f"127.0.0.1:{port}")
    running = start("aics-witness", (tool("aics-witness"), "serve", "--config", config), folder / "logs")
    try:
        running.wait_until(answers(port, "/healthz"))
        yield RealWitness(f"http://127.0.0.1:{port}", vkey, config, running)
    finally:
        running.stop()


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    folder = tmp_path_factory.mktemp("seaweed")
    server = start_seaweed(folder, folder / "logs", retention_days=10)
    yield server
    server.program.stop()


@pytest.fixture
def tsa(tmp_path: Path) -> Iterator[FakeTsa]:
    with FakeTsa(tmp_path) as running:
        yield running


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[RealWitness]:
    with real_witness(tmp_path) as running:
        yield running


def attested(folder: Path, seaweed: Seaweed, tsa: FakeTsa, witness: RealWitness, prefix: str) -> Config:
    (folder / "tsa.pem").write_bytes(tsa.root.public_bytes(Encoding.PEM))
    config, _ = a_config(
        folder,
        s3=s3_section(folder, seaweed, prefix),
        wal={"seal_seconds": 0.2},
        time_stamp_authorities=[{"url": tsa.url, "certificates_file": str(folder / "tsa.pem")}],
        witnesses=[{"url": witness.url, "key": witness.vkey}],
    )
    registry.evidence_directory(config).mkdir()
    return config


@dataclass
class Shipping:
    """The shipper's rounds, with a clock for the outsiders' part that can be put forward."""

    config: Config
    ahead: timedelta = timedelta()

    def __post_init__(self) -> None:
        config, self.store = self.config, store_of(self.config)
        terms = Terms(timedelta(days=config.audit.s3.retention_days), registry.log_signer(config))
        self.shipper = Shipper(registry.evidence_directory(config), self.store, terms, clock)
        # Its clock is ahead, or the lock would look too short.
        patient = Terms(terms.retention - timedelta(days=1), terms.signer)
        desk = Desk(self.store, patient, lambda: datetime.now(UTC) + self.ahead)
        memory = config.state_dir / "attested.json"
        self.attestor = Attestor(desk, registry.outsiders(config), config.audit.replica, memory)

    def round(self) -> tuple[str, ...]:
        made = self.shipper.run_once()
        assert made.failures == []
        return self.attestor.attend(made.shipped)

    def until(self, prefix: str, part: str, count: int) -> list[str]:
        deadline = time.monotonic() + 30
        while True:
            assert self.round() == ()
            found = [key for key in self.store.keys(prefix) if part in key]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, found
            self.ahead += timedelta(minutes=1)  # a checkpoint waits two minutes at most
            time.sleep(0.1)


def audit(
    config: Config, seaweed: Seaweed, folder: Path, monkeypatch: pytest.MonkeyPatch, patience_seconds: int = 1
) -> list[str]:
    """The codes of what an auditor finds, who asks for both."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": seaweed.access_key,
        "AWS_SECRET_ACCESS_KEY": seaweed.secret_key,
        "AWS_ENDPOINT_URL": seaweed.endpoint,
        "AWS_DEFAULT_REGION": seaweed.region,
    }.items():
        monkeypatch.setenv(name, value)
    policy = folder / "policy.yaml"
    # An impatient one: after the tolerance and two heartbeats, what is not there yet is missing.
    told = {
        **auditor_policy(config),
        "clock_tolerance_seconds": 2 * patience_seconds,
        "heartbeat_seconds": patience_seconds,
    }
    policy.write_text(yaml.safe_dump(told))
    time.sleep(5)
    report = verify(f"s3://{seaweed.bucket}/{config.audit.s3.prefix}", policy, jobs=1)
    assert report.leaves > 0
    return sorted({found.code for found in report.findings})


def test_an_auditor_who_demands_stamps_and_cosignatures_finds_nothing(
    seaweed: Seaweed, tsa: FakeTsa, witness: RealWitness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = attested(tmp_path, seaweed, tsa, witness, "both/")
    shipping = Shipping(config)
    with Journal(config, "00" * 32, "command", registry.keyring(config)) as journal:
        witness.trust(journal.origin, registry.log_signer(config).public_key)
        for number in range(3):  # a living log is cosigned, and grows
            journal.note("config.changed", {"config_sha256": "00" * 32, "connections": [f"c{number}"]})
            shipping.until("v1/log/", "/cosigned/", number + 1)
    shipping.round()
    assert shipping.attestor.is_done
    [stamp] = shipping.until("v1/digest/", ".tsr", 1)
    assert stamp.endswith(".note.tsr")
    assert len(shipping.until("v1/log/", "/cosigned/", 4)) == 4  # the end, without waiting
    assert audit(config, seaweed, tmp_path, monkeypatch, patience_seconds=30) == []  # on a busy machine too


def test_the_same_auditor_misses_what_the_outsiders_did_not_give(
    seaweed: Seaweed, tsa: FakeTsa, witness: RealWitness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = attested(tmp_path, seaweed, tsa, witness, "neither/")
    shipping = Shipping(config)
    tsa.misbehaviour = "error"
    with Journal(config, "00" * 32, "command", registry.keyring(config)) as journal:
        journal.note("config.changed", {"config_sha256": "00" * 32, "connections": []})
    failures = shipping.round()
    assert any(one.endswith("http_500") for one in failures)
    assert any(one.endswith("witness_log_unknown") for one in failures)
    assert audit(config, seaweed, tmp_path, monkeypatch) == ["timestamp_missing", "witness_missing"]
    # They come back, and so do we, as another process.
    tsa.misbehaviour = ""
    witness.trust(journal.origin, registry.log_signer(config).public_key)
    again = Shipping(config)
    assert again.round() == ()
    assert again.attestor.is_done
    assert audit(config, seaweed, tmp_path, monkeypatch) == []


def test_the_shipper_asks_to_its_very_end(seaweed: Seaweed, tsa: FakeTsa, witness: RealWitness, tmp_path: Path):
    """The process itself: the last digest of its own log is stamped before it ends."""
    config = attested(tmp_path, seaweed, tsa, witness, "process/")
    store = store_of(config)
    running = start(
        "ship", (sys.executable, "-m", "ext_proc", "ship", "--config", tmp_path / "config.yaml"), tmp_path / "logs"
    )
    try:
        running.wait_until(lambda: any(True for _ in store.keys("v1/log/")))
    finally:
        running.stop()
    assert running.process.returncode == 0
    [digest, stamp] = sorted(store.keys("v1/digest/"))
    assert stamp == f"{digest}.tsr"
    assert "replica=gw-0-shipper" in stamp
    assert "witness_log_unknown" in running.log.read_text()  # nobody told the witness: the operator can see it
