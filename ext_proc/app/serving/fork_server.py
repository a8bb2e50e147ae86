"""Where workers and the shipper come from: a process that has imported everything, and forks.

To start Python and import what a worker needs costs more than a second of CPU. A worker that was killed under load
would be missed for that long and longer, on a machine that is then at its busiest. Forked, it is back in a fraction of
it, and what was imported is in memory once, not once in each process. (The supervisor cannot fork: it has threads.)

A child is not the server's but the supervisor's: it is forked twice, the process in between ends at once, and the
supervisor adopts it (`PR_SET_CHILD_SUBREAPER`). So the server can die, or be killed because it hangs: no child ends.

Two ends of a socket pair (`AF_UNIX`, `SOCK_SEQPACKET`: one JSON object a packet): `ForkServer` is the supervisor's,
`serve` the process's. ``{"arguments": [...]}`` asks for a child. The child itself answers ``{"started": pid}``, with
its pidfd beside it (pidfd_open(2)): there is none that the supervisor was not told of. Or ``{"refused": why}``.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ext_proc import redaction, telemetry
from ext_proc.app.process import PARENT_VARIABLE, adopt_orphans, end_with_parent, hold_sigterm, release_sigterm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ARENAS_MAX: Final = "2"
"""Of glibc's allocator (``MALLOC_ARENA_MAX``). It would have eight for each core, and each keeps what it had once."""
ANSWER_SECONDS: Final = 60.0
"""For a child to be there, on a busy machine and with all to be imported first. A server that takes longer hangs."""
CLOSE_SECONDS: Final = 5.0
"""For the server to end when it is asked to."""
_PACKET_MAX: Final = 65_536
_PR_SET_NAME: Final = 15
_YIELD_SECONDS: Final = 0.0005

_log = telemetry.logger()


class Child:
    """A process that was forked for us, and is our own. All from the supervisor's event loop."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        """Its exit status, or minus the signal that ended it; -1 where the kernel does not tell (it is not ours)."""
        self._pidfd = pidfd
        self._over = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, self._gone)

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

    def _gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self.returncode = _status_of(self._pidfd)
        os.close(self._pidfd)
        self._over.set()


def _status_of(pidfd: int) -> int:
    try:
        told = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return -1
    if told is None:
        return -1
    return told.si_status if told.si_code == os.CLD_EXITED else -told.si_status


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
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Child] = loop.create_future()
        self._asked.append(answer)
        late = loop.call_later(ANSWER_SECONDS, self.give_up)
        try:
            return await answer
        finally:
            late.cancel()

    def give_up(self) -> None:
        """Kill a server that still owes an answer: who asked would wait for ever. What it has forked goes on."""
        if self._asked:
            _log.error("fork server does not answer, killing it")
            self._kill()

    async def close(self) -> None:
        """End the server."""
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
        adopt_orphans()
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
        answer = self._asked.pop(0)
        if "refused" in told:
            _fail(answer, told["refused"])
            return
        if not pidfds:  # we have too many open: the kernel has left it out
            with suppress(ProcessLookupError):
                os.kill(told["started"], signal.SIGKILL)  # nobody could end it later
            _fail(answer, "no file descriptor is left for it")
            return
        child = Child(told["started"], pidfds[0])
        if answer.done():  # whoever asked has left
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
        else:
            answer.set_result(child)

    def _lost(self, channel: socket.socket) -> None:
        """What it has forked goes on; what it was asked for will not come."""
        asyncio.get_running_loop().remove_reader(channel)
        channel.close()
        self._channel = None
        asked, self._asked = self._asked, []
        for answer in asked:
            _fail(answer, "the fork server is gone")


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
    while asked := _asked(channel):
        arguments: list[str] = json.loads(asked)["arguments"]
        if _forked(channel):
            _name(arguments)
            return arguments
    return None


def _asked(channel: socket.socket) -> bytes:
    with suppress(ConnectionResetError):  # the supervisor is gone, and has not read all
        return channel.recv(_PACKET_MAX)
    return b""


def _import_all() -> None:
    """All that needs no configuration."""
    for module in ("shipping", "worker"):
        import_module(f"ext_proc.app.serving.{module}")
    redaction.warm_up(redaction.BUILT_IN)
    gc.collect()
    gc.freeze()  # a collection in a child would write to every object, and so copy every page


def _forked(channel: socket.socket) -> bool:
    """Is this the child?

    1. It is forked twice. The one in between ends, and so the child is the supervisor's.
    2. It tells the supervisor that it is there. If it cannot, or if it was killed before, somebody else answers.
    """
    supervisor = os.getppid()
    try:
        answered, answering = os.pipe2(os.O_CLOEXEC)
    except OSError as error:  # too many files are open: who asks later may have better luck
        _say(channel, {"refused": f"pipe: {error.strerror}"})
        return False
    hold_sigterm()  # it may come at once, and what a child does when it is asked to end it must do then too
    try:
        between = os.fork()
    except OSError as error:  # no memory, or too many processes: who asks later may have better luck
        release_sigterm()
        _answer(channel, answering, {"refused": f"fork: {error.strerror}"})
        os.close(answered)
        return False
    if between == 0:
        os.close(answered)
        _fork_again(channel, answering)
        _begin(channel, answering, supervisor)
        return True
    release_sigterm()
    os.close(answering)
    os.waitpid(between, 0)
    if not os.read(answered, 1):
        _say(channel, {"refused": "it was gone before it had begun"})
    os.close(answered)
    return False


def _fork_again(channel: socket.socket, answering: int) -> None:
    """Returns in the child alone, when its parent is gone."""
    between = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        _answer(channel, answering, {"refused": f"fork: {error.strerror}"})
        os._exit(1)
    if pid:
        os._exit(0)
    while os.getppid() == between:
        time.sleep(_YIELD_SECONDS)


def _begin(channel: socket.socket, answering: int, supervisor: int) -> None:
    try:
        pidfd = os.pidfd_open(os.getpid())
    except OSError as error:
        _answer(channel, answering, {"refused": f"pidfd_open: {error.strerror}"})
        os._exit(1)
    _answer(channel, answering, {"started": os.getpid()}, pidfd)
    os.close(pidfd)
    channel.close()
    os.setpgid(0, 0)
    os.environ[PARENT_VARIABLE] = str(supervisor)


def _answer(channel: socket.socket, answering: int, told: Mapping[str, Any], *descriptors: int) -> None:
    """Tell the supervisor, and then the server that it was told."""
    _say(channel, told, *descriptors)
    os.write(answering, b"1")
    os.close(answering)


def _say(channel: socket.socket, told: Mapping[str, Any], *descriptors: int) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # the supervisor is gone: the next look says so
        socket.send_fds(channel, [json.dumps(told).encode()], descriptors)


def _name(arguments: Sequence[str]) -> None:
    """What `top` and `ps -o comm` show (15 characters): all have the server's command line."""
    name = "-".join(one for one in arguments if one in ("work", "ship") or one.isdecimal())
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())
