"""`affidavit doctor`: each check fails where its thing is broken, and no other does."""

from __future__ import annotations

import copy
import fcntl
import json
import os
import re
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import yaml
from botocore.config import Config as BotoConfig
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from moto.server import ThreadedMotoServer

from ext_proc.app import edge_files, registry
from ext_proc.app.doctor import asking, disk, envoy, keys, store
from ext_proc.app.doctor import run as doctor
from ext_proc.app.doctor.envoy import FAIL, OK, WARN, Finding
from ext_proc.app.evidence.auditing import auditor_policy
from ext_proc.app.serving.policy_archive import archive_key
from ext_proc.audit.keys import create_key_files
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.cli import main
from ext_proc.config import load
from ext_proc.edge import render_bootstrap
from ext_proc.strict_yaml import BadYamlError
from tests.fakes.configured import a_config
from tests.fakes.versions import FakeVersions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

NOW = datetime(2026, 11, 26, 7, 0, tzinfo=UTC)
RUNBOOK = Path(__file__).resolve().parents[4] / "docs" / "runbook.md"


def _verdicts(found: Iterable[Finding]) -> dict[str, str]:
    return {one.check: one.verdict for one in found}


def _unwell(found: Iterable[Finding]) -> dict[str, str]:
    """Those that are not well; each says what to do."""
    told = [one for one in found if one.verdict != OK]
    assert all(one.do for one in told)
    return {one.check: one.verdict for one in told}


# Envoy -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Any:
    config, _ = a_config(tmp_path_factory.mktemp("doctor"))
    return edge_files.settings(config)


@pytest.fixture
def dump(settings: Any) -> dict[str, Any]:
    """What Envoy says of itself where it runs with our file. (tests/e2e/test_doctor.py asks a real one.)"""
    told = yaml.safe_load(render_bootstrap(settings))
    listeners = [{"listener": copy.deepcopy(one)} for one in told["static_resources"]["listeners"]]
    routes = {"virtual_hosts": [{"name": "any", "routes": [{"name": "model"}]}]}
    return {
        "configs": [
            {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "static_listeners": listeners},
            {"dynamic_route_configs": [{"route_config": routes}]},
        ]
    }


def _manager(dump: dict[str, Any]) -> dict[str, Any]:
    listener = dump["configs"][0]["static_listeners"][0]["listener"]
    return dict.__getitem__(listener["filter_chains"][0]["filters"][0], "typed_config")  # type: ignore[no-any-return]


