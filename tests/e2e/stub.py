"""An ext_proc server that does exactly as told in each phase, mistakes included. Also a program, to be killed.

Real grpc.aio on a Unix socket with the gRPC health service, as the gate itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as pb_grpc
from envoy.type.v3 import http_status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

PHASES: Final = ("request_headers", "request_body", "response_headers", "response_body")
SCRIPT_HEADER: Final = "x-stub"
"""A caller of the tests says here which script its exchange follows."""


class Fault(StrEnum):
    """What the stub can do instead of a proper answer."""

    CLOSE = "close"
    RAISE = "raise"
    ABORT = "abort"
    ABORT_OK = "abort_without_await"
    HANG = "hang"
    SPURIOUS = "spurious"
    EMPTY = "empty"
    TWICE = "twice"
    ANSWER_THEN_CLOSE = "answer_then_close"
    FORBIDDEN_HEADER = "forbidden_header"
    OTHER_MODE = "other_mode"


@dataclass(slots=True)
class Seen:
    """What one stream brought, and how it ended: ``eof``, ``cancelled``, or ``gone`` (a write failed)."""

    messages: list[Any] = field(default_factory=list)
    end: str = ""

    @property
    def phases(self) -> list[str]:
        """The phases asked about, in order."""
        return [str(message.WhichOneof("request")) for message in self.messages]


@dataclass(slots=True)
class Stub(pb_grpc.ExternalProcessorServicer):  # type: ignore[misc]  # generated, untyped
    """An ext_proc server by script.

    ``scripts`` by name (header x-stub of the request, ``""`` without): phase to a `Fault` or to a function from question
    to answer (or to a `Fault`); a phase that is not named is answered properly.
    """

    scripts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    seen: dict[str, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    _server: Any = None

    async def start(self, socket: Path) -> None:
        """Listen, and be well."""
        socket.unlink(missing_ok=True)
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", 64 << 20),
                ("grpc.max_send_message_length", 64 << 20),
            ]
        )
        pb_grpc.add_ExternalProcessorServicer_to_server(self, self._server)
        well = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(well, self._server)
        self._server.add_insecure_port(f"unix:{socket}")
        await self._server.start()
        await well.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Stop at once."""
        if self._server is not None:
            await self._server.stop(0)

    async def Process(self, request_iterator: AsyncIterator[Any], context: Any) -> None:  # noqa: N802 - the proto's name
        """One exchange."""
        del request_iterator
        seen, script, name = Seen(), None, ""
        try:
            while True:
                message = await context.read()
                if message is grpc.aio.EOF:
                    seen.end = "eof"
                    return
                seen.messages.append(message)
                phase = message.WhichOneof("request")
                if script is None:
                    name = _script_name(message)
                    self.seen[name].append(seen)
                    script = self.scripts.get(name, {})
                behaviour = script.get(phase)
                if behaviour is not None and not isinstance(behaviour, Fault):
                    behaviour = behaviour(message)
                if not isinstance(behaviour, Fault):
                    await context.write(proper(message) if behaviour is None else behaviour)
                elif await self._misbehave(behaviour, message, context):
                    return
        except asyncio.CancelledError:
            seen.end = "cancelled"
            raise

    async def _misbehave(self, fault: Fault, message: Any, context: Any) -> bool:
        """Returns whether the stream is to end here, with status OK."""
        match fault:
            case Fault.CLOSE:
                return True
            case Fault.RAISE:
                raise RuntimeError("as told")
            case Fault.ABORT:
                await context.abort(grpc.StatusCode.INTERNAL, "as told")
            case Fault.ABORT_OK:
                context.abort(grpc.StatusCode.INTERNAL, "never awaited").close()
                return True
            case Fault.HANG:
                pass  # nothing is said; but it listens, as ours does: whoever does not is reset a second later
            case Fault.SPURIOUS:
                phase = message.WhichOneof("request")
                other = "response_body" if phase != "response_body" else "request_headers"
                response = pb.ProcessingResponse()
                getattr(response, other).response.SetInParent()
                say(response, decision="allow", response="released")
                await context.write(response)
            case Fault.EMPTY:
                await context.write(pb.ProcessingResponse())
            case Fault.TWICE:
                await context.write(proper(message))
                await context.write(proper(message))
            case Fault.ANSWER_THEN_CLOSE:
                await context.write(proper(message))
                return True
            case Fault.FORBIDDEN_HEADER:
                await context.write(with_headers(proper(message), set_={"x-envoy-original-path": "/elsewhere"}))
            case Fault.OTHER_MODE:
                response = proper(message)
                mode = response.mode_override
                mode.request_header_mode = mode.response_header_mode = 1
                mode.request_body_mode, mode.response_body_mode = 2, 0  # BUFFERED, NONE: not on the list
                mode.request_trailer_mode = mode.response_trailer_mode = 2
                await context.write(response)
        return False


