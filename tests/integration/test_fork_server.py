"""Where workers come from: a real fork server, asked for children, killed, refused, left alone."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ext_proc.app.serving import fork_server
from ext_proc.app.serving.fork_server import ForkServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

WAIT_SECONDS = 60.0


@asynccontextmanager
async def running(environment: dict[str, str] | None = None) -> AsyncIterator[ForkServer]:
    server = ForkServer(environment or {})
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            yield server
    finally:
        await server.close()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def until(is_so: Callable[[], object]) -> None:
    """In the test's own time-out."""
    while not is_so():  # noqa: ASYNC110 - what is waited for is another process
        await asyncio.sleep(0.01)


def pid_of(server: ForkServer) -> int:
    assert server._process is not None
    return server._process.pid


def forked_by(server: ForkServer) -> set[int]:
    """What of it runs: it is ours, as the server itself is."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    mine = {int(pid) for pid in children if "fork-server" in command_of(int(pid))}
    return mine - {pid_of(server)}


def command_of(pid: int) -> list[str]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []


def spawned(*command: str) -> int:
    return os.posix_spawnp(command[0], command, os.environ)


def waiting(folder: Path) -> tuple[str, ...]:
    """A command that stays: its configuration is a pipe that nobody writes to."""
    path = folder / "config.yaml"
    if not path.exists():
        os.mkfifo(path)
    return ("work", "--index", "0", "--config", str(path))


async def test_exit_status_of_a_child(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with running() as server:
        child = await server.start(("ship", "--config", str(tmp_path / "none.yaml")))
        assert await child.wait() == child.returncode == 2
        with pytest.raises(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
    assert "none.yaml: No such file or directory" in capfd.readouterr().err


async def test_children_by_the_number(tmp_path: Path) -> None:
    """Asked for at once: each gets its own, and the server runs once."""
    async with running() as server:
        asked = [server.start(("ship", "--config", str(tmp_path / "none.yaml"))) for _ in range(5)]
        children = await asyncio.gather(*asked)
        assert [await child.wait() for child in children] == [2] * 5
        assert len({child.pid for child in children}) == 5


async def test_child_of_its_own(tmp_path: Path) -> None:
    """Ctrl-C is not for it, its name is what it does, and signals reach it."""
    async with running() as server:
        child = await server.start(waiting(tmp_path))
        await until(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "work-0\n")
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
        assert parent_of(child.pid) == os.getpid()
        # Nothing that forks badly was imported. (The server's: a child has one thread whatever its parent had.)
        assert len([*Path(f"/proc/{pid_of(server)}/task").iterdir()]) == 1
        # And the one that was in between is gone, without a trace.
        assert Path(f"/proc/{pid_of(server)}/task/{pid_of(server)}/children").read_text() == ""
        child.send_signal(signal.SIGKILL)
        assert await child.wait() == -signal.SIGKILL


async def test_shipper_that_is_asked_to_end_at_once(tmp_path: Path) -> None:
    """It is stopped right after it was started, where its predecessor was stopped with all: there is a last round."""
    config = tmp_path / "none.yaml"
    os.mkfifo(config)  # it waits there: one that had ended by itself would be ended by the signal
    async with running() as server:
        child = await server.start(("ship", "--config", str(config)))
        child.send_signal(signal.SIGTERM)
        await asyncio.to_thread(config.write_bytes, b"")
        assert await child.wait() == 2  # of the configuration, not of the signal


async def test_server_that_is_killed(tmp_path: Path) -> None:
    """What it forked goes on, is heard when it ends, and the next one comes from another server."""
    async with running() as server:
        child = await server.start(waiting(tmp_path))
        first = pid_of(server)
        os.kill(first, signal.SIGKILL)
        await until(lambda: server._channel is None)
        assert parent_of(child.pid) == os.getpid()
        after = await server.start(waiting(tmp_path))
        assert pid_of(server) != first
        for one in (child, after):
            one.send_signal(signal.SIGKILL)
            assert await one.wait() == -signal.SIGKILL
            assert not Path(f"/proc/{one.pid}").exists()


async def test_server_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its children's ends are heard without it, and who waits for another child does not wait for ever."""
    monkeypatch.setattr(fork_server, "CLOSE_SECONDS", 0.1)
    async with running() as server:
        child = await server.start(waiting(tmp_path))
        os.kill(pid_of(server), signal.SIGSTOP)
        monkeypatch.setattr(fork_server, "ANSWER_SECONDS", 0.1)
        with pytest.raises(ChildProcessError, match="the fork server is gone"):
            await server.start(waiting(tmp_path))
        child.send_signal(signal.SIGKILL)
        assert await child.wait() == -signal.SIGKILL
        monkeypatch.setattr(fork_server, "ANSWER_SECONDS", WAIT_SECONDS)
        other = await server.start(waiting(tmp_path))
        os.kill(pid_of(server), signal.SIGSTOP)  # and it is closed all the same
        other.send_signal(signal.SIGKILL)
        await other.wait()