def _filter(dump: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [one for one in _manager(dump)["http_filters"] if one["name"] == name]
    return found  # type: ignore[no-any-return]


def _gate(dump: dict[str, Any]) -> dict[str, Any]:
    return _filter(dump, "envoy.filters.http.ext_proc")["typed_config"]  # type: ignore[no-any-return]


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    def take_off(dump: dict[str, Any]) -> None:
        _manager(dump)["http_filters"] = [one for one in _manager(dump)["http_filters"] if one["name"] != name]

    return take_off


def _move_last(name: str) -> Callable[[dict[str, Any]], None]:
    def move(dump: dict[str, Any]) -> None:
        one = _filter(dump, name)
        _without(name)(dump)
        _manager(dump)["http_filters"].append(one)

    return move


def _move_first(name: str) -> Callable[[dict[str, Any]], None]:
    def move(dump: dict[str, Any]) -> None:
        one = _filter(dump, name)
        _without(name)(dump)
        _manager(dump)["http_filters"].insert(0, one)

    return move


def _rules(dump: dict[str, Any]) -> dict[str, Any]:
    return _filter(dump, "affidavit.request_gate")["typed_config"]["rules"]  # type: ignore[no-any-return]


def _routes(dump: dict[str, Any]) -> dict[str, Any]:
    return dump["configs"][1]["dynamic_route_configs"][0]["route_config"]  # type: ignore[no-any-return]


PER_ROUTE = {
    "x": {"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute", "disabled": True}
}
RBAC_OFF = {"x": {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute"}}
BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "fails open": (lambda dump: _gate(dump).update(failure_mode_allow=True), "envoy.gate"),
    "only watches": (lambda dump: _gate(dump).update(observability_mode=True), "envoy.gate"),
    "two of them": (lambda dump: _manager(dump)["http_filters"].append(_filter(dump, "envoy.filters.http.ext_proc")), "envoy.gate"),
    "none": (_without("envoy.filters.http.ext_proc"), "envoy.gate"),
    "disabled": (lambda dump: _filter(dump, "affidavit.request_gate").update(disabled=True), "envoy.gate"),
    "body not asked for": (lambda dump: _gate(dump)["processing_mode"].pop("request_body_mode"), "envoy.modes"),
    "answer streamed": (lambda dump: _gate(dump)["processing_mode"].update(response_body_mode="STREAMED"), "envoy.modes"),
    "heads skipped": (lambda dump: _gate(dump)["processing_mode"].update(response_header_mode="SKIP"), "envoy.modes"),
    "any override": (lambda dump: _gate(dump).pop("allowed_override_modes"), "envoy.modes"),
    "one override too many": (
        lambda dump: _gate(dump)["allowed_override_modes"].append({"request_body_mode": "STREAMED"}), "envoy.modes",
    ),
    "no request gate": (_without("affidavit.request_gate"), "envoy.request_gate"),
    "request gate before": (_move_first("affidavit.request_gate"), "envoy.request_gate"),
    "request gate lets all pass": (
        lambda dump: _rules(dump)["policies"].update(all={"permissions": [{"any": True}]}), "envoy.request_gate",
    ),
    "request gate denies instead": (lambda dump: _rules(dump).update(action="DENY"), "envoy.request_gate"),
    "another word": (
        lambda dump: _rules(dump)["policies"]["decided"]["permissions"][0]["sourced_metadata"]["metadata_matcher"][
            "value"
        ]["string_match"].update(exact="deny"),
        "envoy.request_gate",
    ),
    "no response gate": (_without("affidavit.response_gate"), "envoy.response_gate"),
    "response gate behind": (_move_last("affidavit.response_gate"), "envoy.response_gate"),
    "empty response gate": (
        lambda dump: _filter(dump, "affidavit.response_gate")["typed_config"].update(default_source_code={}),
        "envoy.response_gate",
    ),
    "callers choose ids": (lambda dump: _manager(dump).update(preserve_external_request_id=True), "envoy.edge"),
    "callers choose addresses": (lambda dump: _manager(dump).pop("use_remote_address"), "envoy.edge"),
    "no log": (lambda dump: _manager(dump).pop("access_log"), "envoy.access_log"),
    "another log": (
        lambda dump: _manager(dump)["access_log"][0]["typed_config"].update(path="/dev/null"), "envoy.access_log",
    ),
    "route without the gate": (
        lambda dump: _routes(dump)["virtual_hosts"][0]["routes"][0].update(typed_per_filter_config=PER_ROUTE), "envoy.routes",
    ),
    "host without the gate behind": (
        lambda dump: _routes(dump)["virtual_hosts"][0].update(typed_per_filter_config=RBAC_OFF), "envoy.routes",
    ),
    "table without": (lambda dump: _routes(dump).update(typed_per_filter_config=PER_ROUTE), "envoy.routes"),
}  # fmt: skip


def test_our_own_settings_are_well(dump: dict[str, Any], settings: Any) -> None:
    found = list(envoy.judge(dump, str(settings.access_log)))
    assert set(_verdicts(found)) == set(envoy._SAYS)
    assert _unwell(found) == {}


@pytest.mark.parametrize("name", BROKEN)
def test_each_setting_that_is_broken(dump: dict[str, Any], settings: Any, name: str) -> None:
    break_it, check = BROKEN[name]
    break_it(dump)
    assert _unwell(envoy.judge(dump, str(settings.access_log))) == {check: FAIL}


def test_second_listener_is_looked_at_too(dump: dict[str, Any], settings: Any) -> None:
    other = copy.deepcopy(dump["configs"][0]["static_listeners"][0]["listener"])
    dump["configs"][0]["dynamic_listeners"] = [{"active_state": {"listener": {**other, "name": "side"}}}]
    typed = other["filter_chains"][0]["filters"][0]["typed_config"]
    typed["http_filters"] = typed["http_filters"][-1:]
    [found] = [one for one in envoy.judge(dump, str(settings.access_log)) if one.verdict == FAIL]
    assert (found.check, found.says.startswith("side: ")) == ("envoy.gate", True)


def test_envoy_without_listeners() -> None:
    assert _unwell(envoy.judge({"configs": []}, "/x")) == {"envoy.listeners": FAIL}


# The gate and its policy -------------------------------------------------------------------------------------------


def _well(config: Any, digest: str) -> dict[str, Any]:
    one = {"at": NOW.timestamp(), "is_ready": True, "is_writable": True, "is_policy_ready": True, "failure": None}
    policy = {"revision": "r1", "digest": "ab" * 32}
    states: dict[str, Any] = {f"worker-{index}": {**one, "policy": policy} for index in range(config.workers)}
    supervisor = {**one, "config_sha256": digest, "pid": 7}
    return {**states, "shipper": {**one, "canary_at": NOW.timestamp()}, "supervisor": supervisor}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, {}),
        ({"supervisor": None}, {"gate.runs": FAIL}),
        ({"supervisor": {"config_sha256": "other"}}, {"gate.configuration": WARN}),
        ({"worker-0": None}, {"gate.ready": FAIL}),
        ({"worker-0": {"is_ready": False}}, {"gate.ready": FAIL}),
        ({"shipper": {"is_ready": False, "failures": ["store_refused: AccessDenied"]}}, {"gate.shipper": FAIL}),
        ({"shipper": {"policy_refused": "unsigned"}}, {"gate.bundle": FAIL}),
        ({"daily": {"is_ready": False, "failures": ["reconcile"]}}, {"gate.daily": FAIL}),
    ],
)
def test_the_gate(tmp_path: Path, said: dict[str, Any], expected: dict[str, str]) -> None:
    config, digest = a_config(tmp_path)
    states = _well(config, digest)
    for name, change in said.items():
        if change is None:
            del states[name]
        else:
            states[name] = {**states.get(name, {}), **change}
    lock = os.open(config.run_dir / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = list(doctor._gate(doctor.Patient(config, digest, states, lambda: NOW)))
        assert _unwell(found) == expected
        pages = {one.do.partition("docs/runbook.md")[2].lstrip("#") for one in found if "runbook" in one.do}
        headings = re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)
        assert pages <= {heading.lower() for heading in headings}, "the alert's page is named"
    finally:
        os.close(lock)


