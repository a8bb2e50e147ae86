"""Of `ext_proc.app.console.run`: whose a token is, as the gate verifies it, where it listens, and when it ends."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from aiohttp import web

from ext_proc.app.console import run as console
from ext_proc.app.console.run import TokenBearers, listen
from ext_proc.audit import segments
from ext_proc.demo.programs import free_ports
from ext_proc.errors import BadToken, ConfigError
from ext_proc.model import Secret
from tests.fakes.configured import a_config
from tests.unit.identity.test_authenticator import NOW, running

if TYPE_CHECKING:
    from pathlib import Path


async def test_tenant_is_who_they_belong_to() -> None:
    async with running() as (issuer, authenticator, _):
        bearers = TokenBearers(authenticator)

        assert (await bearers.identify(Secret(issuer.mint(NOW, tid="north")), NOW)).tenant == "north"
        assert (await bearers.identify(Secret(issuer.mint(NOW)), NOW)).tenant is None


@pytest.mark.parametrize("tenant", [7, ["north"], {"north": True}, False, ""])
async def test_tenant_that_nobody_can_read_is_not_none(tenant: Any) -> None:
    """Whoever has no tenant may see every tenant's exchanges."""
    async with running() as (issuer, authenticator, _):
        with pytest.raises(BadToken, match="tenant"):
            await TokenBearers(authenticator).identify(Secret(issuer.mint(NOW, tid=tenant)), NOW)


async def test_address_that_cannot_be_had_is_named() -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    taken = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    try:
        with pytest.raises(ConfigError, match=f"console.listen: {address}: Address already in use"):
            await listen(runner, address)
    finally:
        taken.close()
        await runner.cleanup()


def _configured(folder: Path) -> tuple[Path, int]:
    """A configuration with a console, and its port. Neither its issuer nor its bucket is there: it starts anyhow."""
    a_config(folder, heartbeat_seconds=1)
    [port] = free_ports(1)
    path = folder / "config.yaml"
    told = yaml.safe_load(path.read_text())
    issuer = {"issuer": "http://127.0.0.1:9", "audiences": ["affidavit"], "unsafe_allow_http": True}
    told["identity"]["issuers"] = [issuer]
    told["console"] = {
        "listen": f"127.0.0.1:{port}", "public_url": "http://127.0.0.1", "roles": {"approver": ["approvers"]},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(told))
    return path, port


def _health(port: int) -> tuple[int, str]:
    """Of what listens there; status 0: nothing does."""
    with suppress(OSError, http.client.HTTPException):
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        asked.request("GET", "/health")
        answer = asked.getresponse()
        return answer.status, answer.read().decode()
    return 0, ""


def test_log_that_fails_ends_the_console_and_health_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails for good: with a console that went on, nobody could approve any more, and no probe would know."""
    path, port = _configured(tmp_path)
    monkeypatch.setattr(console, "LOOK_SECONDS", 2.0)
    told: list[tuple[int, str]] = []
    has_ended = threading.Event()

    def broken(self: segments.FileOps, descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    def watch() -> None:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and (not told or told[-1][0] in {0, 200}):
            told.append(_health(port))
            if told[-1][0] == 200:  # the next heartbeat meets it
                monkeypatch.setattr(segments.FileOps, "sync", broken)
            time.sleep(0.05)
        if not has_ended.wait(20):
            told.append((0, "had to be stopped"))
            os.kill(os.getpid(), signal.SIGTERM)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        assert console.run(path) == 1
    finally:
        has_ended.set()
        watching.join(60)
    assert (200, "ok\ndegraded: evidence is not shipped\n") in told, "no shipper is there"
    assert told[-1] == (503, "failed: log: disk: OSError\n")


_ON_A_DISK_THAT_HANGS = """
import sys, threading
from pathlib import Path

from ext_proc.app.console import run
from ext_proc.audit import segments

config, word = map(Path, sys.argv[1:])
run.DISK_LOOK_SECONDS = 0.05
run.END_SECONDS = 1
real = segments.FileOps.sync


def sync(self, descriptor):
    if word.exists():
        threading.Event().wait()
    real(self, descriptor)


segments.FileOps.sync = sync
sys.exit(run.run(config))
"""


def test_disk_that_hangs_ends_the_console(tmp_path: Path) -> None:
    """It has no error that would end the log: people had 503 for as long as it hung, and no probe would know."""
    path, port = _configured(tmp_path)
    word = tmp_path / "hangs"
    process = subprocess.Popen(
        [sys.executable, "-c", _ON_A_DISK_THAT_HANGS, path, word], stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while _health(port)[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _health(port)[0] == 200
        word.touch()
        _, said = process.communicate(timeout=120)  # the next heartbeat meets it
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert "the disk of the log hangs, ending the console" in said
