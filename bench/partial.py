"""A worker with some of its rooms empty: what each of them costs. For benches only: nothing here records anything.

``python -m bench.partial CONFIG SOCKET MODE``, of a running installation's configuration; the door and the driver are
the gate's own. MODE is

- ``pass``: everybody is let in and everything allowed; bodies go on as they came;
- ``auth``: tokens are verified, bodies read, and OPA asked; nothing is looked for in them;
- ``mask``: bodies are scanned and masked both ways, too.

What is left is the evidence: only the gate itself has that.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from ext_proc import protocols, telemetry
from ext_proc.app import registry
from ext_proc.app.exchange.content import ContentGate
from ext_proc.app.exchange.credentials import FileCredentials
from ext_proc.app.exchange.rule_packs import detector_of
from ext_proc.app.process import clock, end_with_parent
from ext_proc.app.serving.worker import _computing, _settle_memory
from ext_proc.audit.keys import read_key
from ext_proc.config import load
from ext_proc.identity.authenticator import Authenticator
from ext_proc.model import Decision, Identity, Inspection, PolicyVersion, Receipt, Redaction
from ext_proc.server.listener import Listener
from ext_proc.server.stream import Rooms

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ext_proc.config import Config
    from ext_proc.model import Call, Connection, Entry, ExchangeId, Headers, Presented, RedactionRule, Refusal
    from ext_proc.ports import AnswerStream

MODES: Final = ("pass", "auth", "mask")
_SOMEBODY: Final = Identity("bench", "somebody", "oidc", ("analysts",))
_ALLOWED: Final = Decision(
    allow=True,
    reasons=(),
    redact_request=(),
    redact_response=(),
    approval=None,
    record_payloads=True,
    decision_id="bench",
    policy=PolicyVersion("bench", "bench"),
)


class _Anybody:
    """`ports.Identities` that asks for nothing."""

    def recall(self, presented: Presented, connection: Connection, now: datetime) -> Identity:
        del presented, connection, now
        return _SOMEBODY

    async def authenticate(self, presented: Presented, connection: Connection, now: datetime) -> Identity:
        return self.recall(presented, connection, now)


class _Anything:
    """`ports.Policy` that allows everything and masks nothing."""

    async def decide(self, call: Call) -> Decision:
        del call
        return _ALLOWED


class _Nothing:
    """`ports.Recorder` that keeps nothing."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._sequence = 0

    def admit(self, size_bytes: int) -> None:
        pass

    def record(self, entry: Entry, now: datetime) -> asyncio.Future[Receipt]:
        del entry, now
        self._sequence += 1
        done: asyncio.Future[Receipt] = self._loop.create_future()
        done.set_result(Receipt("bench", self._sequence, ""))
        return done

    def ended(self, exchange_id: ExchangeId) -> None:
        pass


class _Unseen:
    """`ports.Content` that passes bodies as they are: unread, or only read."""

    def __init__(self, *, is_read: bool) -> None:
        self._is_read = is_read

    def inspect(self, connection: Connection, method: str, path: str, headers: Headers, body: bytes) -> Inspection:
        operation = protocols.operation_of(connection, method, path)
        told = Inspection(
            operation.protocol, "chat", None, is_stream=False, parameters={}, findings={}, text_bytes=0, document=body
        )
        if not self._is_read:
            return told
        document = protocols.read_request(operation.protocol, headers, body)
        return replace(
            told,
            operation=document.operation,
            model=document.model,
            is_stream=document.is_stream,
            parameters=document.parameters,
        )

    def wanted(self, inspection: Inspection, rules: Sequence[RedactionRule]) -> Any:
        raise NotImplementedError

    def redact_request(self, inspection: Inspection, rules: Sequence[RedactionRule]) -> Redaction:
        del rules
        return Redaction(inspection.document, inspection.document)

    def redact_response(
        self,
        inspection: Inspection,
        rules: Sequence[RedactionRule],
        status: int,
        headers: Headers,
        body: bytes,
        limit_bytes: int,
    ) -> Redaction:
        del inspection, rules, status, headers, limit_bytes
        return Redaction(body, body)

    def open_stream(
        self, inspection: Inspection, rules: Sequence[RedactionRule], headers: Headers, limit_bytes: int
    ) -> AnswerStream:
        raise NotImplementedError

    def refusal(self, connection: Connection | None, path: str, refusal: Refusal) -> tuple[str, bytes]:
        del connection, path
        return "text/plain", refusal.code.encode()


async def _serve(config: Config, socket: Path, mode: str) -> None:
    connections = registry.connections(config)
    authenticator = Authenticator(registry.trusts(config), registry.mtls(config))
    policy = registry.opa_policy(config)
    await policy.start()
    await authenticator.start()
    masking = ContentGate(read_key(config.redaction.hash_key_file), detector_of(config)) if mode == "mask" else None
    rooms = Rooms(
        identities=_Anybody() if mode == "pass" else authenticator,
        content=masking or _Unseen(is_read=mode == "auth"),
        policy=_Anything() if mode == "pass" else policy,
        recorder=_Nothing(),
        credentials=FileCredentials(),
        connections=lambda: connections,
        clock=clock,
        computing=_computing(is_waiting=False),
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    _settle_memory()
    await Listener(rooms, socket, registry.largest_body_bytes(config), leave_seconds=0).serve(stop, 1)
    await policy.close()
    await authenticator.close()


def main() -> int:
    """The command."""
    config, socket, mode = sys.argv[1:]
    if mode not in MODES:
        print(f"no such mode: {mode}; one of {', '.join(MODES)}", file=sys.stderr)
        return 2
    end_with_parent()
    telemetry.set_up_logging()
    uvloop.run(_serve(load(Path(config))[0], Path(socket), mode))
    return 0


if __name__ == "__main__":
    sys.exit(main())
