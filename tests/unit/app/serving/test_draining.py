"""`ext_proc.app.serving.draining`: Envoy is told to take nobody new, and we wait until nobody is in there."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from aiohttp import ClientSession
from structlog.testing import capture_logs

from ext_proc import telemetry
from ext_proc.app.serving import draining
from ext_proc.app.serving.draining import (
    Admin,
    EnvoyGoneError,
    EnvoyUnclearError,
    Patience,
    admin_session,
    drained,
)
from ext_proc.cli import main
from ext_proc.demo.programs import free_ports
from tests.fakes.envoy_admin import FakeAdmin
from tests.unit.test_config import VALID

if TYPE_CHECKING:
    from pathlib import Path

SHORT = Patience(settle_seconds=0, deadline_seconds=60)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "_log", telemetry.logger())  # one that was used before is heard by nobody
    monkeypatch.setattr(draining, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(draining, "_POLL_SECONDS", 0.01)
    ticks = count()
    monkeypatch.setattr(draining, "monotonic", lambda: next(ticks) / 1000)  # a slow machine is no quiet Envoy


async def _drain(fake: FakeAdmin, patience: Patience = SHORT) -> int:
    async with fake.running(), admin_session(fake.address) as session:
        return await drained(Admin(fake.address, session), patience)


@pytest.mark.parametrize("on_socket", [False, True])
async def test_tells_envoy_in_order_and_waits_until_nobody_is_in_there(tmp_path: Path, *, on_socket: bool) -> None:
    fake = FakeAdmin(counts=[3, 3, 2, 1, 0], socket=tmp_path / "admin.sock" if on_socket else None)
    assert await _drain(fake) == 0
    told = [one for one in fake.asked if one.startswith("POST")]
    assert told == ["POST /healthcheck/fail", "POST /drain_listeners?graceful"]
    assert fake.asked[0] == "POST /healthcheck/fail"
    assert fake.counts == [0]


async def test_who_comes_late_is_waited_for_too() -> None:
    """A pause between two calls is no end: it must be quiet for a while."""
    fake = FakeAdmin(counts=[1, 0, 0, 5, 4, 0])
    assert await _drain(fake) == 0
    assert fake.counts == [0]


async def test_deadline_ends_the_waiting_and_says_who_is_left() -> None:
    with capture_logs() as lines:
        assert await _drain(FakeAdmin(counts=[2]), Patience(0, 0.2)) == 1
    assert lines[-1]["event"].startswith("not drained in time") and lines[-1]["in_flight"] == 2


@pytest.mark.parametrize("is_socket", [False, True])
async def test_no_envoy_is_said_and_nothing_was_drained(*, is_socket: bool) -> None:
    address = "unix:/nowhere/admin.sock" if is_socket else f"127.0.0.1:{free_ports(1)[0]}"
    async with admin_session(address) as session:
        admin = Admin(address, session)
        with pytest.raises(EnvoyGoneError):
            await drained(admin, SHORT)
        assert not await admin.is_live()


async def test_envoy_that_ends_while_it_drains_is_not_drained() -> None:
    fake = FakeAdmin(counts=[2])
    async with fake.running(), admin_session(fake.address) as session:
        admin = Admin(fake.address, session)
        fake.ends_at = "/drain_listeners"
        with capture_logs() as lines:
            assert await drained(admin, SHORT) == 1
    assert lines[-1]["event"].startswith("Envoy ended while it drained")


def _no_envoy(tmp_path: Path) -> tuple[str, Path]:
    address, config = f"127.0.0.1:{free_ports(1)[0]}", tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**VALID, "listen": {"admin": address}}))
    return address, config


def test_command_without_an_envoy_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It ended with 0: `drain && kill` went on although another Envoy than this one's had callers."""
    address, config = _no_envoy(tmp_path)
    assert main(["drain", "--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert f"listen.admin: no Envoy to drain: nobody listens at {address}" in said and "`affidavit serve`" in said


async def test_pod_without_an_envoy_ends_at_once(tmp_path: Path) -> None:
    """The main container of a pod is no failure then: nobody is in there, and the others wait for its end."""
    [port] = free_ports(1)
    _, config = _no_envoy(tmp_path)
    command = [sys.executable, "-m", "ext_proc", "drain", "--config", str(config), "--at-end"]
    process = subprocess.Popen([*command, "--listen", f"127.0.0.1:{port}"])  # noqa: ASYNC220
    try:
        await _until(lambda: _status(port, "/live") == 200)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 120) == 0
    finally:
        process.kill()
        process.wait()


async def test_socket_that_is_not_for_us_is_no_envoy_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have callers: to say that nobody is left would end it under them."""

    async def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    address = "unix:/run/envoy/admin.sock"
    async with admin_session(address) as session:
        monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", refused)
        with capture_logs() as lines:
            assert await drained(Admin(address, session), Patience(0, 0.2)) == 1
    assert lines[-1]["event"].startswith("Envoy did not say in time") and "Permission denied" in lines[-1]["detail"]


@pytest.mark.parametrize("said", ["", "{}", '{"stats": []}', '{"stats": [{"value": "many"}]}', "[]"])
async def test_garbage_is_no_count(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked(*_: Any) -> bytes:
        return said.encode()

    async with ClientSession() as session:
        admin = Admin("127.0.0.1:1", session)
        monkeypatch.setattr(admin, "_asked", asked)
        with pytest.raises(EnvoyUnclearError):
            await admin.in_flight()


async def test_busy_envoy_is_asked_again() -> None:
    """It has callers: to believe that there is no Envoy would cut them off."""
    fake = FakeAdmin(counts=[2, 1, 0], refusals=5)
    with capture_logs() as lines:
        assert await _drain(fake) == 0
    assert lines[-1]["event"] == "drained" and fake.counts == [0]


async def test_envoy_that_never_says_is_not_drained() -> None:
    with capture_logs() as lines:
        assert await _drain(FakeAdmin(refusals=10**6), Patience(0, 0.2)) == 1
    assert lines[-1]["event"].startswith("Envoy did not say in time")


def _status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


async def _until(is_so: Any, seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(is_so):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.05)


async def test_main_container_of_a_pod(tmp_path: Path) -> None:
    """Ready as long as Envoy is live; at SIGTERM it drains, is not ready any more, and ends when nobody is in there."""
    [port] = free_ports(1)
    fake = FakeAdmin(counts=[4])
    config = tmp_path / "config.yaml"
    async with fake.running():
        config.write_text(yaml.safe_dump({**VALID, "listen": {"admin": fake.address}}))
        command = [sys.executable, "-m", "ext_proc", "drain", "--config", str(config), "--at-end"]
        process = subprocess.Popen([*command, "--listen", f"127.0.0.1:{port}", "--settle-seconds", "0"])  # noqa: ASYNC220
        try:
            await _until(lambda: _status(port, "/ready") == 200)
            fake.is_live = False
            assert await asyncio.to_thread(_status, port, "/ready") == 503
            assert await asyncio.to_thread(_status, port, "/live") == 200
            fake.is_live = True
            assert not [one for one in fake.asked if one.startswith("POST")]
            process.send_signal(signal.SIGTERM)
            await _until(lambda: "POST /drain_listeners?graceful" in fake.asked)
            assert await asyncio.to_thread(_status, port, "/ready") == 503
            assert process.poll() is None
            fake.counts = [0]
            assert await asyncio.to_thread(process.wait, 120) == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:http", "127.0.0.1:1"])
def test_address_that_cannot_be_listened_on(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if address.endswith(":1"):
        address = "192.0.2.1:9"  # nobody's (RFC 5737)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(VALID))
    assert main(["drain", "--config", str(config), "--listen", address]) == 2
    assert f"--listen {address}: " in capsys.readouterr().err
