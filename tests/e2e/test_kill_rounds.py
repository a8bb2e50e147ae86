"""Must show 6: workers are killed under load, and the bucket still tells everything that happened.

Every request that was answered has its outcome in the bucket; every request that reached the upstream has its intent.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.app.process import read_states
from tests.e2e.conftest import CHAT, Gateway, operations, running_gateway
from tests.e2e.upstream import Pause, Upstream, plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROUNDS = int(os.environ.get("AFFIDAVIT_KILL_ROUNDS", "25"))
"""The whole proof is 200 rounds."""
WORKERS = 3
CLIENTS = 6
SERVED_BETWEEN = 5
"""Calls that must go well between two kills."""
ANSWER = json.dumps({"model": "demo-1", "choices": [{"message": {"role": "assistant", "content": "yes"}}]}).encode()


@dataclass
class Load:
    """Clients that ask without pause, and what each of them was told."""

    gateway: Gateway
    stop: threading.Event = field(default_factory=threading.Event)
    answered: dict[str, int] = field(default_factory=dict)
    """Exchange id to status, of every answer of ours that arrived whole."""
    statuses: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        for number in range(CLIENTS):
            thread = threading.Thread(target=self._ask_forever, args=(number,))
            thread.start()
            self._threads.append(thread)

    def end(self) -> None:
        """Let each client finish what it asks."""
        self.stop.set()
        for thread in self._threads:
            thread.join(90)
            assert not thread.is_alive(), "a caller was never answered"

    def _ask_forever(self, number: int) -> None:
        turn = 0
        while not self.stop.is_set():
            turn += 1
            try:
                reply = self.gateway.chat(f"marker-{number}-{turn}-end")
            except OSError:
                reply = None
            with self._lock:
                self.asked += 1
                exchange_id = reply.header("x-affidavit-exchange") if reply else None
                self.statuses[str(reply.status) if reply else "broken"] += 1
                if reply and reply.is_whole and exchange_id:
                    self.answered[exchange_id] = reply.status
            if reply is None or reply.status != 200:
                time.sleep(0.02)


def enough(ready: dict[str, int]) -> dict[str, int] | None:
    """One to kill and one that serves on."""
    return ready if len(ready) >= 2 else None


def running_workers(gateway: Gateway) -> dict[str, int]:
    """Workers that live and are ready, by name."""
    found = {}
    for name, state in read_states(gateway.stack.folder / "run").items():
        if name.startswith("worker") and state["is_ready"] and _lives(state["pid"]):
            found[name] = state["pid"]
    return found


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
        return stat.read().rpartition(")")[2].split()[0] != "Z"


def kill_rounds(gateway: Gateway, load: Load, rounds: int) -> int:
    """SIGKILL to a worker that serves, again and again; another always serves on. How many were killed?"""
    chance = random.Random(3)
    killed_at = dict.fromkeys((f"worker-{index}" for index in range(WORKERS)), time.monotonic())
    killed = 0
    while killed < rounds:
        if not killed % 100:  # a thousand rounds may take longer than a token lives
            gateway.analyst = gateway.stack.token("ada", ["analysts"])
        before = load.statuses["200"]

        def is_served(before: int = before) -> bool:
            return load.statuses["200"] >= before + SERVED_BETWEEN

        gateway.wait_for(is_served, "the gateway does not answer any more", 60)
        ready = gateway.wait_for(lambda: enough(running_workers(gateway)), "no worker comes back", 60)
        # The one that lived longest: a process that lived two seconds is started again at once.
        name = min(ready, key=lambda one: killed_at[one])
        time.sleep(max(0.0, 2.2 - (time.monotonic() - killed_at[name])) + chance.random() * 0.1)
        try:
            os.kill(ready[name], signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed_at[name] = time.monotonic()
        killed += 1
    return killed


@pytest.mark.timeout(300 + 15 * ROUNDS)
def test_killed_workers_lose_nothing(tmp_path: Path):
    upstream = Upstream({CHAT: (Pause(0.01), plain(ANSWER))})
    with running_gateway(tmp_path, upstream, workers=WORKERS, operations=operations(CHAT)) as gateway:
        hello = gateway.chat("hello")
        assert hello.status == 200
        load = Load(gateway)
        started = time.monotonic()
        load.start()
        try:
            killed = kill_rounds(gateway, load, ROUNDS)
        finally:
            load.end()
        seconds = time.monotonic() - started
        gateway.wait_for(lambda: len(running_workers(gateway)) == WORKERS, "a worker did not come back", 60)
        reached = reached_upstream(upstream)
        wait_until_shipped(gateway)
        leaves = gateway.leaves()
        payload_of = payloads_by_exchange(gateway)
        not_whole = [one for one in read_states(gateway.stack.folder / "run").values() if one.get("failures")]
    kinds = Counter(leaf["kind"] for leaf in leaves)
    intents = {leaf["exchange_id"] for leaf in leaves if leaf["kind"] == "inference.intent"}
    outcomes = Counter(leaf["exchange_id"] for leaf in leaves if leaf["kind"] == "inference.outcome")
    interrupted = sum(
        leaf["outcome"]["status"] == "interrupted" for leaf in leaves if leaf["kind"] == "inference.outcome"
    )
    print(
        f"\n{killed} kills in {seconds:.0f} s, {load.asked} requests {dict(load.statuses)}, {len(reached)} reached the"
        f" upstream, {len(load.answered)} answered with an exchange; records {dict(kinds)}, {interrupted} interrupted"
    )
    assert killed == ROUNDS
    assert load.statuses["200"] >= SERVED_BETWEEN * ROUNDS, "there was load"
    assert kinds["log.recovered"] >= ROUNDS, "each kill ended a log, and each end is told"
    assert not_whole == []

    # Every request that was answered has its outcome, and it is the one that the caller saw.
    assert [one for one in load.answered if one not in outcomes] == []
    said = {leaf["exchange_id"]: leaf["outcome"] for leaf in leaves if leaf["kind"] == "inference.outcome"}
    told_200 = [one for one, status in load.answered.items() if status == 200]
    assert [one for one in told_200 if said[one]["http_status"] != 200] == []
    # Every request that reached the upstream has its intent.
    with_intent = {marker for exchange_id, marker in payload_of.items() if exchange_id in intents}
    assert sorted(reached - with_intent) == []
    # No record says more than happened (L7): what is said to be released was received, or recovery doubts it.
    doubted = {leaf["exchange_id"] for leaf in leaves if leaf["kind"] == "inference.undelivered"}
    released = {one for one, outcome in said.items() if outcome["status"] == "completed"} - doubted
    alone = {hello.header("x-affidavit-exchange")}  # before and after the load
    assert len(released - set(told_200) - alone) <= 1, "the last one, which was asked for when all was shipped"
    # And every exchange that began has exactly one end.
    assert sorted(intents - set(outcomes)) == []
    assert [one for one, count in outcomes.items() if count != 1] == []
    logs: dict[str, list[int]] = {}
    for leaf in leaves:
        logs.setdefault(leaf["origin"], []).append(leaf["sequence"])
    assert [origin for origin, numbers in logs.items() if sorted(numbers) != list(range(len(numbers)))] == []


def marker_in(body: bytes) -> str | None:
    """The marker that a client put into its request."""
    _, _, rest = body.partition(b"marker-")
    marker, end, _ = rest.partition(b"-end")
    return marker.decode() if end else None


def reached_upstream(upstream: Upstream) -> set[str]:
    """Markers of all requests that got there."""
    return {marker for request in list(upstream.received) if (marker := marker_in(request.body))}


def wait_until_shipped(gateway: Gateway) -> None:
    """Until nothing that belongs to a killed worker is on the disk, and what is live was sealed twice over.

    Asks once more for that: the last exchange in the bucket.
    """
    evidence = gateway.stack.folder / "state" / "evidence"
    marker = gateway.chat("the last one")
    assert marker.status == 200

    def is_shipped() -> bool:
        logs = [path for path in evidence.iterdir() if path.is_dir()]  # the shipper has one of its own
        return len(logs) == WORKERS + 1 and not list(evidence.glob("*/*.sealed"))

    try:
        gateway.wait_for(is_shipped, "evidence is still on the disk", 120)
    except AssertionError as late:
        left = sorted(str(path.relative_to(evidence)) for path in evidence.glob("*/*"))
        told = read_states(gateway.stack.folder / "run").get("shipper")
        raise AssertionError(f"{late}: {left}; the shipper says {told}") from None
    gateway.outcome(marker)


def payloads_by_exchange(gateway: Gateway) -> dict[str, str]:
    """The marker in each intent's own payload: what the gateway says was asked."""
    from ext_proc.app import registry
    from ext_proc.audit.seal import read_pack
    from ext_proc.audit.writer import binding_of
    from ext_proc.config import load

    keys = registry.keyring(load(gateway.stack.config)[0])
    wanted: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for leaf in gateway.leaves():
        if leaf["kind"] == "inference.intent":
            for told in leaf["payloads"]:
                wanted[told["ciphertext_sha256"]] = (leaf, told)
    found: dict[str, str] = {}
    decrypt: Callable[..., bytes] = keys.decrypt
    for pack in gateway.store.keys("v1/payload/"):
        for digest, ciphertext in read_pack(gateway.store.fetch(pack)):
            if digest in wanted:
                leaf, told = wanted[digest]
                marker = marker_in(decrypt(told, ciphertext, binding_of(leaf["origin"], leaf["exchange_id"])))
                if marker:
                    found[leaf["exchange_id"]] = marker
    return found
