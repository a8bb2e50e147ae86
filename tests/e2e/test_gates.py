"""The fault matrix of ext_proc against real Envoy (facts 1.5 and 1.6), with a gate that misbehaves on purpose.

Whatever it does: no request reaches the upstream undecided, and nothing of an upstream's answer reaches the caller
that was not released. The upstream's answers hold an address that stands for everything that must not leak.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import h2.config
import h2.connection
import h2.events
import pytest

from tests.e2e import stub as gate
from tests.e2e.harness import (
    DEADLINE_SECONDS,
    Edge,
    Reply,
    call_http2,
    connection,
    parse,
    request,
    running_edge,
)
from tests.e2e.stub import PHASES, Fault
from tests.e2e.upstream import Reset, plain, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

PLANTED: Final = "jane.doe@example.com"
REPOSITORY: Final = Path(__file__).resolve().parents[2]
REQUEST_PHASES: Final = PHASES[:2]

# (fault, phase) -> status and code that the caller gets.
UNDECIDED: Final = (503, "undecided")
NOT_RELEASED: Final = (502, "response_not_released")
FAILED: Final = (503, "gate_failed")
TIMED_OUT: Final = (504, "gate_failed")

MATRIX: Final = {
    **{(fault, phase): UNDECIDED for fault in (Fault.CLOSE, Fault.ABORT_OK) for phase in REQUEST_PHASES},
    **{(fault, phase): NOT_RELEASED for fault in (Fault.CLOSE, Fault.ABORT_OK) for phase in PHASES[2:]},
    **{(fault, phase): FAILED for fault in (Fault.RAISE, Fault.ABORT, Fault.SPURIOUS, Fault.EMPTY) for phase in PHASES},
    **{(Fault.HANG, phase): TIMED_OUT for phase in PHASES},
    **{(Fault.FORBIDDEN_HEADER, phase): FAILED for phase in PHASES},
    # The word "allow" is taken in before the header is found to be forbidden; the request goes nowhere, but its
    # refusal passes the response gate, which takes it for an answer.
    (Fault.FORBIDDEN_HEADER, "request_body"): NOT_RELEASED,
    (Fault.ANSWER_THEN_CLOSE, "request_headers"): UNDECIDED,
    (Fault.ANSWER_THEN_CLOSE, "request_body"): NOT_RELEASED,
    (Fault.ANSWER_THEN_CLOSE, "response_headers"): NOT_RELEASED,
    (Fault.TWICE, "request_headers"): FAILED,
    (Fault.TWICE, "response_headers"): FAILED,
}

# Decided before it went wrong: these may have reached the upstream.
DECIDED: Final = {(Fault.ANSWER_THEN_CLOSE, "request_body"), (Fault.TWICE, "request_body")}


def _scripts() -> dict[str, dict[str, object]]:
    return {f"{fault}@{phase}": {phase: fault} for fault in Fault for phase in PHASES}


@contextmanager
def _running(folder: Path, hold_seconds: float) -> Iterator[Edge]:
    answers = {**shapes(PLANTED), "/no-answer": (Reset(),), "/too-large": (plain(PLANTED.encode() * 150000),)}
    scripts = _scripts()
    for phase in PHASES:
        scripts[f"refuse@{phase}"] = {phase: lambda _: gate.immediate(418, b'{"mine":1}', outcome="denied")}
    with running_edge(
        folder,
        answers=answers,
        scripts=scripts,
        hold_seconds=hold_seconds,
        buffer_bytes=1 << 20,
        limit_bytes=1 << 20,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """No phase times out: a busy machine may take long."""
    with _running(tmp_path_factory.mktemp("gates"), 60.0) as running:
        yield running


@pytest.fixture(scope="module")
def hasty_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """For what hangs."""
    with _running(tmp_path_factory.mktemp("hasty"), 1.0) as running:
        yield running


def _has_leaked(reply: Reply) -> bool:
    return PLANTED.encode() in reply.raw or b"jane" in reply.raw


@pytest.mark.parametrize(("fault", "phase"), MATRIX, ids=str)
def test_fault_lets_nothing_through(edge: Edge, hasty_edge: Edge, fault: Fault, phase: str) -> None:
    """Every way of going wrong, at every phase."""
    status, code = MATRIX[fault, phase]
    edge = hasty_edge if fault is Fault.HANG else edge
    marker = f"{fault}.{phase}"

    reply = edge.post(f"/apart?{marker}", script=f"{fault}@{phase}")

    assert (reply.status, reply.json()["error"]["code"]) == (status, code)
    assert reply.is_whole
    assert not _has_leaked(reply)
    if phase in REQUEST_PHASES and (fault, phase) not in DECIDED:
        assert edge.upstream.seen(marker) == []


def test_second_answer_to_the_last_request_phase(edge: Edge) -> None:
    """Decided, so the upstream may be asked; its answer does not pass a stream that went out of turn."""
    reply = edge.post("/apart", script=f"{Fault.TWICE}@request_body")

    assert reply.status in (502, 503)
    assert not _has_leaked(reply)


def test_mode_outside_the_list_is_ignored(edge: Edge) -> None:
    """A worker cannot switch the inspection of an answer off: it is asked about the body all the same."""
    script = f"{Fault.OTHER_MODE}@response_headers"

    reply = edge.post("/apart", script=script)

    assert reply.status == 200
    assert edge.stub.seen[script][-1].phases == list(PHASES)


@pytest.mark.parametrize("shape", sorted(set(shapes(PLANTED)) - {"/empty", "/reset"}))
@pytest.mark.parametrize("phase", ["response_headers", "response_body"])
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_unreleased_answer_is_replaced_whole(edge: Edge, shape: str, phase: str, version: str) -> None:
    """In whatever shape it comes (must show 3): status, head and body are ours."""
    script = f"{Fault.CLOSE}@{phase}"
    if version == "1.1":
        reply = edge.post(shape, script=script)
    else:
        reply = call_http2(edge.port, "POST", shape, {"x-stub": script}, b"{}")

    assert reply.status == 502
    assert reply.is_whole
    assert reply.json()["error"]["code"] == "response_not_released"
    assert not _has_leaked(reply)
    assert {name for name, _ in reply.headers} <= {
        ":status", "content-type", "content-length", "date", "server", "connection", "x-request-id"
    }  # fmt: skip


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/plain"), ("GET", "/empty"), ("POST", "/empty")])
def test_unreleased_answer_without_body_gets_none(edge: Edge, method: str, path: str) -> None:
    """A body after HEAD would be read as the start of the next response."""
    raw = request(method, path, b"{}" if method == "POST" else None, {"x-stub": f"{Fault.CLOSE}@response_headers"})
    with socket.create_connection(("127.0.0.1", edge.port), timeout=DEADLINE_SECONDS) as caller:
        caller.sendall(raw)
        received = b""
        while data := caller.recv(65536):
            received += data
    reply = parse(received)

    assert reply.status == 502
    assert received.endswith(b"\r\n\r\n")
    assert not _has_leaked(reply)


def test_answer_larger_than_envoy_holds(edge: Edge) -> None:
    """Released or not, it is replaced before a byte of it left."""
    for script in ("", f"{Fault.CLOSE}@response_headers"):
        reply = edge.post("/too-large", script=script)

        assert (reply.status, reply.json()["error"]["code"]) == (502, "response_too_large")
        assert not _has_leaked(reply)


def test_upstream_that_breaks_off(edge: Edge) -> None:
    """The gate saw a 200 head and no body; the caller gets 502 and nothing of it."""
    reply = edge.post("/reset", script="broken")

    assert (reply.status, reply.json()["error"]["code"]) == (502, "upstream_unavailable")
    assert not _has_leaked(reply)
    assert edge.stub.seen["broken"][-1].phases == list(PHASES[:3])


def test_upstream_that_does_not_answer(edge: Edge) -> None:
    """Envoy's own 503 passes by the gate, which is asked about it like about any answer."""
    reply = edge.post("/no-answer")

    assert (reply.status, reply.json()["error"]["code"]) == (503, "upstream_unavailable")


