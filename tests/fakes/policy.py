"""`ports.Policy` without OPA, the real OPA, and an ordinary call to ask about."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ext_proc.errors import PolicyUnavailable
from ext_proc.model import (
    Action,
    Call,
    Connection,
    Decision,
    ExchangeId,
    Identity,
    Inspection,
    PolicyVersion,
    RedactionRule,
    Source,
)
from ext_proc.policy import bundle
from ext_proc.policy.question import question, write_asked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from ext_proc.errors import GateError

ROOT = Path(__file__).resolve().parent.parent.parent
AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MASK_ALL = (RedactionRule("*", Action.MASK),)
READY_SECONDS = 20.0


def a_call(
    *,
    model: str | None = "demo",
    groups: tuple[str, ...] = ("analysts",),
    operation: str = "chat",
    findings: Mapping[str, int] | None = None,
    parameters: Mapping[str, Any] | None = None,
    tags: tuple[str, ...] = (),
) -> Call:
    """A call that the default policy allows, unless told otherwise."""
    counted = {"media_count": 0, "message_count": 1, "tool_count": 0}
    return Call(
        exchange_id=ExchangeId("3f6f9f8c-8f0b-4b1e-9a56-0c8f4e6b7a10"),
        connection=Connection("demo", (), None, 1_000_000, 1_000_000, tags=tags),
        identity=Identity("https://idp.example.com", "ada", "oidc", groups),
        method="POST",
        path="/v1/chat/completions",
        body_bytes=120,
        inspection=Inspection(
            protocol="openai.chat",
            operation=operation,
            model=model,
            is_stream=False,
            parameters={**counted, **(parameters or {})},
            findings=findings or {},
            text_bytes=60,
        ),
        source=Source("10.0.0.1", "test"),
        received_at=AT,
    )


class FakePolicy:
    """Decides about models by group, and that is all. Set ``answer`` to have it say something else, ``error`` to fail.

    ``asked`` holds the calls it was asked about.
    """

    def __init__(self, allowed: Mapping[str, str] | None = None) -> None:
        self.allowed = dict(allowed or {"demo": "analysts"})
        self.version = PolicyVersion("sha256:" + "0" * 64, "0" * 64)
        self.asked: list[Call] = []
        self.answer: Callable[[Decision], Decision] = lambda decision: decision
        self.error: GateError | None = None

    async def decide(self, call: Call) -> Decision:
        """See `ports.Policy.decide`."""
        self.asked.append(call)
        if self.error is not None:
            raise self.error
        inspection = call.inspection
        reasons: list[str] = []
        if self.allowed.get(inspection.model or "") not in call.identity.groups:
            reasons.append("not_permitted")
        if any(entity.startswith("SECRET_") for entity in inspection.findings):
            reasons.append("secret_in_prompt")
        made = Decision(
            allow=not reasons,
            reasons=tuple(reasons),
            redact_request=MASK_ALL,
            redact_response=MASK_ALL,
            approval=None,
            record_payloads=True,
            decision_id=f"fake-{len(self.asked)}",
            policy=self.version,
        )
        made = self.answer(made)
        said = {
            "allow": made.allow,
            "reasons": list(made.reasons),
        }  # as much of the answer as anybody asks the fake for
        return replace(made, asked=write_asked(json.dumps(question(call), separators=(",", ":")), said))

    def deny(self, *reasons: str) -> None:
        """Deny everything from now on."""
        self.answer = lambda decision: replace(decision, allow=False, reasons=reasons)

    def fail(self) -> None:
        """Be unavailable from now on."""
        self.error = PolicyUnavailable("deadline")


def opa_program() -> Path:
    """The real OPA. Its absence is a failure, not a reason to test less.

    Raises:
        FileNotFoundError: `make setup` has not installed it.
    """
    path = ROOT / ".tools" / "bin" / "opa"
    if not path.exists():
        raise FileNotFoundError(f"{path}: run `make setup`")
    return path


@dataclass(frozen=True, slots=True)
class RealOpa:
    """A running OPA server with a bundle, inside ``with``. Ends with SIGTERM; ``kill`` does not ask."""

    process: subprocess.Popen[bytes]
    folder: Path
    socket: Path
    bundle: Path

    @classmethod
    def start(cls, sources: Path = ROOT / "opa", *, authorization: bool = True) -> RealOpa:
        """Build the bundle of ``sources`` and serve it on a Unix socket in a short path of its own.

        Raises:
            TimeoutError: it did not become healthy.
        """
        folder = Path(tempfile.mkdtemp(prefix="aff-opa-", dir="/tmp"))
        file, at = folder / "bundle.tar.gz", folder / "opa.sock"
        bundle.build(opa_program(), sources, file)
        command = [
            *(str(opa_program()), "run", "--server", "--addr", f"unix://{at}", "--unix-socket-perm", "600"),
            *("--skip-version-check", "--log-level", "error", "--bundle", str(file)),
            *(("--authorization", "basic") if authorization else ()),
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        running = cls(process, folder, at, file)
        deadline = time.monotonic() + READY_SECONDS
        while running.request("GET", "/health")[0] != 200:
            if time.monotonic() > deadline or process.poll() is not None:
                said = (folder / "log").read_text()
                running.stop()
                raise TimeoutError(said)
            time.sleep(0.02)
        return running

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One HTTP request over the socket; status 0 if nobody listens."""
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(5)
            connection.sock.connect(str(self.socket))
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; the folder goes too."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
