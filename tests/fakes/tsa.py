"""A real time-stamping authority: ``openssl ts`` behind HTTP on loopback. It misbehaves when told to.

Only the signer's certificate is embedded in its answers (no ``certs`` in its configuration).
"""

from __future__ import annotations

import subprocess
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_CONFIGURATION = """
[tsa]
default_tsa = here
[here]
dir = {folder}
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/signer.pem
signer_key = {folder}/signer.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""


class FakeTsa:
    """The authority. ``misbehaviour``: ``error`` (500), ``garbage``, ``slow``, ``trickle``, ``long``, ``replay`` (its
    first answer again), ``redirect``, or none."""

    def __init__(self, folder: Path, name: str = "tsa") -> None:
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.misbehaviour = ""
        self.queries: list[bytes] = []
        self.root, self.signer = self._make_certificates(name)
        self._first = b""
        self._stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/tsr"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def stamp(self, query: bytes) -> bytes:
        """The answer to a query (TimeStampReq): openssl's own."""
        asked = self.folder / f"{threading.get_ident()}.tsq"
        asked.write_bytes(query)
        command = ("openssl", "ts", "-reply", "-config", self.folder / "tsa.cnf", "-queryfile", asked)
        done = subprocess.run(command, capture_output=True, check=True, timeout=30)
        self._first = self._first or done.stdout
        return done.stdout

    def wait(self, seconds: float) -> None:
        """As long as told, or until the end."""
        self._stop.wait(seconds)

    def answer(self, query: bytes) -> tuple[int, bytes]:
        """Status and body, as ``misbehaviour`` says."""
        self.queries.append(query)
        if self.misbehaviour == "error":
            return 500, b"no"
        if self.misbehaviour == "redirect":
            return 307, b""
        if self.misbehaviour == "garbage":
            return 200, b"<html>captive portal</html>"
        if self.misbehaviour == "long":
            return 200, bytes(1024 * 1024)
        if self.misbehaviour == "slow":
            self.wait(30)
        if self.misbehaviour == "replay":
            return 200, self._first
        return 200, self.stamp(query)

    def _make_certificates(self, name: str) -> tuple[x509.Certificate, x509.Certificate]:
        root_key, signer_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        root = _certificate(f"{name} root", root_key, f"{name} root", root_key, None)
        signer = _certificate(f"{name} signer", signer_key, f"{name} root", root_key, ExtendedKeyUsageOID.TIME_STAMPING)
        (self.folder / "signer.pem").write_bytes(signer.public_bytes(Encoding.PEM))
        key = signer_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / "signer.key").write_bytes(key)
        (self.folder / "serial").write_text("01\n")
        (self.folder / "tsa.cnf").write_text(_CONFIGURATION.format(folder=self.folder))
        return root, signer


def _handler(tsa: FakeTsa) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Type"] != "application/timestamp-query":
                self.send_error(415)
                return
            status, body = tsa.answer(query)
            self.send_response(status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            if status == 307:
                self.send_header("Location", tsa.url)
            self.end_headers()
            try:
                if tsa.misbehaviour == "trickle":
                    for byte in body:
                        self.wfile.write(bytes([byte]))
                        tsa.wait(0.2)
                else:
                    self.wfile.write(body)
            except OSError:
                self.close_connection = True  # the caller did not wait

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    purpose: x509.ObjectIdentifier | None,
) -> x509.Certificate:
    now = datetime.now(UTC)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, issuer)]
    made = (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=purpose is None, path_length=None), critical=True)
    )
    if purpose is not None:
        made = made.add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
    return made.sign(issuer_key, hashes.SHA256())