def test_a_gate_that_was_killed_does_not_run(tmp_path: Path) -> None:
    """What it last said is still there."""
    config, digest = a_config(tmp_path)
    found = _unwell(doctor._gate(doctor.Patient(config, digest, _well(config, digest), lambda: NOW)))
    assert found == {"gate.runs": FAIL}


class Bucket:
    """What `store_of` gives."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects

    def fetch(self, key: str) -> bytes:
        from ext_proc.audit.store import StoreUnavailable

        if key not in self.objects:
            raise StoreUnavailable("no such object")
        return self.objects[key]

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))


@pytest.mark.parametrize(
    "case",
    ["well", "a later copy", "not there", "other bytes", "never said", "two bundles", "opa is gone", "said long ago"],
)
def test_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    config, digest = a_config(tmp_path)
    raw = b"bundle"
    decides = sha256(raw).hexdigest()
    states = _well(config, digest)
    for index in range(config.workers):
        states[f"worker-{index}"]["policy"] = {"revision": "r", "digest": decides}
    objects = {archive_key(decides): raw}
    expected: dict[str, str] = {}
    match case:
        case "a later copy":  # what lies under the plain name is somebody else's
            objects = {archive_key(decides): b"other", archive_key(decides, NOW): raw}
        case "not there":
            objects, expected = {}, {"policy.recorded": FAIL}
        case "other bytes":
            objects, expected = {archive_key(decides): b"other"}, {"policy.recorded": FAIL}
        case "never said":
            states["worker-0"]["policy"], expected = None, {"policy.active": FAIL}
        case "two bundles":
            states["worker-0"]["policy"] = {"revision": "q", "digest": "cd" * 32}
            expected = {"policy.active": FAIL}
        case "opa is gone":  # which bundle it had stays in what workers say
            states["worker-0"] |= {"is_ready": False, "is_policy_ready": False}
            expected = {"policy.active": FAIL}
        case "said long ago":
            states["worker-0"]["at"] -= 60
            expected = {"policy.active": FAIL}
    bucket = FakeVersions()
    for key, body in objects.items():
        bucket.put(key, body)
    monkeypatch.setattr(store, "store_of_source", lambda *_: bucket)
    assert _unwell(doctor._policy(doctor.Patient(config, digest, states, lambda: NOW))) == expected


def test_the_witness(tmp_path: Path) -> None:
    config, digest = a_config(tmp_path)
    patient = doctor.Patient(config, digest, {}, lambda: NOW)
    assert _unwell(doctor._access_log(patient)) == {"envoy.witness": FAIL}
    registry.access_log_path(config).parent.mkdir()
    registry.access_log_path(config).write_text("{}\n")
    assert _unwell(doctor._access_log(patient)) == {}
    registry.access_log_path(config).rename(tmp_path / "elsewhere")
    registry.access_log_path(config).symlink_to(tmp_path / "elsewhere")
    assert _unwell(doctor._access_log(patient)) == {"envoy.witness": FAIL}


# The store ---------------------------------------------------------------------------------------------------------


@contextmanager
def _moto(folder: Path) -> Iterator[tuple[Any, Any]]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        (folder / "s3").write_text("[default]\naws_access_key_id=nobody\naws_secret_access_key=asks\n")
        client: Any = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="nobody",
            aws_secret_access_key="asks", config=BotoConfig(s3={"addressing_style": "path"}),
        )  # fmt: skip
        s3 = {"bucket": f"evidence-{folder.name}".lower().replace("_", "-"), "endpoint": endpoint, "retention_days": 10}
        yield a_config(folder, s3={**s3, "credentials_file": str(folder / "s3")})[0], client
    finally:
        server.stop()


def _made(client: Any, bucket: str, mode: str = "COMPLIANCE", days: int = 10, *, is_locked: bool = True) -> None:
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=is_locked)
    if is_locked:
        rule = {"DefaultRetention": {"Mode": mode, "Days": days}}
        told = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=told)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("well", {}),
        ("governance", {"store.lock": FAIL}),
        ("short", {"store.lock": FAIL}),
        ("no lock", {"store.lock": FAIL, "store.versions": FAIL}),
        ("no bucket", {"store.reached": FAIL}),
    ],
)
def test_the_store(tmp_path: Path, case: str, expected: dict[str, str]) -> None:
    with _moto(tmp_path) as (config, client):
        bucket = config.audit.s3.bucket
        match case:
            case "well":
                _made(client, bucket)
            case "governance":
                _made(client, bucket, "GOVERNANCE")
            case "short":
                _made(client, bucket, days=9)
            case "no lock":
                _made(client, bucket, is_locked=False)
        now = datetime.now(UTC)
        states = {"shipper": {"canary_holes": [], "canary_at": now.timestamp()}}
        assert _unwell(store.look(config, states, lambda: datetime.now(UTC))) == expected
        if case == "well":
            assert _unwell(store.look(config, states, lambda: datetime.now(UTC) + timedelta(seconds=90))) == {
                "store.clock": FAIL
            }


def test_store_that_is_away(tmp_path: Path) -> None:
    config, _ = a_config(tmp_path)  # at a port where nobody is
    (tmp_path / "s3").write_text("[default]\naws_access_key_id=a\naws_secret_access_key=b\n")
    config = config.model_copy(
        update={
            "audit": config.audit.model_copy(
                update={"s3": config.audit.s3.model_copy(update={"credentials_file": tmp_path / "s3"})}
            )
        }
    )
    assert _unwell(store.look(config, {}, lambda: NOW)) == {"store.reached": FAIL}


@pytest.mark.parametrize(
    ("shipper", "verdict"),
    [
        ({"canary_holes": [], "canary_at": NOW.timestamp() - 3600}, OK),
        ({"canary_holes": ["shorten"], "canary_at": NOW.timestamp()}, FAIL),
        ({"canary_holes": [], "canary_at": None}, WARN),
        ({}, WARN),
        ({"canary_holes": [], "canary_at": NOW.timestamp() - 49 * 3600}, WARN),
    ],
)
def test_what_the_canary_found(shipper: dict[str, Any], verdict: str) -> None:
    assert store.canary_finding(shipper, 24, NOW.timestamp()).verdict == verdict


@pytest.mark.parametrize(
    ("ahead", "verdict"), [(0.0, OK), (-5.0, OK), (5.1, WARN), (-60.0, WARN), (60.1, FAIL), (-3600, FAIL)]
)
def test_clocks(ahead: float, verdict: str) -> None:
    assert store.clock_finding("x", ahead).verdict == verdict


# The disk ----------------------------------------------------------------------------------------------------------

MOUNTS = (
    "/dev/sda1 / ext4 rw 0 0\n"
    "tmpfs /run tmpfs rw 0 0\n"
    "/dev/sdb /var/lib/my\\040data xfs rw 0 0\n"
    "tmpfs /var/lib/my\\040data/deep tmpfs rw 0 0\n"
)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv", "ext4"),
        ("/run/x", "tmpfs"),
        ("/running", "ext4"),
        ("/var/lib/my data/x", "xfs"),
        ("/var/lib/my data/deep/x", "tmpfs"),
    ],
)
def test_which_file_system(folder: str, kind: str) -> None:
    from pathlib import Path

    assert disk.kind_of(Path(folder), MOUNTS) == kind
    verdict = FAIL if kind == "tmpfs" else OK
    assert disk._kind(Path(folder), MOUNTS).verdict == verdict


@pytest.mark.parametrize(("seconds", "verdict"), [(0.000019, WARN), (0.0005, OK), (0.051, WARN)])
def test_how_long_a_sync_takes(seconds: float, verdict: str) -> None:
    assert disk.judge_sync(seconds).verdict == verdict


def test_the_disk(tmp_path: Path) -> None:
    config, _ = a_config(tmp_path)
    assert _unwell(disk.look(config)) == {"disk.evidence": FAIL}
    epoch = registry.evidence_directory(config) / "epoch"
    epoch.mkdir(parents=True)
    found = _verdicts(disk.look(config))
    assert found["disk.one"] == OK and found["disk.sync"] in {OK, WARN}
    assert "disk.quarantine" not in found
    assert list(registry.evidence_directory(config).iterdir()) == [epoch]  # nothing is left
    (epoch / "0.quarantine").touch()
    assert _verdicts(disk.look(config))["disk.quarantine"] == FAIL


def test_disk_that_is_too_small(tmp_path: Path) -> None:
    config, _ = a_config(tmp_path)
    registry.evidence_directory(config).mkdir(parents=True)
    wal = config.audit.wal.model_copy(update={"max_bytes": 1 << 60})
    large = config.model_copy(update={"audit": config.audit.model_copy(update={"wal": wal})})
    assert _verdicts(disk.look(large))["disk.room"] == FAIL


def test_disk_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, _ = a_config(tmp_path)
    registry.evidence_directory(config).mkdir(parents=True)

    def refuse(*_: Any) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(disk.os, "open", refuse)
    assert _verdicts(disk.look(config))["disk.sync"] == FAIL


# Keys --------------------------------------------------------------------------------------------------------------


def _certificate(path: Path, ends: datetime) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gate")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(ends - timedelta(days=90)).not_valid_after(ends).sign(key, hashes.SHA256())
    )  # fmt: skip
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


NOBODY = "unix:/nowhere/admin.sock"


def _serving(monkeypatch: pytest.MonkeyPatch, told: dict[str, Any]) -> None:
    """An Envoy that says this of its certificates. (tests/e2e/test_doctor.py asks a real one.)"""
    monkeypatch.setattr(keys, "told_by_envoy", lambda _, path: told if path == "/certs" else {})


def _served(path: Path, days: int) -> dict[str, Any]:
    ends = (NOW + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"cert_chain": [{"path": str(path), "expiration_time": ends}]}


DAYS = pytest.mark.parametrize(("days", "verdict"), [(15, OK), (13, WARN), (-1, FAIL)])


@DAYS
def test_certificate_that_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, verdict: str) -> None:
    """The file may be renewed, or not be there for this process: what counts is what callers get."""
    path, other = tmp_path / "tls.pem", {"ca_cert": [{"path": "/ca.pem", "expiration_time": "?"}]}
    _serving(
        monkeypatch, {"certificates": [other, _served(tmp_path / "b", -9), _served(path, days), _served(path, 99)]}
    )
    for _ in ("no file", "a renewed one"):
        found = keys.certificate_finding(path, NOBODY, NOW)
        assert found.verdict == verdict and "in " + str(path) not in found.says
        _certificate(path, NOW + timedelta(days=400))


def test_certificate_that_envoy_does_not_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _certificate(tmp_path / "tls.pem", NOW + timedelta(days=400))
    _serving(monkeypatch, {"certificates": [_served(tmp_path / "other", 400)]})
    found = keys.certificate_finding(path, NOBODY, NOW)
    assert found.verdict == FAIL and "Envoy serves no certificate of" in found.says


@DAYS
def test_certificate_where_nobody_says_what_is_served(tmp_path: Path, days: int, verdict: str) -> None:
    path = _certificate(tmp_path / "tls.pem", NOW + timedelta(days=days))
    found = keys.certificate_finding(path, NOBODY, NOW)
    assert found.verdict == verdict and "Envoy does not say which one it serves" in found.says


@pytest.mark.parametrize(
    "told",
    [{}, {"certificates": 1}, {"certificates": [1]}, {"certificates": [{"cert_chain": [{}]}]},
     {"certificates": [{"cert_chain": [{"path": "/tls.pem", "expiration_time": "tomorrow"}]}]},
     {"certificates": [{"cert_chain": [{"path": "/tls.pem", "expiration_time": 7}]}]}],
)  # fmt: skip
def test_garbage_is_no_word_of_certificates(told: Any) -> None:
    with pytest.raises(asking.Unreachable, match="no list of certificates"):
        keys._served_until(told, "/tls.pem")


def test_certificate_that_is_none(tmp_path: Path) -> None:
    found = keys.certificate_finding(tmp_path / "none", NOBODY, NOW)
    assert found.verdict == FAIL and "none that can be read" in found.says


def _signing(config: Any, policy: Path | None) -> str:
    [found] = keys._signing(config, policy)
    return found.verdict


def test_key_that_auditors_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, _ = a_config(tmp_path)
    monkeypatch.setattr(keys, "store_of", lambda _: Bucket({}))
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(auditor_policy(config)))
    assert _signing(config, None) == OK
    assert _signing(config, policy) == OK
    policy.write_text(yaml.safe_dump({**auditor_policy(config), "gateway": "another"}))
    assert _signing(config, policy) == FAIL
    policy.write_text(yaml.safe_dump({**auditor_policy(config), "log_keys": ["AAAA"]}))
    assert _signing(config, policy) == FAIL
    policy.write_text("no policy")
    assert _signing(config, policy) == FAIL


def test_key_that_was_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ext_proc.audit import rotation

    config, _ = a_config(tmp_path)
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(auditor_policy(config)))
    create_key_files(tmp_path / "keys", "next-key")
    path = tmp_path / "config.yaml"
    told = yaml.safe_load(path.read_text())
    told["audit"]["signing"]["file"] = str(tmp_path / "keys" / "next-key")
    path.write_text(yaml.safe_dump(told))
    new, _ = load(path)
    monkeypatch.setattr(keys, "store_of", lambda _: Bucket({}))
    assert _signing(new, policy) == FAIL
    gateway = config.audit.origin
    made = rotation.rotate(
        registry.log_signer(config), registry.log_signer(new), gateway, 0, None, NOW, timedelta(hours=1)
    )
    monkeypatch.setattr(keys, "store_of", lambda _: Bucket({"v1/keys/000000": made.encode()}))
    assert _signing(new, policy) == OK
    monkeypatch.setattr(keys, "store_of", lambda _: Bucket({"v1/keys/000000": b"nonsense"}))
    assert _signing(new, policy) == FAIL


# The whole ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_looked_at_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, digest = a_config(tmp_path)

    def break_down(_: doctor.Patient) -> Iterator[Finding]:
        raise asking.Unreachable("nobody is there")
        yield  # pragma: no cover

    monkeypatch.setattr(doctor, "CHECKS", {"one": break_down, "two": lambda _: iter([Finding("two", OK, "well")])})
    found = doctor.examine(doctor.Patient(config, digest, {}, lambda: NOW))
    assert [(one.check, one.verdict) for one in found] == [("one", FAIL), ("two", OK)]
    assert "nobody is there" in found[0].says


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreRefused("no"), BadYamlError("not valid YAML")])
def test_whatever_is_ill_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    config, digest = a_config(tmp_path)

    def break_down(_: doctor.Patient) -> Iterator[Finding]:
        raise error
        yield  # pragma: no cover

    monkeypatch.setattr(doctor, "CHECKS", {"one": break_down})
    [found] = doctor.examine(doctor.Patient(config, digest, {}, lambda: NOW))
    assert found.verdict == FAIL and str(error) in found.says


@pytest.mark.parametrize(
    "ask", [lambda at: asking.asked(f"http://{at}/keys"), lambda at: asking.told_by_envoy(at, "/config_dump")]
)
def test_who_does_not_speak_http_is_unreachable(ask: Callable[[str], object]) -> None:
    """What listens at an address of ours may be anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            other, _ = server.accept()
            with other:
                other.recv(1000)
                other.sendall(b"220 mail.example.com ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(asking.Unreachable, match="BadStatusLine"):
            ask(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()


@pytest.mark.parametrize(
    ("mode", "said"), [(0o660, {}), (0o666, {"envoy.admin": FAIL}), (0o662, {"envoy.admin": FAIL})]
)
def test_admin_interface_on_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, said: dict[str, str]
) -> None:
    config, digest = a_config(tmp_path)
    path = tmp_path / "admin.sock"
    config = config.model_copy(update={"listen": config.listen.model_copy(update={"admin": f"unix:{path}"})})
    monkeypatch.setattr(doctor, "told_by_envoy", lambda admin, _: {} if admin == f"unix:{path}" else None)
    path.touch()
    path.chmod(mode)
    found = _verdicts(doctor._envoy(doctor.Patient(config, digest, {}, lambda: NOW)))
    assert {name: verdict for name, verdict in found.items() if name == "envoy.admin"} == said


def test_auditors_file_that_is_no_yaml(tmp_path: Path) -> None:
    config, digest = a_config(tmp_path)
    policy = tmp_path / "policy.yaml"
    policy.write_text("gateway: [")
    found = doctor.examine(doctor.Patient(config, digest, {}, lambda: NOW, policy))
    assert any("not valid YAML" in one.says for one in found)


@pytest.mark.parametrize(("verdict", "status"), [(OK, 0), (WARN, 0), (FAIL, 1)])
def test_exit_status_and_forms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verdict: str, status: int
) -> None:
    a_config(tmp_path)
    finding = Finding("one", verdict, "it [is] so", "do that")
    monkeypatch.setattr(doctor, "CHECKS", {"one": lambda _: iter([finding])})
    command = ["doctor", "--config", str(tmp_path / "config.yaml")]
    assert main(command) == status
    said = capsys.readouterr().out
    assert "it [is] so" in said and ("do that" in said) is (verdict != OK)
    assert main([*command, "--json"]) == status
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is (status == 0)
    assert Finding(**told["findings"][0]) == replace(finding)


def test_without_a_configuration(tmp_path: Path) -> None:
    assert main(["doctor", "--config", str(tmp_path / "none.yaml")]) == 2
