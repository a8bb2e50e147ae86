"""A real Envoy with our real configuration between a scripted ext_proc server and a scripted upstream.

Everything is on loopback with free ports, is stopped by process id, and has a time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import h2.connection
import h2.events

from ext_proc.demo.envoy import start_envoy
from ext_proc.demo.programs import free_ports
from ext_proc.edge import EdgeConnection, EdgeSettings, TlsSettings, write_connections, write_edge
from tests.e2e.stub import Stub
from tests.e2e.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path

    from ext_proc.demo.programs import Program

DEADLINE_SECONDS: Final = 15.0
"""For any single wait: a test that takes longer is broken."""


class LoopThread:
    """An event loop in a thread of its own, so that tests can stay plain functions."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run to the end, in its loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_SECONDS)

    def stop(self) -> None:
        """Cancel what is left and end the thread."""
        self.run(_cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_SECONDS)
        self._loop.close()


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller got. ``raw`` is every byte, head included; ``is_whole`` is false where the connection broke."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    raw: bytes
    is_whole: bool = True

    def header(self, name: str) -> str | None:
        """The first value of ``name``."""
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def call(port: int, raw: bytes, *, timeout_seconds: float = DEADLINE_SECONDS) -> Reply:
    """Send exact bytes to a port of loopback and read one response (``connection: close`` is expected in ``raw``)."""
    received = b""
    is_whole = True
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds) as caller:
        with contextlib.suppress(ConnectionError):
            caller.sendall(raw)
        try:
            while data := caller.recv(65536):
                received += data
        except ConnectionError:
            is_whole = False
    return parse(received, is_whole=is_whole)


def parse(raw: bytes, *, is_whole: bool = True) -> Reply:
    """Bytes of one HTTP/1.1 response, interim ones before it included."""
    rest = raw
    while True:
        top, _, rest = rest.partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1]) if first.startswith("HTTP/") else 0
        if not 100 <= status < 200 or status == 101:
            break
    headers = tuple((n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines))
    if ("transfer-encoding", "chunked") in headers:
        rest, is_whole = _unchunk(rest)
    length = next((int(v) for n, v in headers if n == "content-length"), None)
    if length is not None and len(rest) < length:
        is_whole = False
    return Reply(status, headers, rest, raw, is_whole)


def _unchunk(data: bytes) -> tuple[bytes, bool]:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size or b"0", 16)
        if not count:
            return body, True
        body, data = body + data[:count], data[count + 2 :]
    return body, False


