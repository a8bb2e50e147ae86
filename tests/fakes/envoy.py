"""Envoy's side of a stream: questions as protos, and a gRPC client that can be as rude as Envoy never is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

EXCHANGE: Final = "3f6f9f8c-8f0b-4b1e-9a56-0c8f4e6b7a10"
REQUEST: Final = (
    (":method", "POST"),
    (":path", "/v1/chat/completions"),
    (":authority", "gate.example.com"),
    ("content-type", "application/json"),
    ("authorization", "Bearer callers-own"),
)
STREAM: Final = ((":status", "200"), ("content-type", "text/event-stream"))
RESPONSE: Final = ((":status", "200"), ("content-type", "application/json"))
MAX_BYTES: Final = 32 * 1024 * 1024
PATIENCE_SECONDS: Final = 20.0


def _head(field: Any, headers: Sequence[tuple[str, str]], *, is_last: bool) -> None:
    for name, value in headers:
        field.headers.headers.add(key=name, raw_value=value.encode("latin-1"))
    field.end_of_stream = is_last


def _tell(message: pb.ProcessingRequest, told: Mapping[str, str | float | bool]) -> pb.ProcessingRequest:
    fields = message.attributes["envoy.filters.http.ext_proc"].fields
    for name, value in told.items():
        if isinstance(value, bool):
            fields[name].bool_value = value
        elif isinstance(value, str):
            fields[name].string_value = value
        else:
            fields[name].number_value = value
    return message


def request_headers(
    headers: Sequence[tuple[str, str]] = REQUEST, *, is_last: bool = False, **told: str | float | bool
) -> pb.ProcessingRequest:
    """The request's head; ``told`` are attributes (``__`` for a dot)."""
    message = pb.ProcessingRequest()
    _head(message.request_headers, headers, is_last=is_last)
    known: dict[str, str | float | bool] = {
        "request.id": EXCHANGE,
        "source.address": "10.0.0.1:4000",
        "xds.route_name": "demo",
    }
    return _tell(message, known | {name.replace("__", "."): value for name, value in told.items()})


def request_body(body: bytes = b"{}") -> pb.ProcessingRequest:
    """The whole request body."""
    return pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=True))


def response_headers(
    headers: Sequence[tuple[str, str]] = RESPONSE, *, is_last: bool = False, details: str = "via_upstream"
) -> pb.ProcessingRequest:
    """The answer's head; with other ``details`` than these, a reply of Envoy's own."""
    message = pb.ProcessingRequest()
    _head(message.response_headers, headers, is_last=is_last)
    told: dict[str, str | float | bool] = {
        "request.id": EXCHANGE,
        "xds.route_name": "demo",
        "response.code_details": details,
        "response.flags": 0.0,
        "upstream.address": "10.0.0.9:443",
    }
    return _tell(message, told)


def local_reply(status: int = 504, *, is_last: bool = False) -> pb.ProcessingRequest:
    """Envoy answers in our place."""
    return response_headers(((":status", str(status)),), is_last=is_last, details="stream_idle_timeout")


def response_body(body: bytes = b"{}") -> pb.ProcessingRequest:
    """The whole answer."""
    return pb.ProcessingRequest(response_body=pb.HttpBody(body=body, end_of_stream=True))


def piece(body: bytes, *, is_last: bool = False) -> pb.ProcessingRequest:
    """The next bytes of an answer that streams."""
    return pb.ProcessingRequest(response_body=pb.HttpBody(body=body, end_of_stream=is_last))


def trailers() -> pb.ProcessingRequest:
    """A phase that is not configured."""
    return pb.ProcessingRequest(request_trailers=pb.HttpTrailers())


def metadata(answer: pb.ProcessingResponse) -> dict[str, str]:
    """What an answer says to the gates."""
    return {n: str(v.string_value) for n, v in answer.dynamic_metadata.fields["affidavit"].struct_value.fields.items()}


class Exchange:
    """One stream. Every wait has an end."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._is_left = False

    async def send(self, *messages: pb.ProcessingRequest) -> None:
        """Write questions without waiting for answers."""
        for message in messages:
            await self._call.write(message)

    async def answer(self) -> Any:
        """The next answer, or None where the stream is over."""
        if self._is_left:
            return None
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                message = await self._call.read()
            except grpc.aio.AioRpcError:
                return None
        return None if message is grpc.aio.EOF else message  # type: ignore[attr-defined]  # the stubs leave it out

    async def ask(self, message: pb.ProcessingRequest) -> Any:
        """One question, its answer."""
        await self.send(message)
        return await self.answer()

    async def half_close(self) -> None:
        """Nothing more will be asked."""
        await self._call.done_writing()

    def leave(self) -> None:
        """Reset the stream."""
        self._is_left = True
        self._call.cancel()

    async def status(self) -> grpc.StatusCode:
        """How the stream ended."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            code: grpc.StatusCode = await self._call.code()
        return code


class FakeEnvoy:
    """A client of the gate's socket, inside ``async with``."""

    def __init__(self, socket: Path) -> None:
        options = [("grpc.max_receive_message_length", MAX_BYTES), ("grpc.max_send_message_length", MAX_BYTES)]
        self.channel = grpc.aio.insecure_channel(f"unix:{socket}", options=options)
        self._stub: Any = pb_grpc.ExternalProcessorStub(self.channel)

    def begin(self) -> Exchange:
        """A new stream."""
        return Exchange(self._stub.Process())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close()
