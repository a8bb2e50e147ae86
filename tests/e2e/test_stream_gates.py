"""The fault matrix of ext_proc where the answer streams, against real Envoy, with a gate that misbehaves on purpose.

The head went out before it happened. Even so, no byte passes that the gate did not let on, a clean close included.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from tests.e2e import stub as gate
from tests.e2e.harness import Edge, Reply, call_http2, running_edge
from tests.e2e.stub import Fault
from tests.e2e.upstream import Pause, Until, chunk, head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.e2e.upstream import Answer

PLANTED: Final = "jane.doe@example.com"
LET_ON: Final = b"data: first\n\n"
PIECES: Final = (LET_ON, *(f"data: {number} {PLANTED}\n\n".encode() for number in range(4)))
FAULTS: Final = (
    Fault.CLOSE, Fault.RAISE, Fault.ABORT, Fault.ABORT_OK, Fault.HANG, Fault.SPURIOUS, Fault.EMPTY,
    Fault.ANSWER_THEN_CLOSE,
)  # fmt: skip


def _answer(*after_the_first: Pause | Until) -> Answer:
    steps: list[Any] = [head("text/event-stream", "transfer-encoding: chunked\r\n")]
    for number, piece in enumerate(PIECES):
        steps += [chunk(piece), *(after_the_first[:1] if number == 0 else after_the_first[1:])]
    return (*steps, chunk(b""))


def let_on(number: int, body: bytes) -> pb.ProcessingResponse:
    """A piece is let on as ``body``, with its word."""
    response = pb.ProcessingResponse()
    response.response_body.response.body_mutation.body = body
    return gate.say(response, piece=str(number)) if body else response


def script(fault: Fault | None, on_first: Callable[[], object]) -> Mapping[str, Callable[[Any], Any]]:
    """The first piece passes, then the fault; without one, all that follows is held back, and the end tells it."""
    numbers = count(1)
    held: list[bytes] = []

    def body(message: Any) -> Any:
        number, asked = next(numbers), message.response_body
        if number == 1:
            on_first()
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


@contextmanager
def _running(folder: Path, hold_seconds: float) -> Iterator[Edge]:
    firsts: list[int] = []  # one for each first piece that was asked about, until the upstream goes on

    def has_asked() -> bool:
        return bool(firsts) and firsts.pop() == 1

    answers = {"/slow": _answer(Until(has_asked), Pause()), "/fast": _answer()}
    scripts = {
        name_of(fault, path, version): script(fault, partial(firsts.append, 1) if path == "/slow" else lambda: None)
        for fault in (*FAULTS, None) for path in answers for version in ("1.1", "2")
    }  # fmt: skip
    with running_edge(
        folder, answers=answers, scripts=scripts, hold_seconds=hold_seconds,
        # Where the end comes together with all of the rest, Envoy does not always time a phase that hangs: then this
        # ends the call.
        idle_timeout_seconds=4 * hold_seconds,
    ) as running:  # fmt: skip
        yield running


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """No phase times out: a busy machine may take long."""
    with _running(tmp_path_factory.mktemp("streams"), 60.0) as running:
        yield running


@pytest.fixture(scope="module")
def hasty_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """For what hangs."""
    with _running(tmp_path_factory.mktemp("hasty"), 1.0) as running:
        yield running


def _call(edge: Edge, fault: Fault | None, path: str, version: str) -> Reply:
    name = name_of(fault, path, version)
    if version == "1.1":
        return edge.post(path, script=name)
    return call_http2(edge.port, "POST", path, {"x-stub": name}, b"{}")


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("path", ["/slow", "/fast"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_half_way_lets_nothing_through(
    edge: Edge, hasty_edge: Edge, fault: Fault, path: str, version: str
) -> None:
    reply = _call(hasty_edge if fault is Fault.HANG else edge, fault, path, version)

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


@pytest.mark.parametrize("name", ["edge", "hasty_edge"])
def test_response_gate_never_failed(name: str, request: pytest.FixtureRequest) -> None:
    """Envoy lets an answer pass when the Lua of a filter fails, so it must not."""
    edge: Edge = request.getfixturevalue(name)
    assert edge.counter("http.gate.lua.errors") == 0
    assert edge.counter("http.gate.ext_proc.failure_mode_allowed") == 0
