"""Must show 1 and 8: the story ends with 0, and nothing planted is to be found in clear (the story's last step)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

AFFIDAVIT = [sys.executable, "-m", "ext_proc"]


def test_the_story_is_as_told() -> None:
    done = subprocess.run([*AFFIDAVIT, "demo"], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "every step was as told" in done.stdout


def test_kept_demo_says_where_everything_is_and_stops_all(tmp_path: Path) -> None:
    endpoints = tmp_path / "endpoints.json"
    demo = subprocess.Popen([*AFFIDAVIT, "demo", "--keep", "--endpoints", str(endpoints)])
    try:
        deadline = time.monotonic() + 120
        while not endpoints.exists():
            assert demo.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        where = json.loads(endpoints.read_text())
        wanted = {
            "gateway",
            "gateway_tls",
            "issuer",
            "token_endpoint",
            "s3",
            "envoy_admin",
            "access_log",
            "opa",
            "config",
        }
        assert wanted | {"pids"} <= set(where)
        assert set(where["s3"]) == {"endpoint", "bucket", "prefix", "region", "access_key", "secret_key"}
        command = [
            *AFFIDAVIT,
            "demo",
            "token",
            "--subject",
            "eve",
            "--groups",
            "analysts",
            "--endpoints",
            str(endpoints),
        ]
        token = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
        assert token.count(".") == 2
    finally:
        demo.send_signal(signal.SIGINT)
        status = demo.wait(60)
    assert status == 0
    time.sleep(0.5)
    left = [name for name, pid in where["pids"].items() if _is_running(pid)]
    assert left == []


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