@pytest.mark.parametrize("phase", PHASES)
def test_refusal_of_the_gate_keeps_its_words(edge: Edge, phase: str) -> None:
    """An immediate response goes out as written in every phase, and its metadata is in the access log."""
    path = f"/refused/{phase}"

    reply = edge.post(path, script=f"refuse@{phase}")

    assert (reply.status, reply.body) == (418, b'{"mine":1}')
    assert reply.header("content-type") == "application/json"
    end = edge.log_lines(reply)[-1]
    assert (end["details"], end["outcome"]) == ("affidavit_test", "denied")
    assert bool(edge.upstream.seen(path)) == (phase not in REQUEST_PHASES)


@pytest.mark.parametrize("phase", PHASES)
def test_caller_who_leaves_during_a_phase(edge: Edge, phase: str) -> None:
    """The gate's stream is ended at once, not at the time-out."""
    script = f"{Fault.HANG}@{phase}"
    before = len(edge.stub.seen[script])
    with socket.create_connection(("127.0.0.1", edge.port), timeout=DEADLINE_SECONDS) as caller:
        caller.sendall(request("POST", "/plain", b"{}", {"x-stub": script}))
        edge.wait(lambda: len(edge.stub.seen[script]) > before and phase in edge.stub.seen[script][-1].phases)
    edge.wait(lambda: edge.stub.seen[script][-1].end != "")  # much sooner than the phase would time out

    assert edge.stub.seen[script][-1].end == "eof"


@pytest.mark.parametrize("name", ["edge", "hasty_edge"])
def test_log_lines_equal_counted_requests(name: str, request: pytest.FixtureRequest) -> None:
    """One ended line for each request that Envoy counts: the checksum of completeness."""
    edge: Edge = request.getfixturevalue(name)
    edge.wait(lambda: edge.counter("http.gate.downstream_rq_active") == 0)
    counted = edge.counter("http.gate.downstream_rq_total")

    def ended() -> int:
        return edge.settings.access_log.read_text().count('"DownstreamEnd"')

    edge.wait(lambda: ended() >= counted)  # the log is flushed every 200 ms
    time.sleep(0.5)
    assert ended() == counted


