"""What the rendered configuration makes of a real Envoy, with a gate that answers properly."""

from __future__ import annotations

import json
import random
import socket
import ssl
import string
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ext_proc.demo.programs import free_ports, tool
from ext_proc.edge import UNMATCHED_ROUTE, TlsSettings, connections, write_connections, write_edge
from tests.e2e import stub as gate
from tests.e2e.harness import (
    DEADLINE_SECONDS,
    Edge,
    call,
    call_http2,
    connection,
    request,
    running_edge,
)
from tests.e2e.upstream import chunk, plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORGED_ID: Final = "11111111-1111-4111-8111-111111111111"
LIMIT_BYTES: Final = 100_000
HELD_BYTES: Final = 200_000


def _certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost that also serves as client certificate and authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("localhost"),
            x509.IPAddress(ip_address("127.0.0.1")),
            x509.UniformResourceIdentifier("spiffe://test/caller"),
        ]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "cert.pem", directory / "key.pem"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


def _upgrade(message: Any) -> Any:
    """Allow an upgrade: both bodies uninspected from here on."""
    response = gate.say(gate.proper(message), decision="allow")
    mode = response.mode_override
    mode.request_header_mode = mode.response_header_mode = 1  # SEND
    mode.request_trailer_mode = mode.response_trailer_mode = 2  # SKIP; the bodies' zero is NONE
    return response


def _longer(message: Any) -> Any:
    """Change the request's body and say its new length in the same answer."""
    response = gate.proper(message)
    body = b'{"a":"a body that is longer than it was"}'
    response.request_body.response.body_mutation.body = body
    return gate.with_headers(response, {"content-length": str(len(body)), "authorization": "Bearer upstream"})


def _longer_unsaid(message: Any) -> Any:
    response = gate.proper(message)
    response.request_body.response.body_mutation.body = b'{"a":"a body that is longer than it was"}'
    return response


def _setting(name: str, value: str = "x") -> Any:
    return lambda message: gate.with_headers(gate.proper(message), {name: value})


def _removing(name: str) -> Any:
    return lambda message: gate.with_headers(gate.proper(message), remove=(name,))


FORBIDDEN: Final = (
    ":path", ":authority", ":method", ":scheme", "host", "transfer-encoding", "x-request-id", "x-forwarded-for",
    "x-forwarded-client-cert", "x-envoy-retry-on",
)  # fmt: skip
SCRIPTS: Final[dict[str, Any]] = {
    "upgrade": {
        "request_headers": _upgrade,
        "response_headers": lambda message: gate.say(gate.proper(message), response="released"),
    },
    "operation": {
        "request_headers": lambda message: gate.say(gate.proper(message), method="POST", path="/v1/registered")
    },
    "refuse": {"request_headers": lambda _: gate.immediate(403, b'{"no":1}')},
    "longer": {"request_body": _longer},
    "longer-unsaid": {"request_body": _longer_unsaid},
    **{f"set {name}": {"request_headers": _setting(name)} for name in FORBIDDEN},
    **{f"remove {name}": {"request_headers": _removing(name)} for name in FORBIDDEN},
    "remove anything": {"request_headers": _removing("x-anything")},
}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    certificate, key = _certificate(tmp_path_factory.mktemp("tls"))
    return TlsSettings("127.0.0.1", free_ports(1)[0], certificate, key, certificate)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory, tls: TlsSettings) -> Iterator[Edge]:
    with running_edge(
        tmp_path_factory.mktemp("config"),
        answers={"/large": (plain(b"x" * (HELD_BYTES + 1)),)},
        scripts=SCRIPTS,
        connections=[
            connection("refused", f"http://127.0.0.1:{free_ports(1)[0]}", "/refused", limit_bytes=LIMIT_BYTES)
        ],
        tls=tls,
        limit_bytes=LIMIT_BYTES,
        buffer_bytes=HELD_BYTES,
    ) as running:
        yield running


def _context(tls: TlsSettings, *, with_certificate: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(tls.certificate_file))
    context.set_alpn_protocols(["h2"])
    if with_certificate:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
    return context


def _question(edge: Edge, script: str = "", phase: str = "request_headers") -> Any:
    """The last question of this phase that the gate was asked."""
    messages = [m for seen in edge.stub.seen[script] for m in seen.messages if m.WhichOneof("request") == phase]
    return messages[-1]


