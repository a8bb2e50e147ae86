"""Every request that Envoy saw is accounted for, whatever happened to it; and what must not have happened is said.

The last test is Must show 4 in small: workers are killed under load, the store is away for part of it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ext_proc.app.envoy_admin import ask_envoy, read_stats, stats_path
from ext_proc.app.process import read_states
from ext_proc.config import load
from ext_proc.demo.envoy import start_envoy
from ext_proc.demo.programs import Program, free_ports, start
from ext_proc.demo.stack import Stack, StackOptions
from ext_proc.evidence.access import ACCESS
from tests.e2e.conftest import CHAT, Gateway, operations
from tests.e2e.harness import LoopThread, call
from tests.e2e.stub import Fault, Stub
from tests.e2e.test_kill_rounds import ANSWER, SERVED_BETWEEN, WORKERS, Load, kill_rounds, running_workers
from tests.e2e.upstream import Pause, Upstream, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROUNDS = int(os.environ.get("AFFIDAVIT_KILL_ROUNDS", "30"))
AWAY = max(3, min(ROUNDS // 10, 20))
"""Rounds without any S3 server."""
PATIENCE = 120 + 2 * ROUNDS
"""Seconds for a command: each kill leaves a log of its own, and all of them are read."""
SLOW = "/v1/slow"
NOT_YET = {"record_not_shipped", "line_not_shipped", "still_connected"}


class BeatingStack(Stack):
    """Logs that say each second that they live, so that nobody waits a minute for what Envoy counted."""

    def _configuration(self, keys: Path, upstream: str) -> dict[str, Any]:
        told = super()._configuration(keys, upstream)
        told["audit"]["heartbeat_seconds"] = 1
        return told


@contextmanager
def beating_gateway(folder: Path, upstream: Upstream, workers: int = 2) -> Iterator[Gateway]:
    loop = LoopThread()
    try:
        loop.run(upstream.start())
        connection = {"operations": operations(CHAT, SLOW)}
        url = f"http://127.0.0.1:{upstream.port}"
        stack = BeatingStack(folder, StackOptions(upstream=url, workers=workers, connection=connection))
        stack.start()
        try:
            yield Gateway(stack, upstream, stack.token("ada", ["analysts"]))
        finally:
            stack.stop()
    finally:
        loop.run(upstream.stop())
        loop.stop()


@pytest.fixture(scope="module")
def beating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    upstream = Upstream({CHAT: (plain(ANSWER),), SLOW: (Pause(20.0), plain(ANSWER))})
    with beating_gateway(tmp_path_factory.mktemp("whole"), upstream) as made:
        yield made


def affidavit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ext_proc", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def reconcile(gateway: Gateway, since: str, *more: str) -> tuple[int, dict[str, Any]]:
    done = affidavit("reconcile", "--config", str(gateway.stack.config), "--since", since, "--json", *more)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def settled(gateway: Gateway, since: str, wanted: Callable[[dict[str, int]], bool] = lambda _: True) -> dict[str, Any]:
    """Reconcile once everything has arrived: nothing is on its way any more."""
    marker = gateway.chat("the last one")
    assert marker.status == 200
    exchange_id = marker.header("x-affidavit-exchange")
    gateway.outcome(marker)
    deadline = time.monotonic() + 60 + 2 * PATIENCE
    while True:
        time.sleep(2)
        status, told = reconcile(gateway, since)
        found = classes(told)
        is_here = exchange_id not in {one["request_id"] for one in told["explained"] if one["class"] in NOT_YET}
        if is_here and not NOT_YET & set(found) and wanted(found):
            assert (status == 0) == told["ok"] == (not told["orphans"] and not told["incidents"])
            return told
        assert time.monotonic() < deadline, told
        gateway.chat("time goes on")


def classes(told: dict[str, Any]) -> dict[str, int]:
    return {one["class"]: one["count"] for one in told["classes"]}


def now() -> str:
    return datetime.now(UTC).isoformat()


def begun(gateway: Gateway, path: str = SLOW, *, cut: int = 0) -> socket.socket:
    """A request that was sent, whole or without its end, and not answered."""
    body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "hello"}]}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: gateway.test\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {gateway.analyst}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    raw = head.encode() + body
    caller = socket.create_connection(("127.0.0.1", gateway.stack.ports["http"]), timeout=20)
    caller.sendall(raw[: len(raw) - cut])
    return caller


def begun_and_let_on(gateway: Gateway) -> socket.socket:
    """A request that is with the upstream."""
    assert gateway.upstream is not None
    received = gateway.upstream.received
    before = len(received)
    caller = begun(gateway)
    gateway.wait_for(lambda: any(one.path == SLOW for one in received[before:]), "it did not get there")
    return caller


def verify(gateway: Gateway) -> dict[str, Any]:
    """What the auditor's own program finds in the bucket."""
    s3 = gateway.stack.s3
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_REGION": s3.region,
    }
    command = [sys.executable, "-m", "ext_proc", "verify", f"s3://{s3.bucket}/", "--json", "--policy"]
    done = subprocess.run(
        [*command, str(gateway.stack.auditor_policy)],
        capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


# What happens in an honest gateway ------------------------------------------------------------------------------------


def test_whatever_callers_do_is_accounted_for(beating):
    since = now()
    for _ in range(3):
        assert beating.chat().status == 200
    assert beating.chat(token="a.b.c").status == 401
    assert beating.chat(token=beating.stack.token("bob", ["nobody"])).status == 403
    assert beating.send("GET", "/elsewhere").status == 404
    beating.raw(b"\x00\x01garbage\r\n\r\n")
    beating.raw(b"GET / HTTP/1.1\r\nhost: a\r\nx-long: " + b"a" * 3_000_000 + b"\r\n\r\n")
    beating.raw(b"GET /v1/models HTTP/1.0\r\nhost: a\r\n\r\n")
    assert beating.raw(b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n").status == 400  # no Host
    assert beating.raw(b"GET /v1/a%2fb HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").status == 400
    assert beating.raw(b"OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").status == 404
    for cut in (0, 5):  # left while the model thinks, and in the middle of its own words
        caller = begun(beating, cut=cut)
        time.sleep(0.5)
        caller.close()
    told = settled(beating, since)
    assert told["ok"], told
    assert told["envoy"] == told["audited"]
    found = classes(told)
    assert set(found) == {"reconciled"}
    outcomes = [leaf for leaf in beating.leaves() if leaf["kind"] == "inference.outcome"]
    replies = {one["upstream"]["code_details"] for one in outcomes if one["outcome"]["status"] == "local_reply"}
    assert {"http1.codec_error", "http1.headers_too_large", "low_version"} <= replies, "the codec's refusals too"
    assert refusals(beating) == [], "each has a record of the gate's: the command need not write one"


def refusals(gateway: Gateway) -> list[dict[str, Any]]:
    return [leaf for leaf in gateway.leaves() if leaf["kind"] == "inference.refused_by_envoy"]


def test_workers_that_die_are_explained(beating):
    since = now()
    caller = begun_and_let_on(beating)
    for pid in running_workers(beating).values():
        os.kill(pid, signal.SIGKILL)
    told_to_caller = caller.recv(4096)
    assert b" 50" in told_to_caller[:20]
    caller.close()
    [request_id] = re.findall(rb"\r\nx-request-id: (\S+)\r\n", told_to_caller)
    assert beating.chat().status == 503
    beating.wait_for(lambda: len(running_workers(beating)) == 2, "no worker comes back", 60)
    beating.wait_for(lambda: beating.chat().status == 200, "not served")
    told = settled(beating, since)
    found = classes(told)
    assert told["ok"], told
    assert found["gate_unavailable"] >= 1
    [its] = [one for one in told["explained"] if one["request_id"] == request_id.decode()]
    assert its["class"] == "phase_failed"
    assert its["explanation"].endswith("its own outcome says so: interrupted.")
    [(_, outcome)] = beating.records(request_id.decode(), "inference.outcome")
    assert outcome["outcome"]["code"] == "worker_died"


def until_counted(gateway: Gateway) -> None:
    """What Envoy has counted so far is on record."""
    said = ask_envoy(load(gateway.stack.config)[0].listen.admin, stats_path("^http.gate.downstream_rq_total$"))
    [counted] = read_stats(said).values()
    gateway.wait_for(
        lambda: any((leaf.get("envoy_requests") or 0) >= counted for leaf in gateway.leaves()), "it is not counted", 90
    )


def test_an_envoy_that_dies_is_explained(beating):
    since = now()
    assert beating.chat().status == 200
    until_counted(beating)
    lines = beating.stack.access_log.read_text
    before = lines().count('"DownstreamStart"')
    caller = begun_and_let_on(beating)
    beating.wait_for(lambda: lines().count('"DownstreamStart"') > before, "Envoy does not write that it has begun")
    envoy = beating.stack.programs["envoy"].process
    envoy.kill()
    envoy.wait()
    caller.close()
    time.sleep(1.5)
    beating.stack.start_envoy()
    told = settled(beating, since)
    assert told["ok"], told
    assert classes(told)["envoy_restarted"] == 1


# What an attacker does ------------------------------------------------------------------------------------------------


@contextmanager
def side_envoy(gateway: Gateway, name: str, change: Callable[[dict[str, Any]], None]) -> Iterator[int]:
    """Another Envoy that writes into the same access log, with a changed configuration. Its port."""
    folder = gateway.stack.folder / "run" / "envoy"
    told = yaml.safe_load((folder / "bootstrap.yaml").read_text())
    port, admin = free_ports(2)
    told["admin"]["address"]["socket_address"]["port_value"] = admin
    [listener] = [one for one in told["static_resources"]["listeners"] if one["name"] == "http"]
    listener["address"]["socket_address"]["port_value"] = port
    told["static_resources"]["listeners"] = [listener]
    change(told)
    path = folder.parent / f"{name}.yaml"
    path.write_text(yaml.safe_dump(told))
    envoy = start_envoy(path, f"http://127.0.0.1:{admin}", gateway.stack.logs, concurrency=1)
    try:
        yield port
    finally:
        envoy.stop()


def chat_at(gateway: Gateway, port: int) -> int:
    body = b'{"model":"demo","messages":[{"role":"user","content":"hello"}]}'
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {gateway.analyst}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return call(port, head.encode() + body).status


def test_a_request_around_the_gate_is_an_incident(beating):
    def open_the_gate(told: dict[str, Any]) -> None:
        [chain] = told["static_resources"]["listeners"][0]["filter_chains"]
        manager = chain["filters"][0]["typed_config"]
        manager["http_filters"] = manager["http_filters"][-1:]

    since = now()
    with side_envoy(beating, "around", open_the_gate) as port:
        assert chat_at(beating, port) == 200
    told = settled(beating, since, lambda found: "bypass" in found)
    assert not told["ok"]
    assert classes(told)["bypass"] == 1
    assert told["orphans"] == 1
    assert told["envoy"] == told["audited"] + 1


def test_a_gate_that_closes_in_peace_is_an_incident(beating, tmp_path):
    socket_path = tmp_path / "s.sock"
    loop, stub = LoopThread(), Stub(scripts={"": {"request_body": Fault.CLOSE}})

    def ask_the_stub(told: dict[str, Any]) -> None:
        [cluster] = told["static_resources"]["clusters"]
        endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket_path)}}}}
        cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [endpoint]}]

    since = now()
    loop.run(stub.start(socket_path))
    try:
        with side_envoy(beating, "peace", ask_the_stub) as port:
            beating.wait_for(lambda: chat_at(beating, port) == 503, "the gate behind did not refuse")
    finally:
        loop.run(stub.stop())
        loop.stop()
    told = settled(beating, since, lambda found: "phase_failed" in found)
    assert not told["ok"]
    assert [gap["code"] for gap in told["gaps"] if gap["code"] != "counter_mismatch"] == ["phase_failed"]


