"""What fails, fails closed, is on record, and loses nothing (envoy.md 1.5 and 1.6, with the real gate)."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import CHAT, PLANTED, Gateway, operations, running_gateway
from tests.e2e.upstream import Pause, Upstream, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER = json.dumps({"choices": [{"message": {"role": "assistant", "content": f"write to {PLANTED}"}}]}).encode()
ROUNDS = int(os.environ.get("AFFIDAVIT_KILL_ROUNDS", "200"))


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway of this module's own: things are broken here."""
    slow = (plain(ANSWER)[: -len(ANSWER)], Pause(3.0), ANSWER)
    upstream = Upstream({"/v1/slow": slow}, default=(plain(ANSWER),))
    with running_gateway(tmp_path_factory.mktemp("faults"), upstream, operations=operations(CHAT, "/v1/slow")) as made:
        yield made


def _open(gateway: Gateway, path: str, text: str) -> socket.socket:
    """Send a request and do not wait for its answer."""
    body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": text}]}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {gateway.analyst}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    caller = socket.create_connection(("127.0.0.1", gateway.stack.ports["http"]), timeout=60)
    caller.sendall(head.encode() + body)
    return caller


def _upstream_saw(gateway: Gateway, text: str) -> bool:
    assert gateway.upstream is not None
    return any(text.encode() in request.body for request in gateway.upstream.received)


def _outcomes(gateway: Gateway, exchange_id: str) -> list[str]:
    return [
        leaf["outcome"]["status"]
        for leaf in gateway.leaves()
        if leaf["kind"] == "inference.outcome" and leaf["exchange_id"] == exchange_id
    ]


def _exchange_of(gateway: Gateway, text: str) -> str:
    assert gateway.upstream is not None
    [seen] = [request for request in gateway.upstream.received if text.encode() in request.body]
    return seen.header("x-request-id") or ""


def test_caller_who_leaves_is_on_record(mine: Gateway) -> None:
    word = uuid.uuid4().hex
    caller = _open(mine, "/v1/slow", word)
    mine.wait_for(lambda: _upstream_saw(mine, word), "the call did not get through")
    caller.close()
    exchange_id = _exchange_of(mine, word)
    assert mine.wait_for(lambda: _outcomes(mine, exchange_id), "no outcome") == ["abandoned"]


def test_opa_down_and_back(mine: Gateway) -> None:
    mine.stack.programs["opa"].stop()
    try:
        reply = mine.chat("while OPA is down")
        assert reply.status == 503
        assert json.loads(reply.body)["error"]["code"] == "policy_unavailable"
        assert reply.header("retry-after")
        assert not _upstream_saw(mine, "while OPA is down")
        assert mine.outcome(reply)["outcome"]["code"] == "policy_unavailable"
    finally:
        mine.stack.start_opa()
    assert mine.wait_for(lambda: mine.chat("OPA is back").status == 200, "OPA is back, but calls are refused")


def test_opa_that_hangs(mine: Gateway) -> None:
    opa = mine.stack.programs["opa"]
    os.kill(opa.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        reply = mine.chat("while OPA hangs")
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (503, "policy_unavailable")
        assert time.monotonic() - started < 10
        assert not _upstream_saw(mine, "while OPA hangs")
    finally:
        os.kill(opa.pid, signal.SIGCONT)


def test_credential_file_gone(mine: Gateway) -> None:
    path = mine.stack.folder / "keys" / "upstream-credential"
    content = path.read_text()
    path.unlink()
    try:
        time.sleep(1.2)  # a changed file counts after a second
        reply = mine.chat("without credential")
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (503, "credential_unavailable")
        assert not _upstream_saw(mine, "without credential")
    finally:
        path.write_text(content)
        path.chmod(0o600)
    time.sleep(1.2)


def test_upstream_gone(mine: Gateway) -> None:
    assert mine.upstream is not None
    mine.upstream.answers["/v1/gone"] = ()  # type: ignore[index]  # accepts, and closes without a word
    reply = mine.chat("hello", path=CHAT)
    assert reply.status == 200


def test_envoy_restart_in_mid_call(mine: Gateway) -> None:
    word = uuid.uuid4().hex
    caller = _open(mine, "/v1/slow", word)
    mine.wait_for(lambda: _upstream_saw(mine, word), "the call did not get through")
    exchange_id = _exchange_of(mine, word)
    envoy = mine.stack.programs["envoy"]
    os.kill(envoy.pid, signal.SIGKILL)
    envoy.process.wait()
    caller.close()
    mine.stack.start_envoy()
    assert mine.wait_for(lambda: _outcomes(mine, exchange_id), "no outcome") == ["abandoned"]
    assert mine.wait_for(lambda: mine.chat("Envoy is back").status == 200, "calls are refused after the restart")


def test_store_down_and_back(mine: Gateway) -> None:
    """S3 stops: calls go on, evidence waits on the disk, and is all there when S3 is back."""
    server = mine.stack.programs["seaweedfs"]
    os.kill(server.pid, signal.SIGSTOP)
    try:
        replies = [mine.chat(f"while S3 is down {number}") for number in range(5)]
        time.sleep(2.5)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert [reply.status for reply in replies] == [200] * 5
    for reply in replies:
        kinds = ("inference.intent", "inference.outcome")
        assert len(mine.records(reply.header("x-affidavit-exchange") or "", *kinds, seconds=90)) == 2


def test_gateway_cannot_get_rid_of_its_evidence(mine: Gateway) -> None:
    """Must show 7, with the gateway's own credentials."""
    from botocore.exceptions import ClientError

    reply = mine.chat("locked")
    [(key, leaf)] = mine.records(reply.header("x-affidavit-exchange") or "", "inference.outcome")
    client, bucket = mine.stack.s3.client(), mine.stack.s3.bucket
    version = client.list_object_versions(Bucket=bucket, Prefix=key)["Versions"][-1]["VersionId"]
    where = {"Bucket": bucket, "Key": key, "VersionId": version}
    shorter = {"Mode": "COMPLIANCE", "RetainUntilDate": "2026-12-01T00:00:00Z"}
    softer = {"Mode": "GOVERNANCE", "RetainUntilDate": "2030-12-01T00:00:00Z"}
    for attempt in (
        lambda: client.delete_object(**where),
        lambda: client.delete_object(**where, BypassGovernanceRetention=True),
        lambda: client.delete_object(Bucket=bucket, Key=key),
        lambda: client.put_object_retention(**where, Retention=shorter),
        lambda: client.put_object_retention(**where, Retention=softer, BypassGovernanceRetention=True),
        lambda: client.put_object(Bucket=bucket, Key=key, Body=b"x", IfNoneMatch="*"),
        lambda: client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration={}),
        lambda: client.delete_bucket(Bucket=bucket),
    ):
        with pytest.raises(ClientError):
            attempt()
    client.put_object(Bucket=bucket, Key=key, Body=b"nothing happened")  # S3 takes it as another version
    mine._read.clear()
    [(_, again)] = mine.records(reply.header("x-affidavit-exchange") or "", "inference.outcome")
    assert again == leaf


