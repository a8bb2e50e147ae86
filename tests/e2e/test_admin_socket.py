"""Envoy's admin interface on a Unix socket: as a real Envoy makes it, and as the gate's parts ask it."""

from __future__ import annotations

import asyncio
import stat
from typing import TYPE_CHECKING

import pytest

from ext_proc.app.doctor.asking import told_by_envoy
from ext_proc.app.envoy_admin import ask_envoy
from ext_proc.app.serving.draining import Admin, Patience, admin_session, drained
from ext_proc.demo.programs import Program, free_ports, start, tool
from ext_proc.edge import EdgeSettings, write_edge
from tests.e2e.harness import connection

if TYPE_CHECKING:
    from pathlib import Path


def _started(folder: Path, path: Path) -> Program:
    [port] = free_ports(1)
    settings = EdgeSettings(
        directory=folder / "envoy",
        http_host="127.0.0.1",
        http_port=port,
        admin_host="",
        admin_port=0,
        admin_socket=path,
        access_log=folder / "access.jsonl",
        worker_sockets=(folder / "worker.sock",),
        hold_seconds=5.0,
        buffer_bytes=1 << 20,
    )
    bootstrap = write_edge(settings, [connection("model", "http://127.0.0.1:1")]).bootstrap
    envoy = start("envoy", (tool("envoy"), "--config-path", bootstrap, "--disable-hot-restart"), folder / "logs")
    envoy.wait_until(lambda: ask_envoy(f"unix:{path}", "/ready") is not None)
    return envoy


async def _drain(address: str) -> int:
    async with admin_session(address) as session:
        return await drained(Admin(address, session), Patience(settle_seconds=0, deadline_seconds=30))


@pytest.mark.parametrize("left_over", [False, True])
def test_admin_interface_on_a_socket(tmp_path: Path, *, left_over: bool) -> None:
    """Nobody's but the user's and the group's. An Envoy that was killed left its socket: the next one takes its place."""
    path = tmp_path / "admin.sock"
    if left_over:
        killed = _started(tmp_path, path)
        killed.process.kill()
        killed.stop()
        assert path.exists()
    envoy = _started(tmp_path, path)
    try:
        told = path.stat().st_mode
        assert stat.S_ISSOCK(told) and stat.S_IMODE(told) == 0o660
        configs = told_by_envoy(f"unix:{path}", "/config_dump")["configs"]
        [ours] = [one["bootstrap"]["admin"]["address"] for one in configs if "bootstrap" in one]
        assert ours == {"pipe": {"path": str(path), "mode": 0o660}}
        assert asyncio.run(_drain(f"unix:{path}")) == 0
    finally:
        envoy.stop()