def test_lines_that_were_taken_out_are_missed(beating):
    shipper = beating.stack.pids()["shipper"]
    since = now()
    assert beating.chat().status == 200
    time.sleep(2)
    path = beating.stack.access_log
    os.kill(shipper, signal.SIGSTOP)
    try:
        time.sleep(0.5)
        before = path.stat().st_size
        hidden = beating.chat("hide me")
        beating.wait_for(lambda: path.read_text().count("DownstreamEnd", before) == 1, "no line")
        os.truncate(path, before)
    finally:
        os.kill(shipper, signal.SIGCONT)
    told = settled(beating, since, lambda found: "line_missing" in found)
    assert not told["ok"]
    assert [gap["object"] for gap in told["gaps"] if gap["code"] == "line_missing"] == [
        hidden.header("x-affidavit-exchange")
    ]


def test_the_auditor_accepts_what_was_stored(beating):
    """Statements, refusals and all: nothing that the command leaves is a finding."""
    before = set(beating.store.keys("v1/reconcile/"))
    assert before
    beating.wait_for(lambda: is_told(beating, before), "a statement is not on record")
    found = verify(beating)
    assert found["ok"], found["findings"]


def is_told(gateway: Gateway, keys: set[str]) -> bool:
    told = {leaf["statement_sha256"][:16] for leaf in gateway.leaves() if leaf["kind"] == "reconcile.result"}
    return {key.rpartition("/")[2].partition(".")[0] for key in keys} <= told


