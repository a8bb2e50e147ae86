"""A C2SP tlog-witness in this process, honest until told otherwise; held to the same suite as a real one."""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

NAME = "witness.example/fake"


@dataclass(frozen=True, slots=True)
class Seen:
    size: int
    root: bytes


class FakeWitness:
    """The witness.

    ``misbehaviour``: ``error``, ``slow``, ``long``, ``garbage``, ``empty``, ``forged`` (another key under its name and key
    id), ``other_text`` (cosigns another checkpoint), ``other_name``, ``no_time``, ``ahead`` (409: has seen more), ``lost``
    (409 without a size), ``stubborn`` (409 with the same size for ever), or none.
    """

    def __init__(self, name: str = NAME) -> None:
        self.name = name
        self.misbehaviour = ""
        self.requests: list[bytes] = []
        self.logs: dict[str, bytes] = {}
        self.seen: dict[str, Seen] = {}
        self._key = Ed25519PrivateKey.generate()
        self._stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def vkey(self) -> str:
        key = b"\4" + self._key.public_key().public_bytes_raw()
        return f"{self.name}+{self._key_id.hex()}+{base64.b64encode(key).decode()}"

    @property
    def _key_id(self) -> bytes:
        return sha256(self.name.encode() + b"\n\4" + self._key.public_key().public_bytes_raw()).digest()[:4]

    def trust(self, origin: str, public_key: bytes) -> None:
        self.logs[origin] = public_key

    def answer(self, body: bytes) -> tuple[int, bytes]:
        """Status and body, as ``misbehaviour`` says."""
        self.requests.append(body)
        if self.misbehaviour == "slow":
            self._stop.wait(30)
        fixed = {
            "error": (500, b"no"),
            "long": (200, b"\xe2\x80\x94 a b\n" * 100_000),
            "garbage": (200, bytes(range(256))),
            "empty": (200, b""),
            "ahead": (409, b"999999999999\n"),
            "lost": (409, b"<html>conflict</html>"),
            "stubborn": (409, b"1\n"),
        }
        return fixed.get(self.misbehaviour) or self._add_checkpoint(body)

    def _add_checkpoint(self, body: bytes) -> tuple[int, bytes]:
        head, _, note = body.partition(b"\n\n")
        old_line, *proof_lines = head.decode().split("\n")
        old = int(old_line.removeprefix("old "))
        text, _, signatures = note.rpartition(b"\n\n")
        text += b"\n"
        origin, size_text, root_text, _ = text.decode().split("\n")
        size, root = int(size_text), base64.b64decode(root_text)
        if origin not in self.logs:
            return 404, b""
        if not _is_signed(text, signatures, origin, self.logs[origin]):
            return 403, b""
        if old > size:
            return 400, b""
        last = self.seen.get(origin)
        if old != (last.size if last else 0):
            return 409, f"{last.size if last else 0}\n".encode()
        proof = [base64.b64decode(line) for line in proof_lines]
        if not (is_consistent(last, Seen(size, root), proof) if last else not proof):
            return 422, b""
        self.seen[origin] = Seen(size, root)
        return 200, self._cosign(text)

    def _cosign(self, text: bytes) -> bytes:
        seconds = 0 if self.misbehaviour == "no_time" else int(datetime.now(UTC).timestamp())
        key = Ed25519PrivateKey.generate() if self.misbehaviour == "forged" else self._key
        signed = text.replace(b"\n", b"x\n", 1) if self.misbehaviour == "other_text" else text
        name = "witness.example/other" if self.misbehaviour == "other_name" else self.name
        signature = key.sign(f"cosignature/v1\ntime {seconds}\n".encode() + signed)
        blob = base64.b64encode(self._key_id + seconds.to_bytes(8, "big") + signature).decode()
        return f"\u2014 {name} {blob}\n".encode()


def is_consistent(old: Seen, new: Seen, proof: Sequence[bytes]) -> bool:
    """RFC 9162 section 2.1.4.2."""
    if old.size == new.size:
        return not proof and old.root == new.root
    path = list(proof)
    if old.size & (old.size - 1) == 0:
        path.insert(0, old.root)
    first, last = old.size - 1, new.size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    if not path:
        return False
    before = after = path[0]
    for one in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            before, after = _node(one, before), _node(one, after)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            after = _node(after, one)
        first, last = first >> 1, last >> 1
    return before == old.root and after == new.root and last == 0


def _is_signed(text: bytes, signatures: bytes, origin: str, public_key: bytes) -> bool:
    for line in signatures.decode().splitlines():
        name, _, encoded = line.removeprefix("\u2014 ").partition(" ")
        if name == origin:
            try:
                Ed25519PublicKey.from_public_bytes(public_key).verify(base64.b64decode(encoded)[4:], text)
            except InvalidSignature:
                continue
            return True
    return False


def _handler(witness: FakeWitness) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = witness.answer(body) if self.path == "/add-checkpoint" else (404, b"")
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            try:
                self.wfile.write(answer)
            except OSError:
                self.close_connection = True  # the caller did not wait

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()
