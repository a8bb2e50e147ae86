"""Two replicas, each with an Envoy of its own, on one PostgreSQL: what is held at one is approved at the other."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ext_proc.app import registry
from ext_proc.app.approval.approvals import Approvals, Objection
from ext_proc.app.logs import Journal
from ext_proc.app.process import clock
from ext_proc.config import load
from ext_proc.demo import servers
from ext_proc.demo.programs import free_ports
from ext_proc.demo.stack import Stack, StackOptions
from ext_proc.model import HoldState
from tests.contract.postgres import running_postgres
from tests.e2e.conftest import CHAT, Gateway
from tests.e2e.harness import LoopThread
from tests.e2e.test_holds import ANSWER, Desk, sent
from tests.e2e.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from tests.contract.postgres import Postgres
    from tests.e2e.harness import Reply


class First(Stack):
    """With its registry in PostgreSQL."""

    registry_url = ""

    def _configuration(self, keys: Path, upstream: str) -> dict[str, Any]:
        told = super()._configuration(keys, upstream)
        told["audit"]["registry_url"] = self.registry_url
        return told


class Second(Stack):
    """Another gate and another Envoy, over the first one's store, issuer, policy, keys and registry."""

    def __init__(self, folder: Path, first: Stack) -> None:
        super().__init__(folder, StackOptions())
        self._first = first

    def _start(self) -> None:
        first = self._first
        self.s3, self.issuer, self.credential = first.s3, first.issuer, first.credential
        names = ("http", "tls", "admin", "metrics", "console")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        told = yaml.safe_load(first.config.read_text())
        told["run_dir"], told["state_dir"] = str(self.folder / "run"), str(self.folder / "state")
        (self.folder / "state").mkdir(mode=0o700)
        told["metrics"] = f"127.0.0.1:{self.ports['metrics']}"
        told["listen"]["http"] = f"127.0.0.1:{self.ports['http']}"
        told["listen"]["admin"] = f"127.0.0.1:{self.ports['admin']}"
        told["listen"]["tls"]["address"] = f"127.0.0.1:{self.ports['tls']}"
        told["audit"]["replica"] = "gw-1"
        self.config.write_text(yaml.safe_dump(told, sort_keys=False))
        self.programs["supervisor"] = servers.start_gate(self.config, self.ports["metrics"], self.logs)
        self.start_envoy()


class House:
    """Both, and the people."""

    def __init__(self, one: Desk, other: Desk, postgres: Postgres) -> None:
        self.one = one
        self.other = other
        self.postgres = postgres

    def ask(self, at: Desk, text: str, **headers: str) -> Future[Reply]:
        """The same caller, with the same token, at either."""
        body = {"model": "demo-restricted", "messages": [{"role": "user", "content": text}]}
        return self.one.pool.submit(
            at.gateway.send, "POST", CHAT, json.dumps(body).encode(), self.one.gateway.analyst, **headers
        )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    loop, upstream = LoopThread(), Upstream({CHAT: (ANSWER,)})
    loop.run(upstream.start())
    with running_postgres() as postgres, ThreadPoolExecutor(32) as pool:
        options = StackOptions(upstream=f"http://127.0.0.1:{upstream.port}", workers=1, connection={"hold_seconds": 30})
        first = First(tmp_path_factory.mktemp("one"), options)
        first.registry_url = postgres.url
        second = Second(tmp_path_factory.mktemp("other"), first)
        try:
            first.start()
            second.start()
            with _desk(first, upstream, pool) as one, _desk(second, upstream, pool) as other:
                yield House(one, other, postgres)
        finally:
            second.stop()
            first.stop()
            loop.run(upstream.stop())
            loop.stop()


class _desk:  # noqa: N801 - used as a context manager's function would be
    """The people at one replica."""

    def __init__(self, stack: Stack, upstream: Upstream, pool: ThreadPoolExecutor) -> None:
        config, digest = load(stack.config)
        keyring = registry.keyring(config)
        self._journal = Journal(config, digest, "command", keyring)
        gateway = Gateway(stack, upstream, stack.token("ada", ["analysts"]))
        self._desk = Desk(gateway, Approvals(keyring, registry.register_of_holds(config), self._journal, clock), pool)

    def __enter__(self) -> Desk:
        return self._desk

    def __exit__(self, *_: object) -> None:
        self._journal.close()


def kill_gate(desk: Desk) -> None:
    """All workers of a replica, at once."""
    for name, pid in desk.gateway.stack.pids().items():
        if name.startswith("worker"):
            os.kill(pid, signal.SIGKILL)