def _header(question: Any, name: str) -> list[str]:
    return [h.raw_value.decode() for h in question.request_headers.headers.headers if h.key == name]


# The files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_tls", [False, True])
@pytest.mark.parametrize("is_required", [False, True])
def test_envoy_validates_what_is_rendered(tmp_path: Path, edge: Edge, *, with_tls: bool, is_required: bool) -> None:
    """`envoy --mode validate`, with connections of every kind and paths that need quoting."""
    certificate, key = _certificate(tmp_path)
    directory = tmp_path / 'a "quoted" $path'
    settings = type(edge.settings)(
        directory=directory,
        http_host="127.0.0.1",
        http_port=1,
        admin_host="127.0.0.1",
        admin_port=2,
        access_log=directory / "log",
        worker_sockets=(directory / "0.sock", directory / "1.sock"),
        hold_seconds=60.0,
        buffer_bytes=1 << 20,
        tls=TlsSettings("0.0.0.0", 3, certificate, key, certificate, is_required) if with_tls else None,
    )
    connections = [
        connection("plain", "http://127.0.0.1:9"),
        connection("named", "https://model.example.com", "/named", hosts=("a.example.com", "*.example.org")),
        connection("authority", "https://10.0.0.1:8443", "/authority", ca_file=certificate),
        connection("http2", "https://model.example.com", "/http2", is_http2=True, server_name="other.example.com"),
        connection("upgrades", "http://localhost:9", "/upgrades/", unsafe_allow_upgrade=True),
    ]
    paths = write_edge(settings, connections)

    done = subprocess.run(
        [
            tool("envoy"),
            "--mode",
            "validate",
            "--disable-hot-restart",
            "--reject-unknown-dynamic-fields",
            "-c",
            paths.bootstrap,
        ],
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stderr.decode()
    assert b"eprecated" not in done.stderr


def test_connection_is_added_and_removed_without_a_restart(edge: Edge) -> None:
    """Routes and clusters are taken up from the watched directory; what is removed is unmatched again."""
    added = connection("added", f"http://127.0.0.1:{edge.upstream.port}", "/added", hosts=("added.test",))
    edge.register(*edge.connections, added)
    try:
        reply = edge.post("/added/x", host="added.test:8080")

        assert reply.status == 200
        told = gate.attribute(_question(edge), "xds.route_name")
        assert told == "added"
        assert edge.upstream.received[-1].header("host") == f"127.0.0.1:{edge.upstream.port}"
        assert edge.envoy.process.poll() is None
    finally:
        edge.register(*edge.connections)


@pytest.fixture
def secure(tls: TlsSettings) -> Iterator[int]:
    """The port of a service with TLS, whose certificate is its own authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate_file, tls.key_file)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Secure) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


class _Secure(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("asked-as", self.headers["host"])
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        pass


def test_services_of_public_authorities_are_reached(
    edge: Edge, tls: TlsSettings, secure: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `ca_file`. The system's authorities do not know this service; then one that does stands in for them."""
    service = connection("secure", f"https://localhost:{secure}", "/secure")
    rejected = "cluster_manager.cds.update_rejected"
    before = edge.counter(rejected)
    try:
        edge.register(*edge.connections, service)
        assert edge.post("/secure/x").status == 503
        assert edge.counter("cluster.secure.ssl.fail_verify_error") > 0, "it is asked, and not believed"

        monkeypatch.setattr(connections, "PUBLIC_AUTHORITIES", (tls.certificate_file,))
        edge.register(*edge.connections, service)
        edge.wait(lambda: edge.post("/secure/x").status == 200)
        assert edge.counter(rejected) == before
    finally:
        edge.register(*edge.connections)


def test_a_service_behind_another_address_is_asked_under_its_own_name(
    edge: Edge, tls: TlsSettings, secure: int
) -> None:
    """As with a private endpoint: `url` only says where it is."""
    url = f"https://127.0.0.1:{secure}"
    asked = connection("private", url, "/private", ca_file=tls.certificate_file, server_name="localhost")
    try:
        edge.register(*edge.connections, asked)
        edge.wait(lambda: edge.post("/private/x").status == 200)
        assert ("asked-as", "localhost") in edge.post("/private/x").headers

        edge.register(*edge.connections, replace(asked, server_name="another.example"))
        edge.wait(lambda: edge.post("/private/x").status == 503)
        assert edge.counter("cluster.private.ssl.fail_verify_san") > 0
    finally:
        edge.register(*edge.connections)


def test_invalid_connections_leave_the_running_ones(edge: Edge) -> None:
    """Envoy keeps what it has when a file is not valid."""
    (edge.directory / "beside").write_text('{"resources": [{"@type": "type.googleapis.com/no.such.Type"}]}')
    before = edge.counter("http.gate.rds.connections.update_failure")
    (edge.directory / "beside").replace(edge.directory / "routes.json")
    edge.wait(lambda: edge.counter("http.gate.rds.connections.update_failure") > before)

    assert edge.post().status == 200

    write_connections(edge.directory, edge.connections)


def test_request_of_no_connection_is_put_to_the_gate(edge: Edge) -> None:
    """It has a route of its own, so the gate can refuse it and have it on record."""
    edge.register(connection("only", f"http://127.0.0.1:{edge.upstream.port}", "/only"))
    try:
        reply = edge.post("/onlyelse")

        assert reply.status == 404
        assert gate.attribute(_question(edge), "xds.route_name") == UNMATCHED_ROUTE
        assert edge.upstream.seen("/onlyelse") == []
    finally:
        edge.register(*edge.connections)


# Who calls ---------------------------------------------------------------------------------------------------------------


def test_request_id_of_a_caller_is_replaced(edge: Edge) -> None:
    """Even on loopback: it is the key that joins the log with the evidence."""
    reply = edge.post("/id", x_request_id=FORGED_ID)
    told = gate.attribute(_question(edge), "request.id")

    assert told != FORGED_ID
    assert _header(_question(edge), "x-request-id") == [told]
    assert [line["request_id"] for line in edge.log_lines(reply)] == [told, told]
    assert edge.upstream.received[-1].header("x-request-id") == told


def test_certificate_header_of_a_caller_is_removed_on_plain(edge: Edge) -> None:
    """Whoever could write it would be whoever they like."""
    edge.post("/xfcc", x_forwarded_client_cert="URI=spiffe://test/other")

    assert _header(_question(edge), "x-forwarded-client-cert") == []
    told = _question(edge).attributes["envoy.filters.http.ext_proc"].fields
    assert told["connection.mtls"].bool_value is False


@pytest.mark.parametrize("with_certificate", [False, True])
def test_certificate_header_on_tls_is_envoys_own(edge: Edge, tls: TlsSettings, *, with_certificate: bool) -> None:
    """A caller's is removed; with a client certificate there is exactly Envoy's. Neither reaches the service."""
    context = _context(tls, with_certificate=with_certificate)
    forged = {"x-forwarded-client-cert": "URI=spiffe://test/other", "x-request-id": FORGED_ID}
    reply = call_http2(tls.port, "POST", "/tls", forged, b"{}", context)

    question = _question(edge)
    found = _header(question, "x-forwarded-client-cert")
    told = question.attributes["envoy.filters.http.ext_proc"].fields
    assert reply.status == 200
    assert told["connection.mtls"].bool_value is with_certificate
    assert len(found) == int(with_certificate)
    assert not found or ("URI=spiffe://test/caller" in found[0] and "other" not in found[0])
    assert _header(question, "x-request-id") != [FORGED_ID]
    assert told["request.protocol"].string_value == "HTTP/2"
    assert edge.upstream.received[-1].header("x-forwarded-client-cert") is None


def _envoys_names() -> list[str]:
    """Names that nobody thought of: the hole was a list of the five that somebody had."""
    words = ("".join(random.choices(string.ascii_lowercase, k=random.randint(1, 12))) for _ in range(20))
    return [f"x-{whose}-{word}" for word in words for whose in ("envoy", "forwarded")]


def test_service_learns_nothing_of_the_caller(edge: Edge) -> None:
    """Addresses and Envoy's own headers stay here, and whatever a caller calls so: the gate may not take it off."""
    names = [*_envoys_names(), "x-forwarded-for", "x-envoy-retry-on", "x-envoy-original-path", "x-forwarded-user"]
    reply = call(edge.port, request("POST", "/private", b"{}", dict.fromkeys(names, "alice@example.com")))

    received = edge.upstream.received[-1]
    assert (reply.status, received.path) == (200, "/private")
    assert not [name for name, _ in received.headers if name.startswith(("x-forwarded", "x-envoy", "x-stub"))]
    assert "alice" not in repr(received)


def test_caller_learns_nothing_of_such_a_name(edge: Edge) -> None:
    """On the way back too: neither the gate nor the caller sees it, on HTTP/1.1 and HTTP/2 alike."""
    names = [*_envoys_names(), "x-request-id", "host"]
    extra = "".join(f"{name}: alice@example.com\r\n" for name in names)
    edge.upstream.answers["/names"] = (plain(b"{}", extra=f"{extra}x-note: kept\r\n"),)  # type: ignore[index]
    for ask in (lambda: edge.post("/names"), lambda: call_http2(edge.port, "POST", "/names", {}, b"{}")):
        reply = ask()
        question = _question(edge, phase="response_headers")
        seen = {field.key: field.raw_value.decode() for field in question.response_headers.headers.headers}

        assert (reply.status, reply.header("x-note"), seen["x-note"]) == (200, "kept", "kept")
        assert b"alice" not in reply.raw
        assert not set(names) & set(seen)
        assert not set(names) & ({name for name, _ in reply.headers} - {"x-request-id"})
        assert reply.header("x-request-id") == gate.attribute(question, "request.id")


def test_calls_of_the_gate_end_without_a_reset(edge: Edge) -> None:
    """Of each that is reset gRPC's Python server keeps memory for ever."""
    counters = ("cluster.affidavit_workers.upstream_rq_completed", "cluster.affidavit_workers.upstream_rq_tx_reset")
    completed, reset = map(edge.counter, counters)
    for _ in range(10):
        assert edge.post().status == 200
    edge.wait(lambda: edge.counter(counters[0]) >= completed + 10)
    assert edge.counter(counters[1]) == reset


def test_answers_of_envoys_own_bear_the_request_id(edge: Edge) -> None:
    """It is what a caller can name when they ask what happened."""
    assert edge.post("/refused/x").header("x-request-id")
    assert edge.post("/mine", script="refuse").header("x-request-id") == gate.attribute(
        _question(edge, "refuse"), "request.id"
    )


def test_joined_and_repeated_headers_arrive_as_they_are(edge: Edge) -> None:
    """`authorization` twice becomes one with a comma; others stay two. The gate must refuse both."""
    raw = request("POST", "/twice").replace(
        b"\r\n\r\n", b"\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\nx-a: 1\r\nx-a: 2\r\n\r\n"
    )
    call(edge.port, raw)

    assert _header(_question(edge), "authorization") == ["Bearer a,Bearer b"]
    assert _header(_question(edge), "x-a") == ["1", "2"]


def test_token_of_a_megabyte_reaches_the_gate(edge: Edge) -> None:
    """So that its refusal is on record."""
    edge.post("/token", authorization="Bearer " + "a" * 1_000_000)

    assert len(_header(_question(edge), "authorization")[0]) == 1_000_007


# One meaning for one request ------------------------------------------------------------------------------------------


def test_path_is_normalised_before_the_gate_sees_it(edge: Edge) -> None:
    edge.post("/a//b/../c%2Ed")

    assert edge.upstream.received[-1].path == "/a/c.d"
    assert _header(_question(edge), ":path") == ["/a/c.d"]


@pytest.mark.parametrize("path", ["/a%2fb", "/a%5Cb"])
def test_escaped_slash_is_refused(edge: Edge, path: str) -> None:
    reply = edge.post(path)

    assert (reply.status, reply.json()["error"]["code"]) == (400, "not_accepted")


def test_header_with_underscore_is_refused(edge: Edge) -> None:
    """Envoy's codec breaks the connection off: no gate, but a line in the log."""
    reply = edge.post("/underscore", **{"x-api-key": "a"})
    raw = request("POST", "/underscore").replace(b"\r\n\r\n", b"\r\nx_api_key: a\r\n\r\n")

    assert reply.status == 200
    assert call(edge.port, raw).status in (0, 400)
    assert len(edge.upstream.seen("/underscore")) == 1


# Bodies ----------------------------------------------------------------------------------------------------------------


def test_changed_body_with_its_length(edge: Edge) -> None:
    """The answer to request_body may set content-length to the new length, and the credential."""
    edge.post("/longer", script="longer")

    received = edge.upstream.received[-1]
    assert received.body == b'{"a":"a body that is longer than it was"}'
    assert received.header("content-length") == str(len(received.body))
    assert received.header("authorization") == "Bearer upstream"


def test_changed_body_without_its_length_goes_nowhere(edge: Edge) -> None:
    reply = edge.post("/longer-unsaid", script="longer-unsaid")

    assert reply.status >= 500
    assert edge.upstream.seen("/longer-unsaid") == []


@pytest.mark.parametrize("is_chunked", [False, True])
def test_request_larger_than_envoy_holds(edge: Edge, *, is_chunked: bool) -> None:
    """413 in JSON, put to the gate as an answer that is not an upstream's."""
    path = f"/large-request-{is_chunked}"
    body = b"x" * (HELD_BYTES + 50_000)
    if is_chunked:
        top = f"POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".encode()
        reply = call(edge.port, top + chunk(body) + chunk(b""))
    else:
        reply = edge.post(path, body=body)

    assert (reply.status, reply.json()["error"]["code"]) == (413, "request_too_large")
    assert reply.json()["type"] == "error"
    assert edge.upstream.seen(path) == []
    assert edge.stub.seen[""][-1].phases[:2] == ["request_headers", "response_headers"]


def test_answer_larger_than_envoy_holds(edge: Edge) -> None:
    reply = edge.post("/large")

    assert (reply.status, reply.json()["error"]["code"]) == (502, "response_too_large")


# Envoy's own replies -----------------------------------------------------------------------------------------------------


def test_refused_upstream(edge: Edge) -> None:
    reply = edge.post("/refused", script="refused")

    assert (reply.status, reply.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert b"127.0.0.1" not in reply.body
    told = _question(edge, "refused", "response_headers").attributes["envoy.filters.http.ext_proc"].fields
    assert told["response.code_details"].string_value.startswith("upstream_reset_before_response_started")
    assert int(told["response.flags"].number_value) == 32  # UpstreamConnectionFailure


@pytest.mark.parametrize(
    ("raw", "status", "details"),
    [
        (b"GET /no-host HTTP/1.1\r\nconnection: close\r\n\r\n", 400, "missing_host_header"),
        (b"OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 404, "absolute_path_rejected"),
        (
            b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade,close\r\nupgrade: x\r\n\r\n",
            403,
            "upgrade_failed",
        ),
    ],
)
def test_stream_that_begins_with_an_answer(edge: Edge, raw: bytes, status: int, details: str) -> None:
    """Envoy refused before the gate was asked: the gate sees the answer only, without request.id for the first two."""
    reply = call(edge.port, raw)

    assert (reply.status, reply.json()["error"]["code"]) == (status, "not_accepted")
    seen = edge.stub.seen[""][-1]
    assert seen.phases == ["response_headers", "response_body"]
    told = seen.messages[0].attributes["envoy.filters.http.ext_proc"].fields
    assert told["response.code_details"].string_value == details
    assert ("request.id" in told) == (status == 403)


def test_gates_own_refusal_is_not_rewritten(edge: Edge) -> None:
    """Its details begin with `affidavit_`."""
    reply = edge.post("/mine", script="refuse")

    assert (reply.status, reply.body) == (403, b'{"no":1}')


# What the gate may change ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deed", ["set", "remove"])
@pytest.mark.parametrize("name", FORBIDDEN)
def test_forbidden_header_mutation_is_an_error(edge: Edge, deed: str, name: str) -> None:
    """`mutation_rules.disallow_is_error`: never silently ignored."""
    marker = f"/mutation-{deed}-{name.strip(':')}"
    reply = edge.post(marker, script=f"{deed} {name}", x_forwarded_for="203.0.113.7")

    assert (reply.status, reply.json()["error"]["code"]) == (503, "gate_failed")
    assert edge.upstream.seen(marker) == []


def test_any_other_header_may_be_taken_off(edge: Edge) -> None:
    edge.post("/take-off", script="remove anything", x_anything="1")

    assert edge.upstream.received[-1].header("x-anything") is None


# Special requests ---------------------------------------------------------------------------------------------------------


def test_head(edge: Edge) -> None:
    reply = edge.get("/plain", script="head", method="HEAD")

    assert (reply.status, reply.body) == (200, b"")
    assert edge.stub.seen["head"][-1].phases == ["request_headers", "response_headers"]


def test_request_without_body_is_decided_at_its_head(edge: Edge) -> None:
    reply = edge.get("/plain", script="get")

    assert reply.status == 200
    assert edge.stub.seen["get"][-1].phases == ["request_headers", "response_headers", "response_body"]


def test_expect_100_continue(edge: Edge) -> None:
    """Envoy itself says 100; the gate sees an ordinary request."""
    with socket.create_connection(("127.0.0.1", edge.port), timeout=DEADLINE_SECONDS) as caller:
        caller.sendall(request("POST", "/expect", b"{}", {"expect": "100-continue"})[:-2])
        first = caller.recv(1024)
        caller.sendall(b"{}")
        rest = b""
        while data := caller.recv(65536):
            rest += data

    assert first.startswith(b"HTTP/1.1 100")
    assert rest.startswith(b"HTTP/1.1 200")


def _upgrade_request(path: str, script: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nhost: a\r\nx-stub: {script}\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-key: abc\r\nsec-websocket-version: 13\r\n\r\n"
    ).encode()


def test_upgrade_is_put_to_the_gate(edge: Edge) -> None:
    """Refused by the gate, with its own words; allowed with both bodies uninspected, it works."""
    with socket.create_connection(("127.0.0.1", edge.port), timeout=DEADLINE_SECONDS) as caller:
        caller.sendall(_upgrade_request("/ws-no", "refuse"))
        assert b" 403 " in caller.recv(4096)
    assert edge.upstream.seen("/ws-no") == []

    with socket.create_connection(("127.0.0.1", edge.port), timeout=DEADLINE_SECONDS) as caller:
        caller.sendall(_upgrade_request("/ws-yes", "upgrade"))
        received = b""
        while b"hello from behind" not in received:
            received += caller.recv(4096)
    assert received.startswith(b"HTTP/1.1 101")


# The log -------------------------------------------------------------------------------------------------------------------


def test_log_lines(edge: Edge) -> None:
    """A line at the start and one at the end, joined by the request id; method and path as the gate says them."""
    start, end = edge.log_lines(edge.post("/logged?secret=1", script="operation"))

    assert (start["type"], end["type"]) == ("DownstreamStart", "DownstreamEnd")
    assert start["request_id"] == end["request_id"] == gate.attribute(_question(edge, "operation"), "request.id")
    said = (end["event_id"], end["decision"], end["response"], end["route"], end["attempts"])
    assert said == ("event", "allow", "released", "model", 1)
    assert (end["method"], end["path"]) == ("POST", "/v1/registered")
    assert end["status"] == 200
    assert end["ext_proc"]["request_body_last_call_status"] == 0
    assert "secret" not in json.dumps([start, end])


@pytest.mark.parametrize("script", ["", "refuse"])
def test_log_holds_no_path_that_the_gate_did_not_say(edge: Edge, script: str) -> None:
    """A path may hold a name, or fill the disk, and nobody has to be known to send one."""
    path = "/logged/Patient-John-Smith-" + "a" * 100_000
    reply = call(edge.port, request("POST", path, b"{}", {"x-stub": script}))
    lines = edge.log_lines(reply)

    assert [(line["method"], line["path"]) for line in lines] == [(None, None)] * 2
    assert "Smith" not in edge.settings.access_log.read_text()
    assert max(len(json.dumps(line)) for line in lines) < 2000


def test_lines_equal_requests(edge: Edge) -> None:
    """Requests that never reach the gate have a line too, and Envoy counts no more than there are lines."""
    call(edge.port, b"NOT HTTP AT ALL\r\n\r\n")

    def is_even() -> bool:
        lines = edge.settings.access_log.read_text().splitlines()
        ended = sum(json.loads(line)["type"] == "DownstreamEnd" for line in lines)
        return ended == edge.counter("http.gate.downstream_rq_total")

    edge.wait(is_even)
