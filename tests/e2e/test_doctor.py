"""`affidavit doctor` on a running installation, with a real Envoy's own word: well as it is, and not when it is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import CHAT, Gateway, operations, running_gateway
from tests.e2e.upstream import Upstream, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(600)

ANSWER = json.dumps({"choices": [{"message": {"role": "assistant", "content": "fine"}}]}).encode()


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway of this module's own: things are broken here."""
    upstream = Upstream({}, default=(plain(ANSWER),))
    with running_gateway(tmp_path_factory.mktemp("doctor"), upstream, operations=operations(CHAT)) as made:
        yield made


def _examined(gateway: Gateway) -> tuple[int, dict[str, dict[str, Any]]]:
    command = [
        sys.executable, "-m", "ext_proc", "doctor", "--config", str(gateway.stack.config), "--json",
        "--policy", str(gateway.stack.auditor_policy),
    ]  # fmt: skip
    done = subprocess.run(command, check=False, timeout=200, capture_output=True, text=True)
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode, {one["check"]: one for one in json.loads(done.stdout)["findings"]}


def _failing(found: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, one in found.items() if one["verdict"] == "fail"}


def test_a_running_gateway_is_well(mine: Gateway) -> None:
    assert mine.chat("hello").status == 200
    state = mine.stack.folder / "run" / "state" / "shipper.json"
    mine.wait_for(lambda: json.loads(state.read_text()).get("canary_at"), "no canary", 120)
    policy = json.loads((mine.stack.folder / "run" / "state" / "worker-0.json").read_text())["policy"]
    mine.wait_for(lambda: list(mine.store.keys(f"v1/policy/{policy['digest']}")), "the bundle is not kept", 60)
    status, found = _examined(mine)
    forgetful = {"disk.lasting"}  # where tests run in a container, its disk goes with it
    assert _failing(found) <= forgetful, found
    assert status == (1 if _failing(found) else 0)
    wanted = {
        "gate.runs", "gate.configuration", "gate.ready", "policy.active", "policy.recorded", "envoy.runs", "envoy.gate",
        "envoy.request_gate", "envoy.response_gate", "envoy.modes", "envoy.edge", "envoy.access_log", "envoy.routes",
        "envoy.settings", "envoy.connections", "envoy.witness", "store.reached", "store.lock", "store.versions", "store.clock", "store.permissions",
        "disk.lasting", "disk.one", "disk.room", "disk.sync", "keys.signing", "tls.certificate",
    }  # fmt: skip
    assert wanted <= set(found)
    assert {found[name]["verdict"] for name in wanted - {"disk.sync", "disk.lasting", "store.clock"}} == {"ok"}


def test_certificate_is_what_envoy_serves_and_not_what_the_file_is(mine: Gateway) -> None:
    """Callers get what Envoy read when it started: neither a file that is gone nor another one says anything of it."""
    ours = mine.stack.certificate.read_bytes()
    before = _examined(mine)[1]["tls.certificate"]
    try:
        mine.stack.certificate.unlink()
        assert _examined(mine)[1]["tls.certificate"] == before
        mine.stack.certificate.write_text("no certificate")
        assert _examined(mine)[1]["tls.certificate"] == before
    finally:
        mine.stack.certificate.write_bytes(ours)
    assert before["verdict"] == "ok" and before["says"].startswith("ends in ")


def test_issuer_that_is_away(mine: Gateway) -> None:
    os.kill(mine.stack.programs["issuer"].pid, signal.SIGSTOP)
    try:
        _, found = _examined(mine)
    finally:
        os.kill(mine.stack.programs["issuer"].pid, signal.SIGCONT)
    assert f"issuer {mine.stack.issuer}" in _failing(found)


def test_opa_that_is_away(mine: Gateway) -> None:
    mine.stack.programs["opa"].stop()
    try:
        mine.wait_for(lambda: "gate.ready" in _failing(_examined(mine)[1]), "nobody says that OPA is away", 120)
    finally:
        mine.stack.start_opa()


def test_envoy_that_runs_with_other_settings(mine: Gateway) -> None:
    """Somebody edited the file that Envoy was started with."""
    bootstrap = mine.stack.folder / "run" / "envoy" / "bootstrap.yaml"
    ours = bootstrap.read_text()
    mine.stack.programs["envoy"].stop()
    assert {"envoy.runs"} <= _failing(_examined(mine)[1])
    bootstrap.write_text(ours.replace("failure_mode_allow: false", "failure_mode_allow: true"))
    mine.stack.start_envoy()
    try:
        status, found = _examined(mine)
    finally:
        mine.stack.programs["envoy"].stop()
        bootstrap.write_text(ours)
        mine.stack.start_envoy()
    assert status == 1
    assert {"envoy.gate", "envoy.settings"} == {name for name in _failing(found) if name.startswith("envoy.")}
    assert "failure_mode_allow is true" in found["envoy.gate"]["says"]
