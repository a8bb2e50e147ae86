"""`affidavit drain` on a real Envoy: whoever is in there gets an answer, and nobody new comes."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession

from ext_proc.app.draining import Admin, Patience, drained
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


async def _drain(edge: Edge, steps: list[str]) -> int:
    async with ClientSession() as session:
        admin = Admin(f"{edge.settings.admin_host}:{edge.settings.admin_port}", session)
        assert await admin.is_live()
        assert await admin.in_flight() == 1
        status = await drained(admin, Patience(settle_seconds=1, deadline_seconds=60))
        steps.append("drained")
        assert not await admin.is_live()
    return status


def test_call_in_flight_is_answered_and_nobody_new_comes(edge: Edge) -> None:
    steps: list[str] = []
    replies: list[Reply] = []

    def slow() -> None:
        replies.append(call(edge.port, request("POST", "/slow", b"{}")))
        steps.append("answered")

    caller = threading.Thread(target=slow)
    caller.start()
    edge.wait(lambda: edge.counter("http.gate.downstream_rq_active") == 1)
    status = asyncio.run(_drain(edge, steps))
    caller.join(30)
    assert (status, steps) == (0, ["answered", "drained"])
    assert replies[0].status == 200 and replies[0].is_whole
    edge.wait(lambda: _is_refused(edge.port))


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
