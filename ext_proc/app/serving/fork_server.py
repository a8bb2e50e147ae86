"""Where workers and the shipper come from: a process that has imported everything, and forks.

To start Python and import what a worker needs costs more than a second of CPU. A worker that was killed under load
would be missed for that long and longer, on a machine that is then at its busiest. Forked, it is back in a fraction of
it, and what was imported is in memory once, not once in each process. (The supervisor cannot fork: it has threads.)

Two ends of a socket pair (`AF_UNIX`, `SOCK_SEQPACKET`: one JSON object a packet): `ForkServer` is the supervisor's,
`serve` the process's. ``{"arguments": [...]}`` asks for a child. ``{"started": pid}`` answers, with its pidfd beside it
(pidfd_open(2)), or ``{"refused": why}``; ``{"ended": pid, "status": n}`` follows when it has ended.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ext_proc import redaction, telemetry
from ext_proc.app.process import PARENT_VARIABLE, end_with_parent, hold_sigterm, release_sigterm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ARENAS_MAX: Final = "2"
"""Of glibc's allocator (``MALLOC_ARENA_MAX``). It would have eight for each core, and each keeps what it had once."""
TELL_SECONDS: Final = 5.0
"""For the server to say how a child ended that the kernel says has ended. One that hangs never does."""
CLOSE_SECONDS: Final = 5.0
"""For the server to end when it is asked to."""
_PACKET_MAX: Final = 65_536
_PR_SET_NAME: Final = 15

_log = telemetry.logger()


class Child:
    """A process that the server has forked. All from the supervisor's event loop."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        """Its exit status, or minus the signal that ended it; -1 where nobody is left who could know."""
        self._pidfd = pidfd
        self._over = asyncio.Event()

    async def wait(self) -> int | None:
        """Until it has ended."""
        await self._over.wait()
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """To it, and never to another one that has its number by now.

        Raises:
            ProcessLookupError: it has ended.
        """
        if self._over.is_set():
            raise ProcessLookupError(self.pid)
        signal.pidfd_send_signal(self._pidfd, number)

    def ended(self, status: int) -> None:
        """It is gone."""
        if not self._over.is_set():
            self.returncode = status
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._over.set()

    def watch(self, patience: float) -> None:
        """That it has ended, the kernel tells. How, the server, within so many seconds: else nobody."""
        if self._over.is_set():  # and its descriptor closed
            return
        loop = asyncio.get_running_loop()

        def gone() -> None:
            loop.remove_reader(self._pidfd)
            with suppress(ChildProcessError):  # not ours; but process 1 inherits it from a server that died
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
            loop.call_later(patience, self.ended, -1)

        loop.add_reader(self._pidfd, gone)


class ForkServer:
    """The supervisor's end. Starts the process when it is needed, and again when it is gone.

    Args:
        environment: of the process and its children, beside ours.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._channel: socket.socket | None = None
        self._asked: list[asyncio.Future[Child]] = []
        self._children: dict[int, Child] = {}

    async def start(self, arguments: Sequence[str]) -> Child:
        """A child that runs our command with ``arguments``.

        Raises:
            ChildProcessError: there is none, and why.
        """
        try:
            channel = self._channel or await self._open()
        except OSError as error:
            raise ChildProcessError(f"the fork server: {error.strerror}") from None
        try:
            channel.send(json.dumps({"arguments": list(arguments)}).encode())
        except OSError as error:  # it is gone, or reads nothing: no answer would come
            raise ChildProcessError(f"the fork server: {error.strerror}") from None
        answer: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        return await answer

    def give_up(self) -> None:
        """Kill a server that still owes an answer: who asked would wait for ever."""
        if self._asked:
            _log.error("fork server does not answer, killing it")
            self._kill()

    async def close(self) -> None:
        """End the server, whose children have ended before."""
        process, channel = self._process, self._channel
        if channel is not None:
            self._lost(channel)
        if process is not None:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await process.wait()
            except TimeoutError:
                self._kill()
                await process.wait()

    def _kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):  # it ended by itself in this very moment
                self._process.kill()

    async def _open(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # noqa: FBT003 - its only way
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours, self._heard, ours)
        number = theirs.fileno()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ext_proc", "fork-server", "--channel", str(number)),
                pass_fds=(number,),
                process_group=0,  # Ctrl-C is for the supervisor, which stops the children in order
                env={
                    **os.environ,
                    "MALLOC_ARENA_MAX": ARENAS_MAX,
                    **self._environment,
                    PARENT_VARIABLE: str(os.getpid()),
                },
            )
        except OSError:
            self._lost(ours)
            raise
        finally:
            theirs.close()
        return ours

    def _heard(self, channel: socket.socket) -> None:
        said, pidfds = b"", list[int]()
        try:
            said, pidfds, _, _ = socket.recv_fds(channel, _PACKET_MAX, 1)
        except (BlockingIOError, ConnectionResetError):  # reset: it died before it read all; what it said is read next
            return
        except OSError as error:
            _log.warning("fork server cannot be heard", why=str(error))
        if not said:
            _log.error("fork server is gone, starting another when it is needed")
            self._lost(channel)
            return
        told = json.loads(said)
        if "ended" in told:
            if (over := self._children.pop(told["ended"], None)) is not None:
                over.ended(told["status"])
            return
        answer = self._asked.pop(0)
        if "refused" in told:
            _fail(answer, told["refused"])
            return
        if not pidfds:  # we have too many open: the kernel has left it out
            with suppress(ProcessLookupError):
                os.kill(told["started"], signal.SIGKILL)  # nobody could end it later
            _fail(answer, "no file descriptor is left for it")
            return
        child = self._children[told["started"]] = Child(told["started"], pidfds[0])
        child.watch(TELL_SECONDS)
        if answer.done():  # whoever asked has left
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
        else:
            answer.set_result(child)

    def _lost(self, channel: socket.socket) -> None:
        """Its children get SIGTERM from the kernel (`end_with_parent`), and are waited for."""
        asyncio.get_running_loop().remove_reader(channel)
        channel.close()
        self._channel = None
        asked, self._asked = self._asked, []
        for answer in asked:
            _fail(answer, "the fork server is gone")
        children, self._children = self._children, {}
        for child in children.values():
            child.watch(0)