def test_held_at_one_and_approved_at_the_other(house: House) -> None:
    before = sent(house.one)
    reply = house.ask(house.one, "first")
    hold = house.other.held("first")
    house.other.yes(hold)
    done = reply.result(20)
    assert done.status == 200
    assert sent(house.one) == before + 1
    [(_, intent)] = house.one.gateway.records(str(done.header("x-affidavit-exchange")), "inference.intent")
    [said] = intent["approval"]["resolutions"]
    assert said["record"]["origin"].split("/")[-2] == "gw-1-command", "the yes is in the other replica's log"


def test_approved_at_one_and_sent_to_the_other(house: House) -> None:
    before = sent(house.one)
    assert house.ask(house.one, "second", prefer="respond-async").result(20).status == 202
    house.one.yes(house.one.held("second"))
    assert house.ask(house.other, "second", prefer="respond-async").result(20).status == 200
    assert house.ask(house.one, "second", prefer="respond-async").result(20).status == 202, "once, wherever"
    assert sent(house.one) == before + 1


def test_many_at_both_and_one_passes(house: House) -> None:
    before = sent(house.one)
    replies = [house.ask(at, "third") for at in (house.one, house.other) for _ in range(5)]
    hold = house.one.held("third")
    house.one.gateway.wait_for(
        lambda: len(house.one.approvals.stands(house.one.bob, hold.hold_id).waiting) == 10, "not all wait"
    )
    house.other.yes(hold)
    assert sorted(one.result(40).status for one in replies) == [200] + [409] * 9
    assert sent(house.one) == before + 1


def test_one_dies_while_it_holds(house: House) -> None:
    """It is abandoned, and goes on at the other; the approval that was given half way still counts."""
    before = sent(house.one)
    reply = house.ask(house.one, "fourth")
    hold = house.other.held("fourth")
    kill_gate(house.one)
    assert reply.result(40).status >= 500
    house.other.gateway.wait_for(lambda: house.other.state(hold) is HoldState.ABANDONED, "not abandoned", 60)
    with pytest.raises(Objection, match="abandoned"):
        house.other.yes(hold)
    again = house.ask(house.other, "fourth")
    assert house.other.held("fourth").hold_id == hold.hold_id
    house.other.yes(hold)
    assert again.result(30).status == 200
    assert sent(house.one) == before + 1


@pytest.mark.parametrize("wait_seconds", [0.0, 0.005, 0.02, 0.05, 0.1, 0.2])
def test_one_dies_just_after_the_yes(house: House, wait_seconds: float) -> None:
    """Killed at any point between the yes and the answer: it passes once or not at all, and if not, it can be sent
    again with the same approval."""
    before, text = sent(house.one), f"fifth {wait_seconds}"
    house.one.gateway.wait_for(
        lambda: house.ask(house.one, "ready?", prefer="respond-async").result(30).status == 202, "down", 60
    )
    reply = house.ask(house.one, text)
    hold = house.other.held(text)
    house.other.yes(hold)
    time.sleep(wait_seconds)
    kill_gate(house.one)
    passed = reply.result(40).status == 200 or sent(house.one) > before
    settled = {HoldState.USED} if passed else {HoldState.APPROVED, HoldState.USED}
    state = house.other.gateway.wait_for(
        lambda: next(iter(settled & {house.other.state(hold)}), None), f"not settled: {house.other.state(hold)}", 60
    )
    again = house.ask(house.other, text, prefer="respond-async").result(30)
    if state is HoldState.APPROVED:
        assert again.status == 200, "the approval was not lost"
        assert sent(house.one) == before + 1
    else:
        assert again.status == 202, "once is once"
        assert sent(house.one) <= before + 1


def test_the_database_dies_while_both_hold(house: House) -> None:
    """Who waits goes on waiting, who comes meanwhile is told so, and nobody is asked twice once it is back."""
    before = sent(house.one)
    places = {"sixth here": house.one, "sixth there": house.other}
    for at in places.values():
        at.gateway.wait_for(
            lambda at=at: house.ask(at, "ready?", prefer="respond-async").result(30).status == 202, "down", 60
        )
    replies = [house.ask(at, text) for text, at in places.items()]
    holds = [house.one.held(text) for text in places]
    house.postgres.stop()
    try:
        for at in places.values():
            told = house.ask(at, "meanwhile").result(30)
            assert told.status == 503 and told.header("x-affidavit-exchange"), told
    finally:
        house.postgres.start()
    for hold in holds:
        house.other.yes(hold)
    assert [one.result(40).status for one in replies] == [200, 200]
    assert sent(house.one) == before + 2
    assert [house.one.state(hold) for hold in holds] == [HoldState.USED] * 2