@pytest.mark.parametrize("name", ["edge", "hasty_edge"])
def test_response_gate_never_failed(name: str, request: pytest.FixtureRequest) -> None:
    """Envoy lets an answer pass when the Lua of a filter fails, so it must not."""
    edge: Edge = request.getfixturevalue(name)
    assert edge.counter("http.gate.lua.errors") == 0
    assert edge.counter("http.gate.ext_proc.failure_mode_allowed") == 0


def _speak_http2_with_trailers(listener: socket.socket) -> None:
    """A service that ends its answer with trailers; one connection after the other, until the listener closes."""
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        speaker = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        speaker.initiate_connection()
        peer.sendall(speaker.data_to_send())
        while data := peer.recv(65536):
            for event in speaker.receive_data(data):
                if isinstance(event, h2.events.StreamEnded):
                    speaker.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/json")])
                    speaker.send_data(event.stream_id, b"{}")
                    speaker.send_headers(event.stream_id, [("x-note", PLANTED)], end_stream=True)
            peer.sendall(speaker.data_to_send())
        peer.close()


@pytest.mark.parametrize(("script", "status"), [("", 200), (f"{Fault.CLOSE}@response_body", 502)])
def test_trailers_of_an_answer_are_dropped(edge: Edge, script: str, status: int) -> None:
    """Nobody inspects them, so nobody gets them; and with trailers behind it a BUFFERED body does not end the stream."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        threading.Thread(target=_speak_http2_with_trailers, args=(listener,), daemon=True).start()
        edge.register(*edge.connections, connection("trailers", url, "/h2", is_http2=True, limit_bytes=1 << 20))
        reply = call_http2(edge.port, "POST", "/h2", {"x-stub": script}, b"{}")
        edge.register(*edge.connections)

    assert (reply.status, reply.is_whole) == (status, True)
    assert not _has_leaked(reply)
    body = edge.stub.seen[script][-1].messages[-1]
    assert (body.WhichOneof("request"), body.response_body.end_of_stream) == ("response_body", False)


# Workers that die ------------------------------------------------------------------------------------------------------


def _worker(path: Path, fault: Fault, phase: str) -> subprocess.Popen[bytes]:
    """The stub as a program, ready."""
    command = [sys.executable, "-m", "tests.e2e.stub", str(path), fault, phase]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


def _end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("phase", PHASES)
def test_worker_killed_in_a_phase(tmp_path: Path, phase: str) -> None:
    """SIGKILL while the exchange is in its hands."""
    worker = _worker(tmp_path / "w.sock", Fault.HANG, phase)
    try:
        with running_edge(tmp_path, answers=shapes(PLANTED), sockets=[tmp_path / "w.sock"]) as edge:
            with socket.create_connection(("127.0.0.1", edge.port), timeout=DEADLINE_SECONDS) as caller:
                caller.sendall(request("POST", "/apart", b"{}"))
                time.sleep(0.4)
                _end(worker)
                received = b""
                while data := caller.recv(65536):
                    received += data
            reply = parse(received)

            assert (reply.status, reply.json()["error"]["code"]) == FAILED
            assert not _has_leaked(reply)
            if phase in REQUEST_PHASES:
                assert edge.upstream.received == []
    finally:
        _end(worker)


def test_one_worker_of_two_killed(tmp_path: Path) -> None:
    """The other carries on; what fails fails closed; and the dead one is taken up again when it is back."""
    sockets = [tmp_path / "w0.sock", tmp_path / "w1.sock"]
    workers = [_worker(path, Fault.CLOSE, "none") for path in sockets]
    try:
        with running_edge(tmp_path, sockets=sockets) as edge:
            assert {edge.post().status for _ in range(10)} == {200}
            _end(workers[0])
            until = time.monotonic() + 4
            statuses = []
            while time.monotonic() < until:
                statuses.append(edge.post("/plain").status)
            assert set(statuses) <= {200, 503}
            assert statuses.count(503) <= 6
            assert set(statuses[-10:]) == {200}
            workers.append(_worker(sockets[0], Fault.CLOSE, "none"))
            edge.wait(lambda: edge.counter("cluster.affidavit_workers.membership_healthy") == 2)
            _end(*workers)
            before = len(edge.upstream.received)
            assert {edge.post().status for _ in range(5)} == {503}
            assert len(edge.upstream.received) == before
    finally:
        _end(*workers)


def test_no_worker_at_all(tmp_path: Path) -> None:
    """Envoy starts all the same and refuses everything."""
    with running_edge(tmp_path, sockets=[tmp_path / "nobody.sock"]) as edge:
        reply = edge.post()

        assert (reply.status, reply.json()["error"]["code"]) == FAILED
        assert edge.upstream.received == []
