"""A no-op ext_proc server: the same gRPC, the same four messages, nothing done with them. What Python costs at least.

``python -m bench.noop SOCKET``
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class NoOp(external_processor_pb2_grpc.ExternalProcessorServicer):  # type: ignore[misc]  # generated, untyped
    async def Process(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Answer every question with "go on"; say the words that open our gates."""
        del context
        async for request in request_iterator:
            phase = request.WhichOneof("request")
            response = ext_proc.ProcessingResponse()
            getattr(response, phase).SetInParent()
            word = {"request_body": ("decision", "allow"), "response_body": ("response", "released")}.get(phase)
            if word is not None:
                fields = response.dynamic_metadata.fields["affidavit"].struct_value.fields
                fields[word[0]].string_value = word[1]
            yield response


async def serve(socket: Path) -> None:
    """Serve until stopped."""
    server = grpc.aio.server()
    external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(NoOp(), server)
    well = health.aio.HealthServicer()  # type: ignore[attr-defined]  # loaded on use
    health_pb2_grpc.add_HealthServicer_to_server(well, server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    await well.set("", health_pb2.HealthCheckResponse.SERVING)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