# Must show 4 ----------------------------------------------------------------------------------------------------------


def store_hangs(gateway: Gateway, over: threading.Event) -> None:
    """The S3 server stands still for a while: nothing is refused, nothing is answered."""
    pid = gateway.stack.programs["seaweedfs"].pid
    os.kill(pid, signal.SIGSTOP)
    over.wait(10)
    os.kill(pid, signal.SIGCONT)


def restarted(store: Program, logs: Path) -> Program:
    """The S3 server again, as it was started, with its data."""
    return start(store.name, store.process.args, logs, patience_seconds=store.patience_seconds)  # type: ignore[arg-type]


def left_while_the_workers_stand_still(gateway: Gateway, seconds: float) -> dict[str, int]:
    """Thirty callers come and leave at once; the classes of all requests since, once there are no more."""
    since = now()
    workers = running_workers(gateway).values()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        callers = [begun(gateway) for _ in range(30)]
        time.sleep(0.5)
        for caller in callers:
            caller.close()
        time.sleep(seconds)
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    gateway.wait_for(lambda: gateway.chat().status == 200, "not served")
    told = settled(gateway, since)
    assert told["ok"], told
    assert told["envoy"] == told["audited"]
    return classes(told)


def test_callers_who_leave_before_a_busy_gate_hears_of_them(tmp_path):
    """For 10 seconds Envoy keeps the call of the gate for it, and then takes it back. In a gateway of its own: its logs
    show that nothing gave a sign of life meanwhile.
    """
    with beating_gateway(tmp_path, Upstream({CHAT: (plain(ANSWER),), SLOW: (plain(ANSWER),)})) as gateway:
        found = left_while_the_workers_stand_still(gateway, 4)
        assert set(found) - {"gate_unavailable"} == {"reconciled"}
        by_command = found.get("gate_unavailable", 0)
        found = left_while_the_workers_stand_still(gateway, 12)
        assert set(found) - {"gate_unavailable"} == {"reconciled", "left_unheard"}
        by_command += found["left_unheard"] + found.get("gate_unavailable", 0)
        gateway.wait_for(lambda: len(refusals(gateway)) == by_command, "each has a leaf of its own", 90)


