"""A log to test with: keys, entries, a writer on a small disk, and what is on that disk afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ext_proc.audit import frames
from ext_proc.audit.keys import KeyRing
from ext_proc.audit.seal import read_events
from ext_proc.audit.segments import FileOps
from ext_proc.audit.writer import WalLimits, Writer
from ext_proc.model import Entry, ExchangeId, Identity, Payload, Source

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.audit.store import Store

AT = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
ORIGIN = "audit.example/gw-0"
ADA = Identity("https://idp.example.com", "ada", "oidc", ("analysts",), client="notebook", tenant="acme", token_id="t1")
SOURCE = Source("10.0.0.7:41234", "curl/8")
LIMITS = WalLimits(segment_bytes=64 * 1024, max_bytes=4 * 1024 * 1024, emergency_bytes=64 * 1024, seal_seconds=60.0)


def a_keyring(folder: Path, key: bytes = b"k" * 32) -> KeyRing:
    """Keys with their registry in ``folder``."""
    return KeyRing(key, b"p" * 32, folder / "registry.sqlite")


def intent(number: int, body: bytes | None = b'{"model":"demo"}') -> Entry:
    """The intent of exchange ``number``; None: without a payload."""
    payloads = (Payload("request.raw", body, "application/json"),) if body is not None else ()
    facts: dict[str, Any] = {"request": {"connection": "demo", "body_bytes": len(body or b"")}}
    return Entry("inference.intent", ExchangeId(f"exchange-{number}"), ADA, SOURCE, facts, payloads)


def outcome(number: int, body: bytes | None = None) -> Entry:
    """The outcome of exchange ``number``."""
    payloads = (Payload("response.released", body, "application/json"),) if body is not None else ()
    facts = {"outcome": {"status": "completed", "http_status": 200}}
    return Entry("inference.outcome", ExchangeId(f"exchange-{number}"), ADA, SOURCE, facts, payloads)


async def a_writer(
    folder: Path, epoch: str = "e1", ops: FileOps | None = None, keyring: KeyRing | None = None, **limits: Any
) -> Writer:
    """A writer in ``folder / "evidence"``; ``limits`` change `LIMITS`."""
    return await Writer.open(
        folder / "evidence",
        origin=ORIGIN,
        epoch=epoch,
        keyring=keyring or a_keyring(folder),
        opening={"version": "test"},
        limits=replace(LIMITS, **limits),
        now=AT,
        ops=ops or FileOps(),
    )


def files(folder: Path) -> list[str]:
    """What is in an epoch's folder."""
    return sorted(path.name for path in folder.iterdir())


def on_disk(folder: Path) -> list[dict[str, Any]]:
    """Every leaf that checks in an epoch's segments, in the order of the files."""
    paths = sorted([*folder.glob("*.sealed"), *folder.glob("*.wal")])
    found = [frame for path in paths for frame in frames.scan(path.read_bytes()).frames]
    return [json.loads(frame.leaf) for frame in found if frame.type == frames.LEAF]


def in_store(store: Store) -> list[dict[str, Any]]:
    """Every leaf in the store, in the order of the keys."""
    return [json.loads(line) for key in store.keys("v1/events/") for line in read_events(store.fetch(key))]


def told(leaves: list[dict[str, Any]]) -> list[str]:
    """Leaves in short."""
    return [
        " ".join(
            str(part)
            for part in (
                leaf["sequence"],
                leaf["kind"].removeprefix("inference."),
                leaf.get("exchange_id", "").removeprefix("exchange-"),
                (leaf.get("outcome") or {}).get("status", ""),
            )
            if part != ""
        )
        for leaf in leaves
    ]
