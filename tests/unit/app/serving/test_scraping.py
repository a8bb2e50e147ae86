"""`/metrics`: sums over processes, exemplars beside them, and how the gateway stands as gauges."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

from ext_proc.app import registry
from ext_proc.app.process import tell
from ext_proc.app.serving.scraping import scraped
from ext_proc.app.serving.standing import Standing
from tests.fakes.configured import a_config

if TYPE_CHECKING:
    from pathlib import Path

OPEN = "application/openmetrics-text; version=1.0.0"
EXCHANGE, TRACE = "0b8f3a52-3f5c-4a3e-9d44-1b0f5f2f7a11", "0af7651916cd43dd8448eb211c80319c"
WORKER = """
import sys
from pathlib import Path
from ext_proc import telemetry
from ext_proc.app.serving.scraping import tell_exemplars
exchange, trace, seconds = sys.argv[2], sys.argv[3], float(sys.argv[4])
telemetry.exchange_began()
telemetry.step_took("Decide", seconds, (exchange, trace))
telemetry.step_took("Record", seconds)
telemetry.exchange_ended("demo", "completed", "", seconds, (exchange, trace))
telemetry.count(telemetry.DECISIONS, "allow", by=2)
telemetry.count(telemetry.ABORTED)
telemetry.tell_metrics()
tell_exemplars(Path(sys.argv[1]), int(sys.argv[5]), telemetry.take_exemplars(1700000000.5))
assert telemetry.take_exemplars(1.0) == []
telemetry.tell_metrics()
telemetry.step_took("Other", 0.1, (exchange, trace))
kept = telemetry.take_exemplars(1700000009.5)  # what is rare is kept, with its own time, until something newer comes
assert {(labels.get("step"), at) for _, labels, *_, at in kept} >= {("Decide", 1700000000.5), ("Other", 1700000009.5)}
"""


@pytest.fixture
def config(tmp_path: Path) -> Any:
    made, _ = a_config(tmp_path)
    (made.run_dir / "metrics").mkdir(parents=True, exist_ok=True)
    (made.run_dir / "state").mkdir(parents=True, exist_ok=True)
    return made


def _work(config: Any, index: int, seconds: float, trace: str = TRACE) -> None:
    """What a worker counts, in a process of its own."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(config.run_dir / "metrics")}
    arguments = [str(config.run_dir), EXCHANGE, trace, str(seconds), str(index)]
    subprocess.run([sys.executable, "-c", WORKER, *arguments], check=True, env=environment, timeout=120)


def _read(config: Any, accept: str = "") -> dict[str, Any]:
    answer = scraped(config, "ab" * 32, accept)
    read = read_open if accept else read_plain
    return {family.name: family for family in read(answer.body.decode())}


def _values(found: dict[str, Any], name: str) -> dict[tuple[str, ...], float]:
    return {
        (one.name, *one.labels.values()): one.value for one in found[name].samples if not one.name.endswith("_created")
    }


def test_sums_and_exemplars_of_two_processes(config: Any) -> None:
    _work(config, 0, 0.003)
    _work(config, 1, 0.2, trace="")
    found = _read(config, OPEN)
    steps = found["affidavit_step_seconds"].samples
    told = {
        (one.labels["step"], one.labels["le"]): (one.exemplar.labels, one.exemplar.value, float(one.exemplar.timestamp))
        for one in steps
        if one.exemplar is not None
    }
    assert told == {
        ("Decide", "0.005"): ({"exchange_id": EXCHANGE, "trace_id": TRACE}, 0.003, 1700000000.5),
        ("Decide", "0.25"): ({"exchange_id": EXCHANGE}, 0.2, 1700000000.5),
    }  # of Record nobody said whose it was
    whole = [one for one in found["affidavit_exchange_seconds"].samples if one.exemplar is not None]
    assert [one.labels for one in whole] == [{"connection": "demo", "le": edge} for edge in ("0.005", "0.25")]
    assert _values(found, "affidavit_decisions") == {("affidavit_decisions_total", "allow"): 4}
    assert _values(found, "affidavit_streams_aborted") == {("affidavit_streams_aborted_total",): 2}
    plain = _read(config)
    assert all(one.exemplar is None for one in plain["affidavit_step_seconds"].samples)
    assert _values(plain, "affidavit_step_seconds") == _values(found, "affidavit_step_seconds")


def test_exemplars_that_are_torn_are_left_out(config: Any) -> None:
    _work(config, 0, 0.003)
    (config.run_dir / "metrics" / "worker-0.exemplars.json").write_text('[["affidavit_st')
    assert all(one.exemplar is None for one in _read(config, OPEN)["affidavit_step_seconds"].samples)


def _tell(config: Any, name: str, at: float, **more: Any) -> None:
    state = {"at": at, "is_ready": True, "is_writable": True, "is_policy_ready": True, "failure": None}
    tell(config.run_dir, name, {**state, **more})