def proper(message: Any) -> pb.ProcessingResponse:
    """What a gate that allows everything answers: the words are said in the last answer of each direction."""
    response = pb.ProcessingResponse()
    phase = message.WhichOneof("request")
    common = getattr(response, phase).response
    common.SetInParent()
    asked = getattr(message, phase)
    # BUFFERED: one message is the whole body; with trailers behind it, it does not end the stream (measured).
    is_last = asked.end_of_stream or phase == "response_body"
    if phase.startswith("request") and is_last:
        say(response, decision="allow", event_id=attribute(message, "request.id") or "event")
        common.header_mutation.remove_headers.append(SCRIPT_HEADER)
    if phase.startswith("response") and is_last:
        say(response, response="released")
    if phase == "response_headers" and not is_last:
        common.header_mutation.remove_headers.append("content-length")
    if phase == "response_body":
        body = message.response_body.body
        common.header_mutation.set_headers.append(header("content-length", str(len(body))))
        common.body_mutation.body = body
    return response


def streamed_head(message: Any) -> pb.ProcessingResponse:
    """The head of an answer that streams is released; its body is asked for piece by piece."""
    response = proper(message)
    mode = response.mode_override
    mode.request_header_mode = mode.response_header_mode = 1  # SEND
    mode.request_body_mode, mode.response_body_mode = 2, 1  # BUFFERED, STREAMED
    mode.request_trailer_mode = mode.response_trailer_mode = 2  # SKIP
    return say(response, response="released", piece="0")


def say(response: pb.ProcessingResponse, /, **words: str) -> pb.ProcessingResponse:
    """Add dynamic metadata in our namespace."""
    fields = response.dynamic_metadata.fields["affidavit"].struct_value.fields
    for name, word in words.items():
        fields[name].string_value = word
    return response


def header(name: str, value: str) -> base_pb2.HeaderValueOption:
    """Set a header, whatever was there."""
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=name, raw_value=value.encode()),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def with_headers(
    response: pb.ProcessingResponse, set_: Mapping[str, str] | None = None, remove: tuple[str, ...] = ()
) -> pb.ProcessingResponse:
    """Add header mutations to an answer."""
    mutation = getattr(response, str(response.WhichOneof("response"))).response.header_mutation
    mutation.set_headers.extend(header(name, value) for name, value in (set_ or {}).items())
    mutation.remove_headers.extend(remove)
    return response


def immediate(status: int, body: bytes, details: str = "affidavit_test", **words: str) -> pb.ProcessingResponse:
    """An answer of the gate's own."""
    response = pb.ProcessingResponse(
        immediate_response=pb.ImmediateResponse(
            status=http_status_pb2.HttpStatus(code=status),  # type: ignore[arg-type]  # an open enum
            headers=pb.HeaderMutation(set_headers=[header("content-type", "application/json")]),
            body=body,
            details=details,
        )
    )
    return say(response, **words) if words else response


def attribute(message: Any, name: str) -> str:
    """An attribute as text, empty where Envoy sent none."""
    told = message.attributes.get("envoy.filters.http.ext_proc")
    return str(told.fields[name].string_value) if told is not None and name in told.fields else ""


def _script_name(message: Any) -> str:
    phase = message.WhichOneof("request")
    if phase != "request_headers":
        return ""
    found = (item.raw_value.decode() for item in message.request_headers.headers.headers if item.key == SCRIPT_HEADER)
    return next(found, "")


async def _main(socket: str, fault: str, phase: str) -> None:
    from pathlib import Path

    stub = Stub(scripts={"": {phase: Fault(fault)}})
    await stub.start(Path(socket))
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:4]))