async def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """The kernel leaves the pidfd out. Who asked must hear of it, and the child must not stay without one."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    filling: list[int] = []
    async with running() as server:
        child = await server.start(waiting(tmp_path))
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        try:
            with suppress(OSError):
                while True:
                    filling.append(os.open("/", os.O_RDONLY))
            with pytest.raises(ChildProcessError, match="no file descriptor is left"):
                await server.start(waiting(tmp_path))
        finally:
            for one in filling:
                os.close(one)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        await until(lambda: forked_by(server) == {child.pid})
        child.send_signal(signal.SIGKILL)
        assert await child.wait() == -signal.SIGKILL


@asynccontextmanager
async def told() -> AsyncIterator[tuple[ForkServer, socket.socket]]:
    """Without a process: the test speaks for it."""
    server = ForkServer({})
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    server._channel = ours
    asyncio.get_running_loop().add_reader(ours, server._heard, ours)
    with theirs:
        async with asyncio.timeout(WAIT_SECONDS):
            yield server, theirs
        await server.close()


async def test_last_words_of_a_server_that_did_not_read_all() -> None:
    """The kernel says "reset" before it gives them: a child that is told of there would run, and nobody know of it."""
    async with told() as (server, theirs):
        asking = [asyncio.create_task(server.start(("ship",))) for _ in range(2)]
        await asyncio.sleep(0)
        pid = spawned("sleep", "60")
        pidfd = os.pidfd_open(pid)
        fork_server._say(theirs, {"started": pid}, pidfd)
        os.close(pidfd)
        theirs.close()
        child = await asking[0]
        assert child.pid == pid
        with pytest.raises(ChildProcessError, match="the fork server is gone"):
            await asking[1]
        child.send_signal(signal.SIGKILL)
        await child.wait()


async def test_server_that_reads_nothing() -> None:
    async with told() as (server, _):
        assert server._channel is not None
        with suppress(BlockingIOError):
            while True:
                server._channel.send(bytes(1000))
        with pytest.raises(ChildProcessError, match="Resource temporarily unavailable"):
            await server.start(("ship",))
        assert server._asked == []  # or the next answer would be taken for its


async def test_server_that_cannot_run() -> None:
    async with running({"PYTHONHOME": "/nonexistent"}) as server:
        with pytest.raises(ChildProcessError, match="the fork server is gone"):
            await server.start(("ship",))


async def test_server_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server.sys, "executable", "/nonexistent/python")
    async with running() as server:
        with pytest.raises(ChildProcessError, match="the fork server: No such file or directory"):
            await server.start(("ship",))


async def test_nobody_waits_for_the_child_any_more(tmp_path: Path) -> None:
    """It must not stay: nobody would end it."""
    async with running() as server:
        asking = asyncio.create_task(server.start(waiting(tmp_path)))
        await asyncio.sleep(0)  # it has begun
        await until(lambda: server._process)
        asking.cancel()
        await until(lambda: not server._asked)
        await until(lambda: not forked_by(server))


@pytest.mark.parametrize(("call", "what"), [("fork", "fork"), ("pipe2", "pipe")])
def test_what_cannot_be_forked_is_refused_and_the_server_stays(
    monkeypatch: pytest.MonkeyPatch, call: str, what: str
) -> None:
    def fails(*_: int) -> int:
        raise OSError(11, "Resource temporarily unavailable")

    before = len([*Path("/proc/self/fd").iterdir()])
    monkeypatch.setattr(os, call, fails)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert fork_server._forked(theirs) is False
        assert json.loads(ours.recv(1000)) == {"refused": f"{what}: Resource temporarily unavailable"}
    assert len([*Path("/proc/self/fd").iterdir()]) == before


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ("os.pidfd_open", "pidfd_open: Too many open files in system"),
        ("second fork", "fork: Too many open files in system"),
        ("killed", "it was gone before it had begun"),
    ],
)
def test_child_that_does_not_begin_is_refused_and_the_server_stays(
    monkeypatch: pytest.MonkeyPatch, broken: str, expected: str
) -> None:
    """Whoever in the line of forks it is that fails, there is one answer."""
    fork, forks = os.fork, []

    def fails(*_: int) -> int:
        raise OSError(23, "Too many open files in system")

    def forked() -> int:
        forks.append(1)
        if broken == "second fork" and len(forks) == 2:
            fails()
        pid = fork()
        if broken == "killed" and len(forks) == 2 and pid == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return pid

    monkeypatch.setattr(os, "fork", forked)
    if broken == "os.pidfd_open":
        monkeypatch.setattr(os, "pidfd_open", fails)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        before = len([*Path("/proc/self/fd").iterdir()])
        assert fork_server._forked(theirs) is False
        assert len([*Path("/proc/self/fd").iterdir()]) == before
        assert json.loads(ours.recv(1000)) == {"refused": expected}
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(1000)


async def test_refusal_reaches_who_asked() -> None:
    server = ForkServer({})
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    server._channel = ours
    asking = asyncio.create_task(server.start(("ship",)))
    await asyncio.sleep(0)
    fork_server._say(theirs, {"refused": "fork: Cannot allocate memory"})
    server._heard(ours)
    with pytest.raises(ChildProcessError, match="fork: Cannot allocate memory"):
        await asking
    ours.close()
    theirs.close()


def test_words_to_a_supervisor_that_is_gone_are_no_error() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    with theirs:
        fork_server._say(theirs, {"refused": "fork"})
