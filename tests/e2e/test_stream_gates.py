"""The fault matrix of ext_proc where the answer streams, against real Envoy, with a gate that misbehaves on purpose.

The head went out before it happened. Even so, no byte passes that the gate did not let on, a clean close included.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from tests.e2e import stub as gate
from tests.e2e.harness import Edge, Reply, call_http2, running_edge
from tests.e2e.stub import Fault
from tests.e2e.upstream import Pause, chunk, head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.e2e.upstream import Answer

PLANTED: Final = "jane.doe@example.com"
LET_ON: Final = b"data: first\n\n"
PIECES: Final = (LET_ON, *(f"data: {number} {PLANTED}\n\n".encode() for number in range(4)))
FAULTS: Final = (
    Fault.CLOSE, Fault.RAISE, Fault.ABORT, Fault.ABORT_OK, Fault.HANG, Fault.SPURIOUS, Fault.EMPTY,
    Fault.ANSWER_THEN_CLOSE,
)  # fmt: skip


def _answer(between: float) -> Answer:
    steps: list[Any] = [head("text/event-stream", "transfer-encoding: chunked\r\n")]
    for piece in PIECES:
        steps += [chunk(piece), Pause(between)]
    return (*steps, chunk(b""))


def let_on(number: int, body: bytes) -> pb.ProcessingResponse:
    """A piece is let on as ``body``, with its word."""
    response = pb.ProcessingResponse()
    response.response_body.response.body_mutation.body = body
    return gate.say(response, piece=str(number)) if body else response


def script(fault: Fault | None) -> Mapping[str, Callable[[Any], Any]]:
    """The first piece passes, then the fault; without one, all that follows is held back, and the end tells it."""
    numbers = count(1)
    held: list[bytes] = []

    def body(message: Any) -> Any:
        number, asked = next(numbers), message.response_body
        if number == 1:
            return let_on(number, asked.body)
        if fault is Fault.ANSWER_THEN_CLOSE:
            return let_on(number, b"") if number == 2 else Fault.CLOSE
        if fault is not None:
            return fault
        held.append(asked.body)
        return let_on(number, b"".join(held).upper() if asked.end_of_stream else b"")

    return {"response_headers": gate.streamed_head, "response_body": body}


def name_of(fault: Fault | None, path: str, version: str) -> str:
    """A script's own: it has a state."""
    return f"{fault}{path}/{version}"


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    answers = {"/slow": _answer(0.05), "/fast": _answer(0.0)}
    scripts = {
        name_of(fault, path, version): script(fault)
        for fault in (*FAULTS, None) for path in answers for version in ("1.1", "2")
    }  # fmt: skip
    with running_edge(
        tmp_path_factory.mktemp("streams"), answers=answers, scripts=scripts, hold_seconds=1.0,
        # Where the end comes together with all of the rest, Envoy does not always time a phase that hangs: then this
        # ends the call.
        idle_timeout_seconds=4.0,
    ) as running:  # fmt: skip
        yield running


def _call(edge: Edge, fault: Fault | None, path: str, version: str) -> Reply:
    name = name_of(fault, path, version)
    if version == "1.1":
        return edge.post(path, script=name)
    return call_http2(edge.port, "POST", path, {"x-stub": name}, b"{}")


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("path", ["/slow", "/fast"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_half_way_lets_nothing_through(edge: Edge, fault: Fault, path: str, version: str) -> None:
    reply = _call(edge, fault, path, version)

    assert (":status", "200") in reply.headers or reply.status in (200, 503, 504)
    if path == "/slow":  # where all comes at once, the first piece is all
        assert PLANTED.encode() not in reply.raw
        assert LET_ON in reply.raw, "what was let on before it happened is there"


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("path", ["/slow", "/fast"])
def test_what_is_held_back_goes_with_the_end(edge: Edge, path: str, version: str) -> None:
    reply = _call(edge, None, path, version)

    assert reply.status == 200
    assert reply.is_whole
    assert reply.body.upper() == b"".join(PIECES).upper()


def test_response_gate_never_failed(edge: Edge) -> None:
    """Envoy lets an answer pass when the Lua of a filter fails, so it must not."""
    assert edge.counter("http.gate.lua.errors") == 0
    assert edge.counter("http.gate.ext_proc.failure_mode_allowed") == 0