def test_connection_added_without_restart(mine: Gateway) -> None:
    import subprocess
    import sys

    import yaml

    before = mine.stack.pids()
    config = yaml.safe_load(mine.stack.config.read_text())
    first = config["connections"][0]
    config["connections"].append(
        {**first, "name": "second", "path_prefix": "/second/", "operations": operations("/second/chat")}
    )
    mine.stack.config.write_text(yaml.safe_dump(config))
    assert mine.chat(path="/second/chat").status == 404
    command = [sys.executable, "-m", "ext_proc", "reload", "--config", str(mine.stack.config)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    mine.wait_for(lambda: mine.chat(path="/second/chat").status == 200, "the new connection does not work")
    after = mine.stack.pids()
    assert {name: after[name] for name in ("worker-0", "worker-1", "envoy")} == {
        name: before[name] for name in ("worker-0", "worker-1", "envoy")
    }
    mine.wait_for(lambda: [x for x in mine.leaves() if x["kind"] == "config.changed"], "the change is not on record")


@pytest.mark.timeout(1500)
def test_workers_killed_under_load(mine: Gateway) -> None:
    """Must show 6: every answered request has its outcome in the bucket, every forwarded one its intent."""
    assert mine.upstream is not None
    stop = threading.Event()
    answered: list[str] = []
    statuses: dict[int, int] = {}

    def load() -> None:
        while not stop.is_set():
            try:
                reply = mine.chat("under fire")
            except OSError:
                continue
            statuses[reply.status] = statuses.get(reply.status, 0) + 1
            exchange_id = reply.header("x-affidavit-exchange")
            assert PLANTED.encode() not in reply.raw
            if reply.status == 200 and reply.is_whole:
                assert exchange_id
                answered.append(exchange_id)

    callers = [threading.Thread(target=load) for _ in range(3)]
    mark = len(mine.upstream.received)
    for caller in callers:
        caller.start()
    killed = 0
    try:
        while killed < ROUNDS:
            pids = mine.stack.pids()
            name = f"worker-{killed % 2}"
            time.sleep(random.uniform(0.0, 0.15))
            os.kill(pids[name], signal.SIGKILL)
            killed += 1
            mine.wait_for(
                lambda pids=pids, name=name: mine.stack.pids().get(name) not in (None, pids[name]), "no new worker"
            )
    finally:
        stop.set()
        for caller in callers:
            caller.join(60)
    forwarded = {request.header("x-request-id") for request in mine.upstream.received[mark:]}
    assert answered, statuses

    def shipped() -> bool:
        done = {x["exchange_id"] for x in mine.leaves() if x["kind"] == "inference.outcome"}
        return set(answered) <= done and forwarded <= done

    mine.wait_for(shipped, "outcomes are missing in the bucket", seconds=120)
    intents = {leaf["exchange_id"] for leaf in mine.leaves() if leaf["kind"] == "inference.intent"}
    completed = {x["exchange_id"] for x in mine.leaves() if x.get("outcome", {}).get("status") == "completed"}
    assert set(answered) <= completed
    assert forwarded <= intents
    print(f"{killed} kills, {len(answered)} answered, {len(forwarded)} forwarded, statuses {statuses}")
