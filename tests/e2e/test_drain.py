"""`affidavit drain` on a real Envoy: whoever is in there gets an answer, and nobody new comes."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession

from ext_proc.app.serving.draining import Admin, Patience, drained
from tests.e2e.harness import Edge, Reply, call, request, running_edge
from tests.e2e.upstream import Pause, head, plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENT = b'{"choices": []}'
SLOW = (head("application/json", f"content-length: {len(DOCUMENT)}\r\n"), Pause(6), DOCUMENT)


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    with running_edge(tmp_path, answers={"/slow": SLOW, "/plain": (plain(DOCUMENT),)}) as made:
        yield made


def _is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False


async def _drain(edge: Edge) -> int:
    async with ClientSession() as session:
        admin = Admin(f"{edge.settings.admin_host}:{edge.settings.admin_port}", session)
        assert await admin.is_live()
        assert await admin.in_flight() == 1
        status = await drained(admin, Patience(settle_seconds=1, deadline_seconds=60))
        assert not await admin.is_live()
    return status


def test_envoy_may_be_killed_once_it_is_drained(edge: Edge) -> None:
    """The call that was in there has its whole answer by then, and nobody new can come."""
    replies: list[Reply] = []
    caller = threading.Thread(target=lambda: replies.append(call(edge.port, request("POST", "/slow", b"{}"))))
    caller.start()
    edge.wait(lambda: edge.counter("http.gate.downstream_rq_active") == 1)
    assert asyncio.run(_drain(edge)) == 0
    assert edge.counter("http.gate.downstream_rq_completed") >= 1
    edge.wait(lambda: _is_refused(edge.port))
    edge.envoy.process.kill()
    caller.join(30)
    assert [(one.status, one.is_whole, one.body) for one in replies] == [(200, True, DOCUMENT)]


def test_who_comes_before_the_doors_close_is_told_to_go_elsewhere(edge: Edge) -> None:
    """Kept connections would keep callers here for ever; each answer ends one."""
    keeps = {"connection": "keep-alive"}
    asked = request("GET", "/plain", None, keeps)
    with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as caller:
        caller.sendall(asked)
        assert b"connection: close" not in caller.recv(65536).lower()

        async def fail_health() -> None:
            async with ClientSession() as session:
                await Admin(f"127.0.0.1:{edge.settings.admin_port}", session).tell("/healthcheck/fail")

        asyncio.run(fail_health())
        caller.sendall(asked)
        assert b"connection: close" in caller.recv(65536).lower()
