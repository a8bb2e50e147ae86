"""The gRPC server on a Unix socket: ext_proc and the standard health service, nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ext_proc.server.stream import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ext_proc.server.stream import Rooms

MESSAGE_OVERHEAD_BYTES: Final = 3 * 1024 * 1024
"""Room for a message's headers (Envoy lets 2 MiB in) beside its body; gRPC's default of 4 MiB broke 5 MB bodies."""

LEAVE_SECONDS: Final = 2.0
"""Between saying "not serving" and closing: Envoy asks every second, and sends nothing new after it has heard."""


class _Servicer(external_processor_pb2_grpc.ExternalProcessorServicer):  # type: ignore[misc]  # generated, untyped
    def __init__(self, rooms: Rooms, lasting: asyncio.TaskGroup) -> None:
        self._rooms = rooms
        self._lasting = lasting
        self._open_count = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def idle(self) -> None:
        """Wait until no stream is open: gRPC's stop returns before the handlers that it cancels have seen it."""
        await self._is_idle.wait()

    async def Process(  # noqa: N802 - the proto's name
        self, request_iterator: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """One exchange."""
        del request_iterator  # reads go through the context, so that a step and a read can be waited for together
        self._open_count += 1
        self._is_idle.clear()
        try:
            await Stream(self._rooms, context, self._lasting).run()
        finally:
            self._open_count -= 1
            if not self._open_count:
                self._is_idle.set()


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
        self._largest = largest_body_bytes
        self._leave_seconds = leave_seconds
        self._health: Any = health.aio.HealthServicer()  # type: ignore[attr-defined]  # loaded on use

    async def serve(self, stop: asyncio.Event, grace_seconds: float) -> None:
        """Serve until ``stop`` is set; then refuse new streams and give the others ``grace_seconds``."""
        async with asyncio.TaskGroup() as lasting:
            server = grpc.aio.server(
                options=[
                    ("grpc.max_receive_message_length", self._largest + MESSAGE_OVERHEAD_BYTES),
                    ("grpc.max_send_message_length", self._largest + MESSAGE_OVERHEAD_BYTES),
                    ("grpc.max_concurrent_streams", 2**31 - 1),
                ]
            )
            servicer = _Servicer(self._rooms, lasting)
            external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(servicer, server)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
            self._socket.unlink(missing_ok=True)
            server.add_insecure_port(f"unix:{self._socket}")
            await server.start()
            self._socket.chmod(0o660)  # Envoy shares our group, nobody else may speak to the gate
            await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
            try:
                await stop.wait()
            finally:
                await self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
                await asyncio.sleep(self._leave_seconds)
                await server.stop(grace_seconds)
                await servicer.idle()  # what their streams left to record is begun now, and the group waits for it
