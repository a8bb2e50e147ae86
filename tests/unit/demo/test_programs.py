"""`ext_proc.demo.programs`: what is started is told of when it fails, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ext_proc.demo import programs
from ext_proc.demo.programs import Program, ProgramError, answers, free_ports, start, tool

SLEEPS = (sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)")
DEAF = (
    sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)",
)  # fmt: skip


def _says(program: Program, word: str) -> bool:
    return word in program.log.read_text()


def test_starts_and_stops(tmp_path: Path) -> None:
    program = start("one", SLEEPS, tmp_path / "logs")
    program.wait_until(lambda: _says(program, "here"))
    assert program.log == tmp_path / "logs" / "one.log"
    program.stop()
    assert program.process.returncode == -signal.SIGTERM
    program.stop()  # nothing happens


def test_program_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    program = start("deaf", DEAF, tmp_path, patience_seconds=0.2)
    program.wait_until(lambda: _says(program, "here"))
    program.stop()
    assert program.process.returncode == -signal.SIGKILL


def test_program_that_ends_tells_why(tmp_path: Path) -> None:
    code = "import sys; print('\\n'.join(f'line {n}' for n in range(30))); sys.exit('no such thing')"
    program = start("broken", (sys.executable, "-c", code), tmp_path)
    with pytest.raises(ProgramError) as failed:
        program.wait_until(lambda: False)
    said = str(failed.value)
    assert said.startswith("broken ended with status 1:")
    assert "no such thing" in said
    assert "line 29" in said and "line 3\n" not in said  # its end, not everything
    assert str(program.log) in said


def test_program_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    program = start("slow", SLEEPS, tmp_path)
    with pytest.raises(ProgramError, match="slow is not ready after 0 s"):
        program.wait_until(lambda: False, seconds=0.2)
    assert program.process.poll() is not None


def test_program_whose_wait_is_interrupted_is_stopped(tmp_path: Path) -> None:
    """Ctrl-C while it starts: nobody knows of it yet who could stop it."""

    def interrupted() -> bool:
        raise KeyboardInterrupt

    program = start("slow", SLEEPS, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        program.wait_until(interrupted)
    assert program.process.poll() is not None


def test_program_is_not_in_our_group(tmp_path: Path) -> None:
    """Ctrl-C goes to a whole group; programs are to be stopped in order."""
    program = start("one", SLEEPS, tmp_path)
    try:
        assert os.getpgid(program.pid) == program.pid != os.getpgid(0)
    finally:
        program.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux is asked")
def test_program_ends_with_us(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom ext_proc.demo.programs import start\n"
        f"print(start('one', ('/bin/sleep', '60'), Path({str(tmp_path)!r})).pid, flush=True)\ntime.sleep(60)"
    )
    us = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert us.stdout is not None
    pid = int(us.stdout.readline())
    us.kill()
    us.wait()
    us.stdout.close()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and ") Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.02)


def test_free_ports() -> None:
    ports = free_ports(5, with_grpc=True) + free_ports(5)
    assert len(set(ports)) == 10
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_free_ports_are_not_those_that_connections_take() -> None:
    """A gateway's own connections once took the port that its upstream was to listen on."""
    assert all(port + 10000 < 32768 for port in free_ports(50, with_grpc=True)), "the kernel's range begins there"


def test_free_ports_passes_over_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        first, second, third = free_ports(3, with_grpc=True)
        monkeypatch.setattr(programs, "_PORTS", iter([first, second, third]))
        stack.enter_context(socket.create_server(("127.0.0.1", first)))
        stack.enter_context(socket.create_server(("127.0.0.1", second + 10000)))
        assert free_ports(1, with_grpc=True) == [third]


def test_answers() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if self.path == "/sick" else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        assert answers(port, "/well")()
        assert not answers(port, "/sick")()
        assert answers(port, "/sick", (200, 503))()
        server.shutdown()
    assert not answers(port, "/well")()  # refused


def test_tool_that_is_not_installed() -> None:
    with pytest.raises(ProgramError, match="run `make setup`"):
        tool("no-such-program")
