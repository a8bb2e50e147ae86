"""The adapter against an OPA that misbehaves: slow, gone, failing, dripping, undefined, of the wrong shape."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
import tempfile
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.errors import DependencyError, PolicyUnavailable, PolicyUndefined
from ext_proc.policy.opa import PERSISTED, OpaPolicy
from tests.fakes.policy import a_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RESULT = {
    "allow": True,
    "reasons": [],
    "redact": {"request": [], "response": []},
    "approval": None,
    "record": {"payloads": True},
}
PROVENANCE = {"version": "1.22.2", "bundles": {"policy": {"revision": "r1"}}}
GOOD: dict[str, Any] = {"decision_id": "d-1", "provenance": PROVENANCE, "result": RESULT}


class BadOpa:
    """Speaks HTTP on a Unix socket, and then whatever it was told to say."""

    def __init__(self) -> None:
        self.status = "200 OK"
        self.body = json.dumps(GOOD).encode()
        self.delay_seconds = 0.0
        self.drip_seconds = 0.0
        self.hang_up = False
        self.asked: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(length[0].split(b":")[1]) if length else 0)
                self.asked.append(head + body)
                if self.hang_up:
                    break
                await asyncio.sleep(self.delay_seconds)
                answer = (
                    f"HTTP/1.1 {self.status}\r\ncontent-type: application/json\r\n"
                    f"content-length: {len(self.body)}\r\n\r\n"
                ).encode() + self.body
                for byte in (answer[n : n + 1] for n in range(len(answer))) if self.drip_seconds else (answer,):
                    writer.write(byte)
                    await writer.drain()
                    await asyncio.sleep(self.drip_seconds)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


def write_bundle(path: Path, revision: str, rules: bytes = b"package a") -> Path:
    files = {"/.manifest": json.dumps({"revision": revision}).encode(), "/a.rego": rules}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@asynccontextmanager
async def running(timeout_seconds: float = 60.0) -> AsyncIterator[tuple[BadOpa, OpaPolicy, Path]]:
    with tempfile.TemporaryDirectory(prefix="aff-", dir="/tmp") as folder:
        opa, at = BadOpa(), Path(folder) / "opa.sock"
        file = write_bundle(Path(folder) / "bundle.tar.gz", "r1")
        server = await asyncio.start_unix_server(opa.serve, at, backlog=256)
        policy = OpaPolicy(at, "inference", "decision", file, timeout_seconds)
        await policy.start()
        try:
            yield opa, policy, file
        finally:
            await policy.close()
            server.close()
            await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_decision() -> None:
    async with running() as (opa, policy, file):
        decision = await policy.decide(a_call())
        assert decision.allow
        assert decision.decision_id == "d-1"
        assert decision.policy.revision == "r1"
        assert len(decision.policy.digest) == 64
        [asked] = opa.asked
        target = b"POST /v1/data/inference/decision?provenance=true&strict-builtin-errors=true HTTP/1.1"
        assert asked.startswith(target)
        assert json.loads(asked.partition(b"\r\n\r\n")[2])["input"]["identity"]["subject"] == "ada"
        file.unlink()  # the digest of a revision is read once
        assert (await policy.decide(a_call())).policy == decision.policy
        assert await policy.is_ready()


@pytest.mark.asyncio
async def test_an_id_of_our_own_where_opa_gives_none() -> None:
    async with running() as (opa, policy, _):
        for missing in (None, "", 7):
            opa.body = json.dumps({**GOOD, "decision_id": missing}).encode()
            assert len((await policy.decide(a_call())).decision_id) == 36


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["slow", "dripping"])
async def test_late_is_unavailable(fault: str) -> None:
    async with running(timeout_seconds=0.3) as (opa, policy, _):
        if fault == "slow":
            opa.delay_seconds = 5
        else:
            opa.drip_seconds = 0.05  # a byte now and then: no single read ever takes long
        with pytest.raises(PolicyUnavailable, match="deadline"):
            await policy.decide(a_call())
        assert not await policy.is_ready()
        opa.delay_seconds = opa.drip_seconds = 0
        policy._client._session._seconds = 60.0  # now it is not about time
        assert (await policy.decide(a_call())).allow  # and well again without a restart


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "status",
    [
        *("201 Created", "202 Accepted", "204 No Content", "206 Partial Content", "226 IM Used", "299 Whatever"),
        *("300 Multiple Choices", "301 Moved", "302 Found", "304 Not Modified", "307 Temporary Redirect", "308 Moved"),
        *("400 Bad Request", "401 Unauthorized", "404 Not Found", "500 Error", "503 Down", "999 Beyond"),
    ],
)
async def test_errors_are_unavailable_and_not_retried(status: str) -> None:
    async with running() as (opa, policy, _):
        opa.status = status
        with pytest.raises(PolicyUnavailable, match=f"status_{status[:3]}"):
            await policy.decide(a_call())
        assert len(opa.asked) == 1


@pytest.mark.asyncio
async def test_hanging_up_is_unavailable() -> None:
    async with running() as (opa, policy, _):
        opa.hang_up = True
        with pytest.raises(PolicyUnavailable):
            await policy.decide(a_call())


@pytest.mark.asyncio
async def test_nobody_there() -> None:
    policy = OpaPolicy(Path("/tmp/aff-nobody.sock"), "inference", "decision", Path("/nowhere"), 1.0)
    await policy.start()
    with pytest.raises(PolicyUnavailable):
        await policy.decide(a_call())
    assert not await policy.is_ready()
    await policy.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"\xff", b'"allow"', b"[" * 100_000, json.dumps(GOOD).encode() * 2),
        *(json.dumps({**GOOD, "x": x}).encode() for x in (float("nan"), float("inf"), "x" * (1 << 20))),
    ],
    ids=lambda body: body[:12] + body[-12:],
)
async def test_garbage(body: bytes) -> None:
    async with running() as (opa, policy, _):
        opa.body = body
        with pytest.raises(DependencyError):
            await policy.decide(a_call())


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        "allow",
        None,
        True,
        {"provenance": PROVENANCE},
        {**GOOD, "result": None},
        {**GOOD, "result": True},
        {**GOOD, "result": {}},
        {**GOOD, "result": "allow"},
        {**GOOD, "result": [RESULT]},
        {**GOOD, "result": {**RESULT, "allow": 1.0}},
        {**GOOD, "result": {**RESULT, "allow": "true"}},
        {**GOOD, "result": {**RESULT, "allow": [True]}},
        {**GOOD, "result": {**RESULT, "allow": 1}},
        {**GOOD, "result": {**RESULT, "verdict": "allow"}},
        {"result": RESULT},
        {**GOOD, "provenance": None},
        {**GOOD, "provenance": {"bundles": {}}},
        {**GOOD, "provenance": {"bundles": []}},
        {**GOOD, "provenance": {"bundles": {"a": {}}}},
        {**GOOD, "provenance": {"bundles": {"a": {"revision": 7}}}},
        {**GOOD, "provenance": {"bundles": {"a": {"revision": "r1"}, "b": {"revision": "r1"}}}},
        {**GOOD, "provenance": {"bundles": {"a": {"revision": "r2"}}}},
    ],
)
async def test_what_is_not_a_decision_is_undefined(answer: Any) -> None:
    async with running() as (opa, policy, _):
        opa.body = json.dumps(answer).encode()
        with pytest.raises(PolicyUndefined):
            await policy.decide(a_call())


@pytest.mark.asyncio
async def test_unknown_revision_until_the_file_has_it() -> None:
    async with running() as (_, policy, file):
        write_bundle(file, "r0")
        with pytest.raises(PolicyUndefined, match="unknown_revision"):
            await policy.decide(a_call())
        file.write_bytes(b"nonsense")
        with pytest.raises(PolicyUndefined, match="bundle_unreadable"):
            await policy.decide(a_call())
        write_bundle(file, "r1")
        assert (await policy.decide(a_call())).policy.revision == "r1"


@pytest.mark.asyncio
async def test_a_number_that_json_has_not_is_unavailable() -> None:
    async with running() as (opa, policy, _):
        call = a_call(parameters={"temperature": float("nan")})
        with pytest.raises(PolicyUnavailable):
            await policy.decide(call)
        assert not opa.asked


@pytest.mark.asyncio
async def test_many_at_once() -> None:
    async with running() as (opa, policy, _):
        opa.delay_seconds = 0.05
        calls = [replace(a_call(), body_bytes=n) for n in range(200)]
        decisions = await asyncio.gather(*map(policy.decide, calls))
        assert len(decisions) == len(opa.asked) == 200


@pytest.mark.asyncio
async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with running() as (_, policy, _file):
        assert (await policy.decide(a_call())).allow


@pytest.mark.asyncio
async def test_which_bundle_is_active_is_asked_of_opa_itself() -> None:
    async with running() as (opa, policy, file):
        opa.body = json.dumps({"provenance": PROVENANCE}).encode()  # it has no answer to an empty question
        active = await policy.active()
        assert active is not None
        assert active.revision == "r1"
        assert json.loads(opa.asked[0].partition(b"\r\n\r\n")[2]) == {"input": None}
        opa.status = "500 Error"
        assert await policy.active() == active  # what it last said
        opa.status, opa.body = "200 OK", opa.body.replace(b"r1", b"r2")
        assert await policy.active() == active  # a bundle that nobody can name is no answer
        write_bundle(file, "r2")
        new = await policy.active()
        assert new is not None
        assert new.revision == "r2"


@pytest.mark.asyncio
async def test_a_bundle_may_be_among_the_copies() -> None:
    async with running() as (opa, policy, file):
        policy._copies = file.parent / "copies"
        policy._copies.mkdir()
        opa.body = json.dumps({**GOOD, "provenance": {"bundles": {"p": {"revision": "r2"}}}}).encode()
        write_bundle(file, "r2")  # published, and not what OPA was given
        with pytest.raises(PolicyUndefined, match="bundle_unreadable"):
            await policy.decide(a_call())
        write_bundle(policy._copies / "a.tar.gz", "r1")
        with pytest.raises(PolicyUndefined, match="unknown_revision"):
            await policy.decide(a_call())
        write_bundle(policy._copies / "b.tar.gz", "r2")
        assert (await policy.decide(a_call())).policy.revision == "r2"


@pytest.mark.asyncio
async def test_of_two_with_one_revision_what_opa_keeps_decided() -> None:
    async with running() as (opa, policy, file):
        copies = policy._copies = file.parent / "copies"
        persisted = copies / PERSISTED
        persisted.parent.mkdir(parents=True)
        opa.body = json.dumps({**GOOD, "provenance": {"bundles": {"p": {"revision": "r2"}}}}).encode()
        write_bundle(copies / "a.tar.gz", "r2")
        write_bundle(copies / "b.tar.gz", "r2", b"package decoy")
        with pytest.raises(PolicyUndefined, match="revision_twice"):
            await policy.decide(a_call())
        write_bundle(persisted, "r2", b"package loaded")
        decided = await policy.decide(a_call())
        assert decided.policy.digest == hashlib.sha256(persisted.read_bytes()).hexdigest()
