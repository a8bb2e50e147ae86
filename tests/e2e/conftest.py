"""The whole gateway for the tests of this folder: one with a scripted upstream, one with the real model."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.app import registry
from ext_proc.app.serving.shipping import store_of
from ext_proc.audit import reader
from ext_proc.audit.seal import read_events
from ext_proc.config import load
from ext_proc.demo.stack import Stack, StackOptions
from tests.e2e.harness import LoopThread, Reply, call
from tests.e2e.upstream import Upstream, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLANTED = "ada.lovelace@example.net"
CHAT = "/v1/chat/completions"


@dataclass
class Gateway:
    """A running gateway, and how to ask it and look into its evidence."""

    stack: Stack
    upstream: Upstream | None
    analyst: str
    _read: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def chat(self, text: str = "hello", path: str = CHAT, token: str | None = None, **more: Any) -> Reply:
        """A chat request as the analyst (or with another token)."""
        body = {"model": "demo", "messages": [{"role": "user", "content": text}], **more}
        return self.send("POST", path, json.dumps(body).encode(), self.analyst if token is None else token)

    def send(self, method: str, path: str, body: bytes = b"", token: str | None = None, **headers: str) -> Reply:
        """Any request; header names have underscores for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body:
            named.setdefault("content-type", "application/json")
        if token is not None:
            named["authorization"] = f"Bearer {token}"
        fields = {"host": "gateway.test", "connection": "close", **named}
        if body or method == "POST":
            fields["content-length"] = str(len(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return self.raw(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)

    def raw(self, raw: bytes) -> Reply:
        """Exact bytes."""
        return call(self.stack.ports["http"], raw, timeout_seconds=60)

    def records(self, exchange_id: str, *kinds: str, seconds: float = 30) -> list[tuple[str, dict[str, Any]]]:
        """The leaves of these kinds of one exchange, once they are in the bucket."""
        deadline = time.monotonic() + seconds
        while True:
            found = {leaf["kind"]: (key, leaf) for key, leaf in self.read() if leaf.get("exchange_id") == exchange_id}
            if all(kind in found for kind in kinds):
                return [found[kind] for kind in kinds]
            assert time.monotonic() < deadline, f"{exchange_id}: only {sorted(found)} in the bucket"
            time.sleep(0.05)

    def outcome(self, reply: Reply) -> dict[str, Any]:
        """The outcome record of a reply."""
        exchange_id = reply.header("x-affidavit-exchange")
        assert exchange_id, reply
        [(_, leaf)] = self.records(exchange_id, "inference.outcome")
        return leaf

    def leaves(self) -> list[dict[str, Any]]:
        """Every leaf in the bucket."""
        return [leaf for _, leaf in self.read()]

    def read(self) -> list[tuple[str, dict[str, Any]]]:
        """Every leaf with its object. An object never changes, so each is fetched once."""
        for key in self.store.keys("v1/events/"):
            if key not in self._read and key.endswith(".zst"):  # tests put other things there, too
                self._read[key] = [json.loads(line) for line in read_events(self.store.fetch(key))]
        return [(key, leaf) for key, leaves in self._read.items() for leaf in leaves]

    def wait_for(self, is_so: Any, what: str, seconds: float = 30) -> Any:
        """Wait until ``is_so()`` is true (or not None), and give it."""
        deadline = time.monotonic() + seconds
        while not (found := is_so()):
            assert time.monotonic() < deadline, what
            time.sleep(0.1)
        return found

    def payloads(self, record: tuple[str, dict[str, Any]]) -> dict[str, bytes]:
        """One leaf's payloads in clear."""
        config, _ = load(self.stack.config)
        keys = registry.keyring(config)
        return reader.payloads(self.store, keys, *record)

    @cached_property
    def store(self) -> Any:
        """The bucket."""
        return store_of(load(self.stack.config)[0])


@contextmanager
def running_gateway(
    folder: Path, upstream: Upstream | None, *, workers: int = 2, **connection: Any
) -> Iterator[Gateway]:
    """A gateway before ``upstream`` (None: the real model)."""
    loop = LoopThread()
    try:
        url = None
        if upstream is not None:
            loop.run(upstream.start())
            url = f"http://127.0.0.1:{upstream.port}"
        stack = Stack(folder, StackOptions(upstream=url, workers=workers, connection=connection))
        stack.start()
        try:
            yield Gateway(stack, upstream, stack.token("ada", ["analysts"]))
        finally:
            stack.stop()
    finally:
        if upstream is not None:
            loop.run(upstream.stop())
        loop.stop()


def operations(*paths: str) -> list[dict[str, str]]:
    """Chat at each of these paths."""
    return [{"path": path, "protocol": "openai.chat"} for path in paths]


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """With a scripted upstream: chat at the usual path, and at one path for each shape of answer."""
    answers = {f"/v1/shape{name}": answer for name, answer in shapes(f"write to {PLANTED} now").items()}
    upstream = Upstream(answers)
    models = [
        {"method": "GET", "path": "/v1/models", "protocol": "openai.models"},
        {"method": "HEAD", "path": "/v1/models-head", "protocol": "openai.models"},
    ]
    with running_gateway(
        tmp_path_factory.mktemp("gateway"),
        upstream,
        operations=operations(CHAT, *answers) + models,
        request_limit_bytes=1024 * 1024,
        response_limit_bytes=2 * 1024 * 1024,
    ) as made:
        yield made


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """With the real model."""
    with running_gateway(tmp_path_factory.mktemp("real"), None) as made:
        yield made
