"""The gRPC server on a Unix socket: ext_proc and the standard health service, nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc
from grpc_health.v1 import health_pb2

from ext_proc.server.link import Link, Method
from ext_proc.server.rpc import NOT_FOUND
from ext_proc.server.stream import Stream

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.server.rpc import Rpc
    from ext_proc.server.stream import Rooms

PROCESS: Final = b"/envoy.service.ext_proc.v3.ExternalProcessor/Process"
CHECK: Final = b"/grpc.health.v1.Health/Check"

MESSAGE_OVERHEAD_BYTES: Final = 3 * 1024 * 1024
"""Room for a message's headers (Envoy lets 2 MiB in) beside its body."""

LEAVE_SECONDS: Final = 2.0
"""Between saying "not serving" and closing: Envoy asks every second, and sends nothing new after it has heard."""


class Listener:
    """Opens the door; closes it so that exchanges in flight can end first.

    Args:
        rooms: what every stream needs.
        socket: where to listen; a file of the same name is replaced.
        largest_body_bytes: the largest body of any connection.
        leave_seconds: how long new streams are still taken after "not serving" was said.
    """

    def __init__(
        self, rooms: Rooms, socket: Path, largest_body_bytes: int, leave_seconds: float = LEAVE_SECONDS
    ) -> None:
        self._rooms = rooms
        self._socket = socket
        self._message_max_bytes = largest_body_bytes + MESSAGE_OVERHEAD_BYTES
        self._leave_seconds = leave_seconds
        self._is_serving = False
        self._links: set[Link] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, stop: asyncio.Event, grace_seconds: float) -> None:
        """Serve until ``stop`` is set; then refuse new streams and give the others ``grace_seconds``."""
        async with asyncio.TaskGroup() as lasting:

            async def process(call: Rpc) -> None:
                await Stream(self._rooms, call, lasting).run()

            methods = {
                PROCESS: Method(ext_proc.ProcessingRequest.FromString, process),
                CHECK: Method(health_pb2.HealthCheckRequest.FromString, self._check),
            }
            self._socket.unlink(missing_ok=True)
            server = await asyncio.get_running_loop().create_unix_server(
                lambda: Link(methods, self._message_max_bytes, self._links, self._serving), str(self._socket)
            )
            self._socket.chmod(0o660)  # Envoy shares our group, nobody else may speak to the gate
            self._is_serving = True
            try:
                await stop.wait()
            finally:
                self._is_serving = False
                await asyncio.sleep(self._leave_seconds)
                server.close()
                await self._leave(grace_seconds)
                self._socket.unlink(missing_ok=True)

    async def _check(self, call: Rpc) -> None:
        """Envoy asks whether we are well."""
        asked = await call.read()
        if asked is None or asked.service:
            await call.abort(NOT_FOUND, "no such service")
        word = health_pb2.HealthCheckResponse
        await call.write(word(status=word.SERVING if self._is_serving else word.NOT_SERVING))
        while await call.read() is not None:
            pass

    async def _leave(self, grace_seconds: float) -> None:
        """What they leave to record is begun when this returns, and the group waits for it."""
        for link in tuple(self._links):
            link.leave()
        if self._serving:
            await asyncio.wait(self._serving, timeout=grace_seconds)
        for link in tuple(self._links):
            link.cut()
        if self._serving:
            await asyncio.wait(self._serving)
        for link in tuple(self._links):
            link.close()