@pytest.mark.timeout(420 + 10 * ROUNDS)
def test_killed_workers_and_a_store_that_is_away_leave_no_orphan(tmp_path):
    upstream = Upstream({CHAT: (Pause(0.01), plain(ANSWER)), SLOW: (plain(ANSWER),)})
    with beating_gateway(tmp_path, upstream, WORKERS) as gateway:
        since = now()
        assert gateway.chat("hello").status == 200
        load = Load(gateway)
        over = threading.Event()
        hanging = threading.Thread(target=store_hangs, args=(gateway, over))
        store = gateway.stack.programs["seaweedfs"]
        load.start()
        started = time.monotonic()
        try:
            killed = kill_rounds(gateway, load, ROUNDS // 3)
            hanging.start()
            killed += kill_rounds(gateway, load, ROUNDS // 3)
            hanging.join()
            store.stop()
            killed += kill_rounds(gateway, load, AWAY)
            # Started by this thread: a program ends with the thread that started it.
            gateway.stack.programs["seaweedfs"] = restarted(store, gateway.stack.logs)
            killed += kill_rounds(gateway, load, ROUNDS - 2 * (ROUNDS // 3) - AWAY)
        finally:
            over.set()
            load.end()
        seconds = time.monotonic() - started
        gateway.wait_for(lambda: len(running_workers(gateway)) == WORKERS, "a worker did not come back", 120)
        evidence = gateway.stack.folder / "state" / "evidence"
        gateway.wait_for(lambda: not list(evidence.glob("*/*.sealed")), "evidence is still on the disk", 180 + ROUNDS)
        told = settled(gateway, since)
        objects = len(list(gateway.store.keys(ACCESS)))
        states = read_states(gateway.stack.folder / "run")
    figures = {name: told[name] for name in ("envoy", "audited", "orphans", "incidents")}
    print(f"\n{killed} kills in {seconds:.0f} s, {load.asked} requests {dict(load.statuses)}, {objects} access objects")
    print(f"{figures} {dict(Counter(classes(told)))}")
    assert killed == ROUNDS
    assert load.statuses["200"] >= SERVED_BETWEEN * ROUNDS
    assert told["envoy"] >= load.asked
    assert told["orphans"] == 0, told["gaps"]
    assert told["incidents"] == 0, told["gaps"]
    assert told["envoy"] == told["audited"]
    assert not any(one.get("failures") for one in states.values())
