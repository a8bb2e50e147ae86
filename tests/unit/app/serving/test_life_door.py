"""`ext_proc.app.serving.life_door`: does a shipper that no supervisor watches go on?"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ext_proc.app.serving import life_door
from ext_proc.app.serving.life_door import LifeDoor
from ext_proc.app.serving.pulse import LOOK_SECONDS, SHIPPER_SECONDS
from ext_proc.demo.programs import free_ports
from ext_proc.errors import ConfigError
from tests.fakes.configured import a_config

if TYPE_CHECKING:
    from pathlib import Path

LOOKS = round(SHIPPER_SECONDS / LOOK_SECONDS)


def _asked(port: int, path: str = "/live") -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


@pytest.mark.parametrize("said_at", [0.0, 7.0])
def test_who_hangs_is_told_from_who_goes_on(said_at: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that hangs in its first round: nobody else would end it."""
    monkeypatch.setattr(life_door, "LOOK_SECONDS", 3600)  # it is the test that looks
    now = [said_at]
    with closing(LifeDoor(lambda: now[0], "127.0.0.1:0")) as door:
        for _ in range(LOOKS):
            door.look()
        assert _asked(door.port) == (200, b'{"live": true}')
        door.look()
        assert _asked(door.port) == (503, b'{"live": false}')
        now[0] += 1
        door.look()
        assert _asked(door.port) == (200, b'{"live": true}')
        assert _asked(door.port, "/")[0] == 404


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:x", "127.0.0.1:99999"])
def test_address_that_is_none(address: str) -> None:
    with pytest.raises(ConfigError, match=f"--listen {address}: host:port is wanted"):
        LifeDoor(lambda: 0.0, address)


def test_address_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"--listen {address}: Address already in use"):
            LifeDoor(lambda: 0.0, address)


def test_shipper_without_a_store_goes_on(tmp_path: Path) -> None:
    """A store that is away is no reason to end it: it has the evidence."""
    a_config(tmp_path)
    [port] = free_ports(1)
    command = [sys.executable, "-m", "ext_proc", "ship", "--config", str(tmp_path / "config.yaml")]
    process = subprocess.Popen([*command, "--listen", f"127.0.0.1:{port}"])
    try:
        deadline = time.monotonic() + 120
        while _asked(port)[0] == 0 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        assert _asked(port) == (200, b'{"live": true}')
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