def _fail(answer: asyncio.Future[Child], why: str) -> None:
    if not answer.done():
        answer.set_exception(ChildProcessError(why))


# The process ----------------------------------------------------------------------------------------------------------


def serve(channel: socket.socket) -> list[str] | None:
    """Fork what is asked for until the supervisor is gone.

    Returns:
        In a child, what it is to run: it returns into a stack of its own. In the server, at its end, None.
    """
    end_with_parent()
    _import_all()
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    news = select.poll()  # not select(2), which knows no number above 1023, and the channel's is the supervisor's
    for descriptor in (channel.fileno(), woken):
        news.register(descriptor, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in news.poll()]
        if woken in ready:
            os.read(woken, 4096)
            for pid, status in _ended():
                _say(channel, {"ended": pid, "status": status})
        if channel.fileno() in ready:
            asked = b""
            with suppress(ConnectionResetError):  # the supervisor is gone, and has not read all
                asked = channel.recv(_PACKET_MAX)
            if not asked:
                return None
            arguments: list[str] = json.loads(asked)["arguments"]
            if _forked(channel):
                os.close(woken)
                os.close(wake)
                _name(arguments)
                return arguments


def _import_all() -> None:
    """All that needs no configuration."""
    for module in ("shipping", "worker"):
        import_module(f"ext_proc.app.serving.{module}")
    redaction.warm_up(redaction.BUILT_IN)
    gc.collect()
    gc.freeze()  # a collection in a child would write to every object, and so copy every page


def _forked(channel: socket.socket) -> bool:
    """Is this the child?"""
    parent = os.getpid()
    hold_sigterm()  # it may come at once, and what a child does when it is asked to end it must do then too
    try:
        pid = os.fork()
    except OSError as error:  # no memory, or too many processes: those that run must not end of it
        release_sigterm()
        _say(channel, {"refused": f"fork: {error.strerror}"})
        return False
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        channel.close()
        os.setpgid(0, 0)
        os.environ[PARENT_VARIABLE] = str(parent)
        return True
    release_sigterm()
    try:
        pidfd = os.pidfd_open(pid)  # before it is waited for: so the number is its own
    except OSError as error:
        os.kill(pid, signal.SIGKILL)
        _say(channel, {"refused": f"pidfd_open: {error.strerror}"})
        return False
    _say(channel, {"started": pid}, pidfd)
    os.close(pidfd)
    return False


def _say(channel: socket.socket, told: Mapping[str, Any], *descriptors: int) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # the supervisor is gone: the next look says so
        socket.send_fds(channel, [json.dumps(told).encode()], descriptors)


def _ended() -> list[tuple[int, int]]:
    found = []
    with suppress(ChildProcessError):  # none is left
        while (one := os.waitpid(-1, os.WNOHANG))[0]:
            found.append((one[0], os.waitstatus_to_exitcode(one[1])))
    return found


def _name(arguments: Sequence[str]) -> None:
    """What `top` and `ps -o comm` show (15 characters): all have the server's command line."""
    name = "-".join(one for one in arguments if one in ("work", "ship") or one.isdecimal())
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())
