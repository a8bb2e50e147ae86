"""A disk that is full: callers get 503 and when to come back, nothing that was acknowledged is lost, and it ends by itself.

The state directory is a small tmpfs of the test's own, so that "full" is what the kernel says and nobody else suffers.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.demo.stack import Stack, StackOptions
from ext_proc.verify import verify
from tests.e2e.conftest import CHAT, Gateway, operations
from tests.e2e.harness import LoopThread
from tests.e2e.upstream import Upstream, plain
from tests.needed import absent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.e2e.harness import Reply

DISK_MIB = 24
KIB = 1024
ANSWER = json.dumps({"choices": [{"message": {"role": "assistant", "content": "fine " * 2000}}]}).encode()
TEXT = "word " * 8000


class SmallDisk(Stack):
    """The state directory is where a test wants it; segments are small."""

    disk: Path

    def _configuration(self, keys: Path, upstream: str) -> dict[str, Any]:
        told = super()._configuration(keys, upstream)
        told["state_dir"] = str(self.disk / "state")
        told["audit"]["wal"] = {"seal_seconds": 1, "segment_bytes": 1024 * KIB, "emergency_bytes": 1024 * KIB}
        return told


@contextmanager
def tmpfs(size_mib: int) -> Iterator[Path]:
    """A disk of this size. It needs the right to mount: without it this fails, and does not pass over."""
    folder = Path(tempfile.mkdtemp(prefix="affidavit-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=700", "tmpfs", folder],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        absent(f"this test mounts a small disk, which needs root: {mounted.stderr}")
    try:
        yield folder
    finally:
        for _ in range(50):
            if subprocess.run(["umount", folder], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    loop = LoopThread()
    upstream = Upstream({}, default=(plain(ANSWER),))
    loop.run(upstream.start())
    limits = {"request_limit_bytes": 256 * KIB, "response_limit_bytes": 256 * KIB}
    options = StackOptions(
        upstream=f"http://127.0.0.1:{upstream.port}", workers=2, connection={"operations": operations(CHAT), **limits}
    )
    stack = SmallDisk(tmp_path_factory.mktemp("full"), options)
    with tmpfs(DISK_MIB) as stack.disk:
        stack.start()
        try:
            yield Gateway(stack, upstream, stack.token("ada", ["analysts"]))
        finally:
            stack.stop()
            loop.run(upstream.stop())
            loop.stop()


class Caller:
    """Asks, and keeps what it was told."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.answered: list[str] = []
        self.refused: dict[str, Reply] = {}

    def ask(self) -> Reply:
        word = uuid.uuid4().hex
        reply = self.gateway.chat(f"{word} {TEXT}")
        if reply.status == 200:
            assert reply.is_whole
            self.answered.append(reply.header("x-affidavit-exchange") or "")
        else:
            self.refused[word] = reply
        return reply

    def until_refused(self, most: int = 2000) -> Reply:
        """Ask until the gate says no several times in a row."""
        last: list[Reply] = []
        for _ in range(most):
            last = [*last[-5:], self.ask()]
            if len(last) == 6 and all(one.status == 503 for one in last):
                return last[-1]
        raise AssertionError("the disk is full, and calls are still taken")

    def until_served(self, seconds: float = 120) -> None:
        """Ask until the gate takes calls again, with no help."""
        deadline = time.monotonic() + seconds
        last: list[Reply] = []
        while not (len(last) == 6 and all(one.status == 200 for one in last)):
            assert time.monotonic() < deadline, f"space is there, and calls are still refused: {last[-1]}"
            last = [*last[-5:], self.ask()]
            if last[-1].status != 200:
                time.sleep(0.25)


def fill(folder: Path) -> Path:
    """Take all the space there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 16, 1 << 12):
            try:
                while True:
                    file.write(b"\1" * size)
            except OSError:
                continue
    return filler


def check_refusal(caller: Caller, reply: Reply) -> None:
    assert reply.status == 503
    assert reply.json()["error"]["code"] == "audit_unavailable"
    assert int(reply.header("retry-after") or 0) > 0
    assert caller.refused
    codes = {one.json()["error"]["code"] for one in caller.refused.values()}
    assert codes == {"audit_unavailable"}
    assert all(one.header("retry-after") for one in caller.refused.values())


@pytest.mark.timeout(900)
def test_a_full_disk_refuses_loses_nothing_and_serves_again(small: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Caller(small)
    for _ in range(5):
        assert caller.ask().status == 200

    filler = fill(small.stack.disk)
    check_refusal(caller, caller.until_refused())
    filler.unlink()
    caller.until_served()

    # And without anybody's help: the store stands still until the evidence itself has filled the disk.
    server = small.stack.programs["seaweedfs"]
    os.kill(server.pid, signal.SIGSTOP)
    try:
        before = len(caller.answered)
        check_refusal(caller, caller.until_refused())
        assert len(caller.answered) > before, "what was admitted was served"
        fill(small.stack.disk)  # to the last byte, and it stays: room comes only from what is shipped
        assert shutil.disk_usage(small.stack.disk).free == 0
    finally:
        os.kill(server.pid, signal.SIGCONT)
    caller.until_served()

    settle(small)
    completed = {leaf["exchange_id"] for leaf in small.leaves() if leaf.get("outcome", {}).get("status") == "completed"}
    assert set(caller.answered) <= completed, "an acknowledged record is lost"
    left = [path for path in (small.stack.disk / "state" / "evidence").rglob("*") if path.is_file()]
    assert left == []
    report = audit(small, monkeypatch)
    print(f"{len(caller.answered)} answered, {len(caller.refused)} refused, {report.leaves} records")
    assert list(report.findings) == []


def settle(gateway: Gateway) -> None:
    """Stop the gate in order: it ships everything before it ends."""
    gateway.stack.programs["envoy"].stop()
    gateway.stack.programs["supervisor"].stop()


def audit(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Any:
    s3 = gateway.stack.s3
    environment: Mapping[str, str] = {
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_REGION": s3.region,
        "AWS_DEFAULT_REGION": s3.region,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return verify(f"s3://{s3.bucket}/", gateway.stack.auditor_policy, jobs=1)
