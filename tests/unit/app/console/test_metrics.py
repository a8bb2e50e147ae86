"""The console's `/metrics`: how many wait and how long, how it answers, how its evidence is shipped; no address that
somebody made up.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from ext_proc import telemetry
from ext_proc.app.console import metrics
from ext_proc.app.console.shipped import NOT_KEPT, NOT_SHIPPED, Shipped
from ext_proc.app.process import clock, tell
from ext_proc.errors import ApprovalUnavailable
from tests.fakes.configured import a_config
from tests.fakes.holds import HERE, X, Y, a_hold
from tests.fakes.register import FakeRegister

ALERTS = Path(__file__).resolve().parents[4] / "helm" / "affidavit" / "files" / "alerts.yaml"


@pytest.fixture
def config(tmp_path: Path) -> Any:
    return a_config(tmp_path)[0]


async def _scraped(config: Any, register: Any, failure: str | None = None) -> dict[str, Any]:
    shipping = metrics.ShippingCollector(config, lambda: failure)
    async with TestClient(TestServer(metrics.metrics_app(register, shipping))) as client:
        answer = await client.get("/metrics")
        assert answer.status == 200
        text = await answer.text()
    return {one.name: one for one in text_string_to_metric_families(text)}


async def test_who_waits(config: Any) -> None:
    register, now = FakeRegister(), clock()
    assert (await _scraped(config, register))["affidavit_approvals_oldest_pending_seconds"].samples[0].value == 0
    for what, who, age in (("a", X, 100), ("b", Y, 10)):
        register.ask(a_hold(what, at=now - timedelta(seconds=age)), who, HERE, now)
    found = await _scraped(config, register)
    assert found["affidavit_approvals_pending"].samples[0].value == 2
    assert 100 <= found["affidavit_approvals_oldest_pending_seconds"].samples[0].value < 220
    assert found["process_resident_memory_bytes"].samples[0].value > 0
    assert "affidavit_exchanges" not in found  # the gate's


async def test_register_that_is_away_leaves_the_rest(config: Any) -> None:
    class Away(FakeRegister):
        def count_pending(self, now: Any) -> int:
            raise ApprovalUnavailable("approval_register")

    telemetry.CONSOLE_SECONDS.labels("me", "2xx").observe(0.1)
    found = await _scraped(config, Away())
    assert "affidavit_approvals_pending" not in found
    assert {"me"} <= {one.labels["route"] for one in found["affidavit_console_request_seconds"].samples}


def _tell_shipper(config: Any, *, age: float = 0, **more: Any) -> None:
    now = clock().timestamp()
    state = {"at": now - age, "is_ready": True, "canary_holes": [], "canary_at": now - 60, "clock_offset_seconds": 0.1}
    counted = {"shipped_total": 7, "failed_total": {"not_kept": 0, "quarantined": 0, "store_unavailable": 3}}
    tell(config.run_dir, "shipper", state | counted | more)


def _parts(found: dict[str, Any]) -> dict[str, float]:
    return {one.labels["part"]: one.value for one in found["affidavit_part_ready"].samples}


def _alerts() -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


async def test_how_its_evidence_is_shipped(config: Any) -> None:
    _tell_shipper(config)
    found = await _scraped(config, FakeRegister())
    assert _parts(found) == {"evidence": 1, "store": 1, "shipper": 1}
    failed = {one.labels["code"]: one.value for one in found["affidavit_evidence_failures"].samples}
    assert failed == {"not_kept": 0, "quarantined": 0, "store_unavailable": 3}
    one = {name: family.samples[0].value for name, family in found.items() if len(family.samples) == 1}
    assert one["affidavit_evidence_objects"] == 7
    assert one["affidavit_evidence_capacity_bytes"] == config.audit.wal.max_bytes
    assert 60 <= one["affidavit_canary_age_seconds"] < 120
    _tell_shipper(config, canary_holes=["delete"], is_ready=False)
    assert _parts(await _scraped(config, FakeRegister(), "disk: OSError")) == {"evidence": 0, "store": 0, "shipper": 0}
    _tell_shipper(config, age=301)
    assert _parts(await _scraped(config, FakeRegister()))["shipper"] == 0, "it hangs, or is not there"


async def test_every_alert_of_evidence_looks_at_it_and_no_alert_of_what_it_has_not(config: Any) -> None:
    """Daily work and serving are the gateway's; what tells of a gateway that is there must not be told by a console."""
    (config.state_dir / "evidence").mkdir()
    _tell_shipper(config)
    found = await _scraped(config, FakeRegister())
    names = {sample.name for family in found.values() for sample in family.samples}
    evidence = [rule for rule in _alerts() if re.search(r"_(evidence|disk|canary|clock)_|part=.shipper", rule["expr"])]
    assert len(evidence) >= 9
    for rule in evidence:
        assert set(re.findall(r"affidavit_[a-z_]+", rule["expr"])) <= names, rule["alert"]
    assert not {"affidavit_build_info", "affidavit_ready", "affidavit_policy_info"} & names
    assert not {"workers", "policy", "bundle", "daily"} & set(_parts(found))


async def test_beside_a_gateway_its_supervisor_tells(config: Any) -> None:
    """Else whatever goes wrong with the one disk and the one shipper would wake somebody twice."""
    tell(config.run_dir, "supervisor", {"at": clock().timestamp(), "is_ready": True})
    _tell_shipper(config, is_ready=False)
    found = await _scraped(config, FakeRegister())
    assert _parts(found) == {"evidence": 1}
    told = {name for name in found if re.search("evidence|disk|canary|clock", name)}
    assert all(name.startswith("affidavit_evidence_commit_") for name in told), "its own log's"


async def test_in_words_for_health(config: Any) -> None:
    shipped = Shipped(config)

    def told() -> list[str]:
        shipped.look()
        return list(shipped.troubles)

    assert told() == [NOT_SHIPPED], "no shipper has said anything"
    _tell_shipper(config)
    assert told() == []
    _tell_shipper(config, age=301, canary_holes=["delete"])
    assert told() == [NOT_SHIPPED, NOT_KEPT]
