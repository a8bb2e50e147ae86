"""What fails, fails closed, is on record, and loses nothing (envoy.md 1.5 and 1.6, with the real gate)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ext_proc.demo import servers
from ext_proc.demo.programs import tool
from ext_proc.policy import bundle
from tests.e2e.conftest import CHAT, PLANTED, Gateway, operations, running_gateway
from tests.e2e.upstream import Pause, Reset, Upstream, plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANSWER = json.dumps({"choices": [{"message": {"role": "assistant", "content": f"write to {PLANTED}"}}]}).encode()
WORKERS = 3


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway of this module's own: things are broken here."""
    slow = (plain(ANSWER)[: -len(ANSWER)], Pause(20.0), ANSWER)
    upstream = Upstream({"/v1/slow": slow, "/v1/gone": (Reset(),)}, default=(plain(ANSWER),))
    folder = tmp_path_factory.mktemp("faults")
    with running_gateway(
        folder, upstream, workers=WORKERS, operations=operations(CHAT, "/v1/slow", "/v1/gone")
    ) as made:
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


def test_upstream_that_does_not_answer(mine: Gateway) -> None:
    """It takes the call and breaks off without a word: the gate is asked about Envoy's own 503, and has it on record."""
    reply = mine.chat("hello", path="/v1/gone")
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (503, "upstream_unavailable")
    kinds = ("inference.intent", "inference.outcome")
    exchange_id = _exchange_at(mine, "/v1/gone")
    (_, intent), (_, outcome) = mine.records(exchange_id, *kinds)
    assert outcome["intent_sequence"] == intent["sequence"]
    assert outcome["outcome"]["status"] != "completed"
    assert outcome["outcome"]["http_status"] == 503


def _exchange_at(gateway: Gateway, path: str) -> str:
    assert gateway.upstream is not None
    return gateway.upstream.seen(path)[-1].header("x-request-id") or ""


def _connect(gateway: Gateway, connection: dict[str, Any]) -> None:
    """Add a connection like the first one, without a restart."""
    config = yaml.safe_load(gateway.stack.config.read_text())
    config["connections"].append({**config["connections"][0], **connection})
    gateway.stack.config.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "ext_proc", "reload", "--config", str(gateway.stack.config)]
    assert subprocess.run(command, check=False, timeout=60, stdout=subprocess.DEVNULL).returncode == 0


def _permit(gateway: Gateway, folder: Path, operation: str) -> None:
    """Another policy: analysts may do this operation, which names no model."""
    sources = folder / "opa"
    shutil.copytree(servers.POLICY_SOURCES, sources)
    data = json.loads((sources / "data.json").read_text())
    data["inference"]["without_model"][operation] = {"groups": ["analysts"]}
    (sources / "data.json").write_text(json.dumps(data))
    bundle.build(tool("opa"), sources, gateway.stack.folder / "bundle.tar.gz")
    gateway.stack.programs["opa"].stop()
    gateway.stack.start_opa()


def test_upgrade_where_the_connection_allows_it(mine: Gateway, tmp_path: Path) -> None:
    """Authenticated, decided by policy and on record as uninspected; refused like everything else without a token."""
    upgrades = [{"method": "GET", "path": "/up/socket", "protocol": "opaque"}]
    _connect(mine, {"name": "up", "path_prefix": "/up/", "operations": upgrades, "unsafe_allow_upgrade": True})

    def upgrade(token: str) -> bytes:
        head = f"GET /up/socket HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nconnection: upgrade\r\n"
        more = "upgrade: websocket\r\nsec-websocket-key: abc\r\nsec-websocket-version: 13\r\n\r\n"
        received = b""
        with socket.create_connection(("127.0.0.1", mine.stack.ports["http"]), timeout=30) as caller:
            caller.sendall((head + more).encode())
            while b"hello from behind" not in received and (data := caller.recv(4096)):
                received += data
                if b" 401 " in received:
                    break
        return received

    mine.wait_for(lambda: upgrade("nonsense").startswith(b"HTTP/1.1 401"), "an upgrade without a token is not refused")
    assert mine.upstream is not None
    assert mine.upstream.seen("/up/socket") == []
    assert upgrade(mine.analyst).startswith(b"HTTP/1.1 403")  # the default policy permits none
    assert mine.upstream.seen("/up/socket") == []
    _permit(mine, tmp_path, "opaque")
    mine.wait_for(lambda: upgrade(mine.analyst).startswith(b"HTTP/1.1 101"), "an upgrade that is permitted is refused")
    (_, intent), (_, outcome) = mine.records(
        _exchange_at(mine, "/up/socket"), "inference.intent", "inference.outcome", seconds=60
    )
    assert outcome["intent_sequence"] == intent["sequence"]
    assert outcome["outcome"]["is_inspected"] is False  # L7: the record does not claim what was not done


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
    before = mine.stack.pids()
    assert mine.chat(path="/second/chat").status == 404
    _connect(mine, {"name": "second", "path_prefix": "/second/", "operations": operations("/second/chat")})
    mine.wait_for(lambda: mine.chat(path="/second/chat").status == 200, "the new connection does not work")
    assert mine.stack.pids() == before
    mine.wait_for(lambda: [x for x in mine.leaves() if x["kind"] == "config.changed"], "the change is not on record")