def test_how_it_stands_as_gauges(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ext_proc.app.process import clock

    now = clock().timestamp()
    policy = {"revision": "r1", "digest": "cd" * 32}
    for index in range(config.workers):
        _tell(config, f"worker-{index}", now, policy=policy)
    _tell(config, "shipper", now, canary_holes=["delete"], canary_at=now - 60, clock_offset_seconds=-2.5)
    epoch = registry.evidence_directory(config) / "20261126T000000000000-aa"
    epoch.mkdir(parents=True)
    for name, age in (("0000000000000000.sealed", 500), ("0000000000000009.sealed", 5), ("3.quarantine", 1)):
        (epoch / name).write_bytes(b"x" * 10)
        os.utime(epoch / name, (now - age, now - age))
    found = _read(config)
    one = {name: family.samples[0].value for name, family in found.items() if len(family.samples) == 1}
    assert one["affidavit_ready"] == 0  # the canary's hole
    assert _values(found, "affidavit_part_ready")["affidavit_part_ready", "store"] == 0
    assert _values(found, "affidavit_part_ready")["affidavit_part_ready", "policy"] == 1
    assert one["affidavit_canary_holes"] == 1
    assert 60 <= one["affidavit_canary_age_seconds"] < 120
    assert one["affidavit_clock_offset_seconds"] == -2.5
    assert 500 <= one["affidavit_evidence_oldest_unshipped_seconds"] < 560
    assert one["affidavit_evidence_quarantined_files"] == 1
    assert one["affidavit_evidence_used_bytes"] == 30
    assert one["affidavit_evidence_capacity_bytes"] == config.audit.wal.max_bytes
    assert one["affidavit_disk_free_bytes"] > 0
    assert {"worker": "worker-0", **policy} in [sample.labels for sample in found["affidavit_policy_info"].samples]


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ({"worker-0": None}, "workers"),
        ({"worker-0": {"is_ready": False, "is_policy_ready": False}}, "policy"),
        ({"worker-0": {"is_ready": False, "is_writable": False}}, "evidence"),
        ({"shipper": {"canary_holes": ["shorten"]}}, "store"),
        ({"shipper": {"is_ready": False}}, "shipper"),
        ({"shipper": None}, "shipper"),
        ({"shipper": {"policy_refused": "unsigned"}}, "bundle"),
        ({"daily": {"is_ready": False}}, "daily"),
        ({"daily": {"due_by": 999.0}}, "daily"),
        ({"daily": None}, "daily"),
    ],
)
def test_each_part_for_itself(config: Any, said: dict[str, Any], part: str) -> None:
    well = {"at": 1000.0, "is_ready": True, "is_writable": True, "is_policy_ready": True, "failure": None}
    states: dict[str, Any] = {f"worker-{index}": dict(well) for index in range(config.workers)}
    states |= {"shipper": dict(well), "daily": {**well, "due_by": 1000.0}}
    assert all(Standing.of(config, states, 1000.0).parts.values())
    for name, change in said.items():
        if change is None:
            del states[name]
        else:
            states[name] |= change
    found = Standing.of(config, states, 1000.0)
    assert [name for name, is_well in found.parts.items() if not is_well] == [part]
    assert found.is_ready is (part in {"shipper", "bundle", "daily"})


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"is_policy_ready": False}, "policy: OPA does not answer on its socket"),
        ({"is_writable": False}, "evidence: there is no room for it"),
        ({"is_writable": False, "failure": "EIO"}, "EIO"),
    ],
)
def test_what_a_worker_lacks_is_named(config: Any, said: dict[str, Any], problem: str) -> None:
    well = {"at": 1000.0, "is_ready": True, "is_writable": True, "is_policy_ready": True, "failure": None}
    states: dict[str, Any] = {f"worker-{index}": well for index in range(config.workers)}
    states["worker-0"] = {**well, "is_ready": False, **said}
    assert Standing.of(config, states, 1000.0).problems == {"worker-0": problem}


@pytest.mark.parametrize(("was_born", "is_named"), [(False, True), (True, False)])
def test_a_worker_that_waits_for_the_store_says_so(config: Any, was_born: bool, is_named: bool) -> None:
    """It says nothing itself before its birth record is locked: what the shipper says is the cause."""
    states = {"shipper": {"at": 1000.0, "failures": ["store_unavailable: SlowDown"], "was_born": was_born}}
    problems = Standing.of(config, states, 1000.0).problems
    assert len(problems) == config.workers
    assert all(one.startswith("does not answer") for one in problems.values())
    assert all(("store_unavailable: SlowDown" in one) is is_named for one in problems.values())


def test_a_refused_configuration_is_told_and_stops_nobody(config: Any) -> None:
    well = {"at": 1000.0, "is_ready": True, "is_writable": True, "is_policy_ready": True, "failure": None}
    states: dict[str, Any] = {f"worker-{index}": well for index in range(config.workers)}
    states["supervisor"] = {**well, "refused": {"config_sha256": "", "why": "not every worker has taken it over"}}
    found = Standing.of(config, states, 1000.0)
    assert found.is_ready and found.parts["bundle"]
    assert found.degraded == {"configuration": "not every worker has taken it over"}


def test_a_worker_that_is_silent_is_not_there(config: Any) -> None:
    well = {"at": 1000.0, "is_ready": True, "is_writable": True, "is_policy_ready": True, "failure": None}
    states = {f"worker-{index}": well for index in range(config.workers)}
    assert not Standing.of(config, states, 980.0).is_ready, "said years ahead, by a clock that was put right since"
    assert Standing.of(config, states, 1010.0).parts["workers"]
    assert not Standing.of(config, states, 1010.1).is_ready
