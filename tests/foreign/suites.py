"""Two third parties' tests of a gateway that masks, and what they need around a whole gateway of ours.

``canarywire`` (0.1.0a1) sends values that may not pass, reads what the upstream got, cuts what it answers at every
place, and breaks parts of the gateway meanwhile. ``pii-leak-benchmark`` (0.6.0) does the like, and puts values into the
answer that were never asked about. Both are the upstream themselves. Neither is changed or patched: each runs as the
program that its authors ship, in an environment of its own (`scripts/pins`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from ext_proc.app.process import end_with_parent
from ext_proc.demo import servers
from ext_proc.demo.programs import TOOLS, answers, free_ports, tool
from ext_proc.demo.stack import Stack, StackOptions
from tests.e2e.harness import LoopThread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODEL: Final = "canarywire-test"
"""The name that canarywire's own templates ask for."""
SECRETS_MASKED: Final = "secrets-masked"
"""A model of which the policy says to mask secrets; the policy that we ship refuses a request with one."""
_SECONDS: Final = 280
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """A gateway whose upstream is a port that nobody listens on yet: the suite will."""

    stack: Stack
    token: str
    upstream_port: int
    keyed_port: int
    """The same gateway for a caller that has no way to hold a token: see `keyed`."""


@contextlib.contextmanager
def place(folder: Path, *, is_masking: bool) -> Iterator[Place]:
    """A gateway with the shipped policy (`write_policy`)."""
    [upstream] = free_ports(1)
    loop = LoopThread()
    write_policy(folder / "policy", is_masking=is_masking)
    options = StackOptions(upstream=f"http://127.0.0.1:{upstream}", workers=1, policy=folder / "policy")
    stack = Stack(folder, options)
    stack.start()
    try:
        token = stack.token("ada", ["analysts"])
        server = loop.run(keyed(stack.ports["http"], token))
        yield Place(stack, token, upstream, server.sockets[0].getsockname()[1])
        server.close()
    finally:
        loop.stop()
        stack.stop()


"""pii-leak-benchmark's social security numbers are of areas that are never issued, so that they are nobody's. Ours tells
them from real ones, and looks for them only after *SSN*: who has such numbers adds a rule, as here."""


def write_policy(folder: Path, *, is_masking: bool) -> None:
    """The policy that we ship, for two more models; or one that lets everything pass in clear."""
    shutil.copytree(servers.POLICY_SOURCES, folder)
    path = folder / "data.json"
    data = json.loads(path.read_text())
    models = data["inference"]["models"]
    models |= {MODEL: models["demo"], SECRETS_MASKED: models["demo"]}
    if not is_masking:
        data["inference"]["masking"] = {direction: {"*": "allow"} for direction in ("request", "response")}
    path.write_text(json.dumps(data))
    path = folder / "inference" / "concerns" / "secrets" / "secrets.rego"
    shipped = '\tstartswith(entity, "SECRET_")\n'
    assert path.read_text().count(shipped) == 1
    milder = f'{shipped}\tinput.request.model != "{SECRETS_MASKED}"\n'
    path.write_text(path.read_text().replace(shipped, milder))


async def keyed(port: int, token: str) -> asyncio.Server:
    """What a caller's side-car does: put the token into each request, and pass everything else on as it is.

    canarywire has no setting for a key. Requests have a length; a connection serves one of them.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
            first, _, rest = head.partition(b"\r\n")
            fields = b"".join(
                line + b"\r\n" for line in rest.split(b"\r\n") if line and not line.lower().startswith(b"connection:")
            )
            added = b"authorization: Bearer " + token.encode() + b"\r\nconnection: close\r\n\r\n"
            answers_, asks = await asyncio.open_connection("127.0.0.1", port)
            asks.write(first + b"\r\n" + fields + added + body)
            while data := await answers_.read(65536):
                writer.write(data)
                await writer.drain()
            asks.close()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


# The programs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """How a program ended, and what it wrote."""

    status: int
    said: str
    folder: Path

    def report(self, name: str) -> Any:
        """A file of JSON that it wrote."""
        path = self.folder / name
        assert path.exists(), self.said
        return json.loads(path.read_text())


def ran(folder: Path, *command: str | Path, **environment: str) -> Ran:
    """Run it to its end in ``folder``."""
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout + done.stderr, folder)


@contextlib.contextmanager
def capturing(folder: Path, port: int) -> Iterator[None]:
    """canarywire's upstream."""
    with (folder / "capture.log").open("wb") as log:
        program = subprocess.Popen(
            [tool("canarywire"), "serve", "--listen", f"127.0.0.1:{port}"], cwd=folder, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, preexec_fn=end_with_parent,  # noqa: PLW1509 - set before exec
        )  # fmt: skip
    try:
        is_there = answers(port, "/_canarywire/health")
        for _ in range(200):
            if is_there():
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(0.1)
                break
        assert program.poll() is None, (folder / "capture.log").read_text()
        yield
    finally:
        program.terminate()
        program.wait(30)


def canarywire(place: Place, folder: Path, **config: Any) -> Ran:
    """A whole run of it, against our two chat protocols; ``config`` over that."""
    told = {
        "seed": 20261125,
        "capture": {"url": f"http://127.0.0.1:{place.upstream_port}"},
        "target": {
            "base_url": f"http://127.0.0.1:{place.keyed_port}",
            "duty": "mask-only",
            "routes": [
                {"protocol": "openai-chat", "path": "/v1/chat/completions"},
                {"protocol": "anthropic-messages", "path": "/v1/messages"},
            ],
        },
        **config,
    }
    (folder / "canarywire.yaml").write_text(yaml.safe_dump(told))
    with capturing(folder, place.upstream_port):
        return ran(folder, tool("canarywire"), "run", "--config", "canarywire.yaml", "--out", "out")


def leak_check(place: Place, folder: Path, model: str, profile: str) -> Ran:
    """``pii-leak-benchmark ci``: its control without a gateway first, then ours, with a summary for a pull request."""
    return ran(
        folder, tool("pii-leak-benchmark"), "ci", "--target-base-url", f"{place.stack.gateway}/v1",
        "--target-model", model, "--capture-port", str(place.upstream_port), "--profile", profile,
        "--duty", "anonymize", "--iterations", "3", "--out", "checked", CONFORMANCE_TARGET_API_KEY=place.token,
    )  # fmt: skip


def splits(place: Place, folder: Path, *options: str) -> Ran:
    """``pii-leak-benchmark-v2``: values that were never asked about come in the answer, whole and cut."""
    return ran(
        folder, TOOLS / "pii-leak-benchmark" / "bin" / "pii-leak-benchmark-v2", "--validate", *options,
        "--only", "affidavit", "--seed", "a1b2c3d4e5f60001", "--model", "demo",
        "--gateway-url", f"{place.stack.gateway}/v1/chat/completions", "--upstream-port", str(place.upstream_port),
        "--out", "out", "--json-out", "out/summary.json", CONFORMANCE_TARGET_API_KEY=place.token,
        V2_CLIENT_READ_TIMEOUT="60",
    )  # fmt: skip