def request(
    method: str = "POST",
    path: str = "/",
    body: bytes | None = b"{}",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A plain HTTP/1.1 request that asks for the connection to be closed."""
    fields = {"host": "gateway.test", "connection": "close", **(headers or {})}
    if body is not None:
        fields |= {"content-type": "application/json", "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + (body or b"")


@dataclass(slots=True)
class Edge:
    """Everything that a test touches."""

    directory: Path
    settings: EdgeSettings
    envoy: Program
    stub: Stub
    upstream: Upstream
    loop: LoopThread
    connections: tuple[EdgeConnection, ...]

    @property
    def port(self) -> int:
        """The plain listener's port."""
        return self.settings.http_port

    def post(self, path: str = "/plain", script: str = "", body: bytes = b'{"a":1}', **headers: str) -> Reply:
        """POST ``body``; ``script`` names what the stub does about it."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return call(self.port, request("POST", path, body, {"x-stub": script, **fields}))

    def get(self, path: str = "/plain", script: str = "", method: str = "GET", **headers: str) -> Reply:
        """A request without a body."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return call(self.port, request(method, path, None, {"x-stub": script, **fields}))

    def register(self, *connections: EdgeConnection) -> None:
        """Replace the connections of the running Envoy, and wait until it has taken them up."""
        before = self.counter("http.gate.rds.connections.update_success")
        write_connections(self.directory, connections)
        self.wait(lambda: self.counter("http.gate.rds.connections.update_success") > before)

    def counter(self, name: str) -> int:
        """One of Envoy's counters or gauges."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.settings.admin_port}/stats?filter=^{name}$", timeout=5
        ) as answer:
            text = answer.read().decode()
        return int(text.rpartition(":")[2]) if text.strip() else 0

    def log_lines(self, reply: Reply, count: int = 2) -> list[dict[str, Any]]:
        """Lines of the access log about this exchange, once there are ``count`` (one at the start, one at the end)."""
        found: list[dict[str, Any]] = []

        def has_come() -> bool:
            lines = self.settings.access_log.read_text().splitlines()
            found[:] = [line for line in map(json.loads, lines) if line["request_id"] == reply.header("x-request-id")]
            return len(found) >= count

        self.wait(has_come)
        return found

    def wait(self, is_so: Any) -> None:
        """Until ``is_so()``, or fail."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.05)


@contextlib.contextmanager
def running_edge(
    directory: Path,
    *,
    answers: Mapping[str, Any] | None = None,
    scripts: dict[str, Mapping[str, Any]] | None = None,
    connections: Sequence[EdgeConnection] | None = None,
    sockets: Sequence[Path] | None = None,
    tls: TlsSettings | None = None,
    hold_seconds: float = 60.0,
    buffer_bytes: int = 4 << 20,
    limit_bytes: int = 4 << 20,
    idle_timeout_seconds: float = 600.0,
) -> Iterator[Edge]:
    """Envoy, stub and upstream, ready; all stopped at the end. Envoy's log is shown where a test fails.

    Args:
        directory: short enough for Unix sockets (108 bytes).
        answers: the upstream's, by path.
        scripts: the stub's, by name.
        connections: besides the default one, which is named ``model`` and takes everything.
        sockets: of ext_proc servers of the test's own instead of the stub.
        tls: a TLS listener.
        hold_seconds: the phases' time-out.
        buffer_bytes: Envoy's limit for answers.
        limit_bytes: the default connection's limit, either way.
        idle_timeout_seconds: the default connection's.
    """
    loop, stub, upstream = LoopThread(), Stub(scripts or {}), Upstream(answers or {})
    envoy: Program | None = None
    try:
        loop.run(upstream.start())
        if sockets is None:
            sockets = [directory / "stub.sock"]
            loop.run(stub.start(sockets[0]))
        settings = EdgeSettings(
            directory=directory,
            http_host="127.0.0.1",
            http_port=free_ports(1)[0],
            admin_host="127.0.0.1",
            admin_port=free_ports(1)[0],
            access_log=directory / "access.jsonl",
            worker_sockets=tuple(sockets),
            hold_seconds=hold_seconds,
            buffer_bytes=buffer_bytes,
            tls=tls,
        )
        all_connections = (
            connection(
                "model",
                f"http://127.0.0.1:{upstream.port}",
                limit_bytes=limit_bytes,
                idle_timeout_seconds=idle_timeout_seconds,
            ),
            *(connections or ()),
        )
        paths = write_edge(settings, all_connections)
        admin = f"http://127.0.0.1:{settings.admin_port}"
        envoy = start_envoy(paths.bootstrap, admin, directory / "logs")
        yield Edge(directory, settings, envoy, stub, upstream, loop, all_connections)
    except BaseException:
        if envoy is not None:
            print(envoy.log.read_text(errors="replace")[-8000:])
        raise
    finally:
        if envoy is not None:
            envoy.stop()
        loop.run(stub.stop())
        loop.run(upstream.stop())
        loop.stop()


def connection(
    name: str, url: str, path_prefix: str = "/", *, limit_bytes: int = 4 << 20, **more: Any
) -> EdgeConnection:
    """A connection with the tests' defaults."""
    return EdgeConnection(
        **{
            "name": name,
            "hosts": ("*",),
            "path_prefix": path_prefix,
            "url": url,
            "ca_file": None,
            "connect_timeout_seconds": 2.0,
            "request_limit_bytes": limit_bytes,
            "response_limit_bytes": limit_bytes,
            "idle_timeout_seconds": 600.0,
            **more,
        }
    )


def call_http2(
    port: int,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    tls: Any = None,
) -> Reply:
    """One request over HTTP/2 with prior knowledge (or ALPN, with an `ssl.SSLContext` as ``tls``)."""
    channel: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS)
    if tls is not None:
        channel = tls.wrap_socket(channel, server_hostname="localhost")
    speaker = h2.connection.H2Connection()
    speaker.initiate_connection()
    speaker.increment_flow_control_window(1 << 24)
    scheme = "http" if tls is None else "https"
    fields = [(":method", method), (":path", path), (":authority", "gateway.test"), (":scheme", scheme)]
    speaker.send_headers(1, [*fields, *(headers or {}).items()], end_stream=not body)
    if body:
        speaker.send_data(1, body, end_stream=True)  # tests send less than one frame
    found: dict[str, Any] = {"status": 0, "headers": [], "body": b"", "is_whole": False}
    with channel:
        channel.sendall(speaker.data_to_send())
        while not found["is_whole"] and (data := channel.recv(65536)):
            for event in speaker.receive_data(data):
                _take(event, found, speaker)
            if found["status"] == _BROKEN:
                break
            channel.sendall(speaker.data_to_send())
    everything = repr(found["headers"]).encode() + found["body"]
    return Reply(found["status"], tuple(found["headers"]), found["body"], everything, found["is_whole"])


_BROKEN: Final = -1


def _take(event: Any, found: dict[str, Any], speaker: Any) -> None:
    match event:
        case h2.events.ResponseReceived() | h2.events.TrailersReceived():
            named = [(_text(name), _text(value)) for name, value in event.headers]
            found["headers"] += named
            found["status"] = next((int(value) for name, value in named if name == ":status"), found["status"])
        case h2.events.DataReceived():
            found["body"] += event.data
            speaker.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        case h2.events.StreamEnded():
            found["is_whole"] = True
        case h2.events.StreamReset() | h2.events.ConnectionTerminated():
            found["status"] = _BROKEN


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
